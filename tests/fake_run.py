"""A small run made by hand, as the verbs would have left it: what `evaluate` and `report` read."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml
from PIL import Image

SHAPE = (24, 20, 12)
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
CLASSES = {0: "background", 1: "muscle", 2: "bone"}


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def anatomy(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, CT in HU and MR of one body: a cylinder of muscle around a bone."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = ((x - 12) ** 2 + (y - 10) ** 2 <= 64 + seed).astype(np.uint8)
    labels[(x - 12) ** 2 + (y - 10) ** 2 <= 6] = 2
    ct = np.choose(labels, [-1000, 50, 800]) + rng.normal(0, 5, SHAPE)
    mr = np.choose(labels, [0, 400, 100]) + rng.normal(0, 5, SHAPE).clip(-15, 15)
    return labels, ct.astype(np.int16), mr.astype(np.float32)


def make_run(root: Path, *, paired: bool = True, error_hu: float = 20.0, train_pairs: bool = False) -> Path:
    """A run over two test patients: MR to CT `error_hu` too dense everywhere, with truth or without."""
    run, data = root / "run", root / "data"
    stored, rows = [], []
    for seed, subject in enumerate(("one", "two")):
        labels, ct, mr = anatomy(seed)
        image = save(data / subject / "mr.nii.gz", mr)
        label = save(data / subject / "labels.nii.gz", labels)
        truth = save(data / subject / "ct.nii.gz", ct)
        folder = run / "translate" / "BA"
        save(folder / f"{subject}.nii.gz", (ct + error_hu).astype(np.int16))
        save(folder / f"{subject}_segmentation.nii.gz", labels)

        def told(path: Path, folder: Path = folder) -> str:
            return os.path.relpath(path, folder)

        row = {"subject": subject, "split": "test", "source": told(image), "label": told(label)}
        row |= {"translation": f"{subject}.nii.gz", "segmentation": f"{subject}_segmentation.nii.gz"}
        row |= {"reference": told(truth) if paired else None, "reference_label": None}
        rows.append(row)
        stored.append({"subject": subject, "domain": "B", "split": "test", "folder": f"B/{subject}"})
    if train_pairs:
        _, ct, mr = anatomy(7)
        for domain, array in (("A", ct), ("B", mr)):
            image = save(data / "three" / f"{domain}.nii.gz", array)
            row = {"subject": "three", "domain": domain, "split": "train", "folder": f"{domain}/three"}
            stored.append(row | {"original": os.path.relpath(image, run / "preprocess")})
    (run / "translate" / "BA" / "cases.json").write_text(json.dumps(rows))
    store = run / "preprocess"
    store.mkdir(parents=True, exist_ok=True)
    (store / "cases.json").write_text(json.dumps(stored))
    window = {"name": "hounsfield_window", "low_hu": -1000, "high_hu": 1500}
    domains = {
        "A": {"name": "CT", "modality": "ct", "body_threshold": -300, "intensity": window},
        "B": {
            "name": "MR",
            "modality": "mr",
            "body_threshold": 60,
            "intensity": {"name": "fixed_range", "low": 0, "high": 500},
        },
    }
    (store / "domains.json").write_text(json.dumps(domains))
    settings = {"name": "A small study", "data": {"classes": CLASSES}, "recipe": {"name": "seg_cyclegan"}}
    (run / "experiment.yaml").write_text(yaml.safe_dump(settings))
    return run


def add_training(run: Path) -> None:
    """Losses, a preview and the environment of a training."""
    (run / "train" / "previews").mkdir(parents=True)
    lines = [
        {"step": step, "G/adv_B": 1 / step, "G/cycle_A": 3 / step, "D/B": 0.5, "S/dice_A": 1 - step / 200}
        for step in range(1, 200, 2)
    ]
    (run / "train" / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 20')
    (run / "train" / "validation.jsonl").write_text('{"step": 100, "score": 0.5}\n{"step": 200, "score": 0.7}\n')
    for step in (100, 200):
        Image.fromarray(np.zeros((30, 60), dtype=np.uint8)).save(run / "train" / "previews" / f"{step:07d}.png")
    (run / "train" / "previews" / "columns.json").write_text('["real_A", "fake_B"]')
    facts = {"python": "3.12", "packages": {"medgan": "0.1.0"}, "seed": 3, "command": "medgan train <x> runs/x"}
    (run / "environment.json").write_text(json.dumps(facts))
