"""The trainings that `kill_study.py` kills: tiny networks, a few steps, and everything that a run can leave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

MAIN = "seg_cyclegan"
SEED = 0
SHAPE = (16, 16, 12)
STEPS = {"num_steps": 6, "checkpoint_every": 2, "validate_every": 3, "preview_every": 6, "log_every": 3}
TINY = {"precision": "float32", "validation_patches": 1}
NETS = {
    "generator_net": {"name": "unet", "channels": 8, "levels": 1},
    "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
}
SEGMENTOR = {"segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}}
NOISE = {"generator_net": {"name": "dcgan", "channels": 4}, "latent_dim": 3}
CRITIC = {"discriminator_net": {"name": "dcgan", "channels": 4, "norm": "none"}}
DIGITS = {"name": "digits"}
SLICES = {"name": "phantom_slices", "size": 8, "A": "mr", "B": "ct", "bodies": 2, "held_out_bodies": 1, "slices": 4}
FILMS = {"name": "phantom_films", "size": 8, "frames": 4, "bodies": 2, "held_out_bodies": 1}
FAMILY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # the options of each other recipe, and its data
    "density_network": (NOISE, DIGITS),
    "gan": (NOISE | CRITIC | {"pool_size": 3}, DIGITS),
    "cgan": (NOISE | CRITIC, DIGITS),
    "dcgan": (NOISE | CRITIC, DIGITS),
    "wgan": (NOISE | CRITIC | {"critic_steps": 2}, DIGITS),
    "wgan_gp": (NOISE | CRITIC | {"critic_steps": 2}, DIGITS),
    "sngan": (NOISE | CRITIC, DIGITS),
    "stylegan2": ({"channels": 4, "max_channels": 8, "latent_dim": 4, "mapping_layers": 2, "augment_ramp": 16}, DIGITS),
    "srgan": (
        {
            "scale": 2,
            "enlarger_net": {"name": "srresnet", "features": 4, "blocks": 1},
            "critic_net": {"name": "srgan", "features": 4, "levels": 1, "hidden": 4},
        },
        DIGITS,
    ),
    "pix2pix": (NETS, SLICES),
    "cyclegan": (NETS | {"pool_size": 3}, SLICES),
    "conditional_cyclegan": (NETS | {"pool_size": 3}, SLICES | {"B": ["ct", "t2"]}),
    "segmentation": (SEGMENTOR | {"num_classes": 8}, SLICES),
    "cut": (NETS | {"places": 16, "features": 8}, SLICES),
    "dvdgan": (
        {
            "generator_net": {"name": "films", "channels": 4, "max_channels": 4},
            "spatial_net": {"name": "spectral", "channels": 4, "max_channels": 4},
            "temporal_net": {"name": "spectral", "channels": 4, "max_channels": 4},
            "latent_dim": 4,
            "judged_frames": 2,
        },
        FILMS,
    ),
}
NETWORKS = NETS | SEGMENTOR | {"num_classes": 8, "pool_size": 3, "seg_start": 0.1, "seg_fakes_start": 0.3}


def fit(recipe: str, run: Path) -> None:
    """Train in this process."""
    import torch

    from medgan.config import Component
    from medgan.experiment import Experiment
    from medgan.rundir import RunDir
    from medgan.train import TrainOptions, train

    torch.set_num_threads(1)
    if recipe == MAIN:
        choice, samples = Component.model_validate({"name": recipe, **NETWORKS}), None
        options = TrainOptions.model_validate({**TINY, **STEPS, "patch_size": [8, 8, 8]})
    else:
        network, data = FAMILY[recipe]
        sizes = {**TINY, **STEPS, "batch_size": 4}
        study = Experiment.model_validate({"recipe": {"name": recipe, **network}, "data": data, "train": sizes})
        choice, options, samples = study.recipe, study.train, study.samples
    train(choice, options, RunDir(run), seed=SEED, device="cpu", samples=samples)


def prepare(store: Path) -> None:
    """Two bodies to learn from and one to look at, per domain."""
    import numpy as np

    from medgan.data.phantom import make_phantom
    from medgan.data.store import StoredCase, write_case, write_index

    cases = []
    for index, (domain, split) in enumerate((d, s) for d in "AB" for s in ("train", "train", "validation")):
        body = make_phantom(index, shape=SHAPE)
        image = np.clip(body.ct / 1000, -1, 1) if domain == "A" else np.clip(body.mr / 600 - 1, -1, 1)
        place = store / domain / f"case{index}"
        meta = {"affine": body.affine.tolist(), "spacing_mm": [4.0, 4.0, 6.0]}
        write_case(place, image=image, label=body.labels, body=body.labels > 0, meta=meta)
        cases.append(StoredCase(f"case{index}", domain, split, place))
    write_index(store, cases, {"A": {"name": "CT"}, "B": {"name": "MR"}})


def start_anew(run: Path, folder: Path, recipe: str) -> None:
    """A run before its training."""
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    if recipe == MAIN:
        shutil.copytree(folder / "store", run / "preprocess")
