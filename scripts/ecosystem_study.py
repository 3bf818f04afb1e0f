"""A run in other people's tools, checked by those tools: MONAI without medgan, onnxruntime, torch, nnU-Net v2.

    python3 scripts/ecosystem_study.py runs/demo FOLDER         environments and exports go to FOLDER
    python3 scripts/ecosystem_study.py runs/demo FOLDER --page  and docs/results/ecosystem.md and .json

FOLDER/monai and FOLDER/nnunet are made as virtual environments where they are missing; medgan is in neither. About two
minutes on two cores once they stand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch

from medgan.data.volume import read_volume
from medgan.experiment import run_experiment
from medgan.export import export_model
from medgan.export.nnunet import export_nnunet
from medgan.export.programs import ProgramFormat
from medgan.export.trained import load_trained
from medgan.preprocess import prepare_input
from medgan.rundir import Direction, RunDir
from medgan.translate import translate

PAGE = Path("docs/results/ecosystem.md")
CONFIGS = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json")
DATASET = 501
_SIZES = ((32, 32, 24), (48, 40, 16))


def main() -> int:
    """Export, check with the others' tools, print what came out; returns an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    run, folder = RunDir(given.run), given.folder.resolve()
    exports = folder / "exports"
    shutil.rmtree(exports, ignore_errors=True)
    exports.mkdir(parents=True)
    told = {
        "run": run.path.name,
        "packages": {name: version(name) for name in ("medgan", "torch", "monai", "numpy", "onnx", "onnxruntime")},
        "bundle": check_bundle(run, folder, exports),
        "programs": [check_program(run, exports, kind) for kind in ("onnx", "torchscript", "torch_export")],
        "nnunet": check_nnunet(run, folder, exports),
    }
    print(json.dumps(told, indent=2))
    if given.page:
        PAGE.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text("\n".join(page(told)) + "\n", encoding="utf-8")
    return 0 if is_sound(told) else 1


def check_bundle(run: RunDir, folder: Path, exports: Path) -> dict[str, Any]:
    """MONAI's own commands on the bundle where medgan is not installed, and its volumes beside `medgan translate`'s."""
    study = run_experiment(run)
    bundle = export_model(
        run,
        exports / "bundle",
        kind="bundle",
        options=study.export,
        translating=study.translate,
        classes=study.cases.classes,
    )
    python = environment(folder / "monai", ["-r", str(bundle / "docs" / "requirements.txt")])
    told: dict[str, Any] = {
        "packages": packages(python, ("monai", "torch", "nibabel", "pytorch-ignite", "safetensors")),
        "medgan_is_there": has_medgan(python),
        "modules": len(list((bundle / "scripts" / "medgan").rglob("*.py"))),
        "kilobytes": round(sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 1000),
        "verify_metadata": succeeds(
            monai(python, "verify_metadata", *CONFIGS[:2], "--filepath", "docs/metadata.schema.json"), bundle
        ),
        "verify_net_in_out": succeeds(monai(python, "verify_net_in_out", "network_def", *CONFIGS), bundle),
        "volumes": [],
    }
    for way in load_trained(run, study.translate.checkpoint).generators:
        inputs = held_out(run, way)
        theirs, ours = exports / "by_monai" / way, exports / "by_medgan" / way
        listed = json.dumps([str(path) for path in inputs])
        command = monai(python, "run", *CONFIGS[2:], "--dataset_dir", listed, "--output_dir", str(theirs))
        told[f"run_{way}"] = succeeds([*command, "--direction", way], bundle)
        translate(run, inputs, ours, direction=way, options=study.translate, device="cpu")
        told["volumes"] += [compared(theirs / path.name, ours / path.name, way) for path in inputs]
    return told


def compared(theirs: Path, ours: Path, way: Direction) -> dict[str, Any]:
    """How far two translations of a volume lie apart, in stored units; labels in share of voxels that differ."""
    a, b = read_volume(theirs), read_volume(ours)
    gap = a.array.astype(np.float64) - b.array.astype(np.float64)
    segmentation = f"{ours.name.removesuffix('.nii.gz')}_segmentation.nii.gz"
    labels = [read_volume(path.with_name(segmentation)).array for path in (theirs, ours)]
    return {
        "direction": way,
        "rms": float(np.sqrt(np.mean(gap**2))),
        "largest": float(np.abs(gap).max()),
        "labels_differ": float((labels[0] != labels[1]).mean()),
        "same_header": bool(nib.load(theirs).header == nib.load(ours).header),
    }


def check_program(run: RunDir, exports: Path, kind: ProgramFormat) -> dict[str, Any]:
    """Largest difference, of networks' outputs, between a program and torch: on prepared volumes and on noise."""
    trained = load_trained(run, run_experiment(run).translate.checkpoint)
    folder = export_model(run, exports / kind, kind=kind)
    networks: dict[str, torch.nn.Module] = {str(way): network for way, network in trained.generators.items()}
    networks |= {f"segmentor_{side}": network for side, network in trained.segmentors.items()}
    told: dict[str, Any] = {"format": kind, "largest": {}}
    for name, network in networks.items():
        side = name[-1] if name.startswith("segmentor") else name[0]
        volume = read_volume(held_out(run, "AB" if side == "A" else "BA")[0])
        prepared, _ = prepare_input(volume, trained.domains[side])
        image = torch.from_numpy(prepared.image)[None, None]
        images = [image[..., : x // 8 * 8, : y // 8 * 8, : z // 8 * 8] for x, y, z in [image.shape[2:]]]
        noise = torch.Generator().manual_seed(0)
        images += [torch.rand(1, 1, *size, generator=noise) * 2 - 1 for size in _SIZES]
        with torch.no_grad():
            gaps = [(answer(kind, folder, name, one) - network(one)).abs().max() for one in images]
        told["largest"][name] = float(max(gaps))
    return told


def answer(kind: ProgramFormat, folder: Path, name: str, image: torch.Tensor) -> torch.Tensor:
    """What an exported program makes of an image."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    if kind == "torchscript":
        return cast(torch.Tensor, torch.jit.load(folder / f"{name}.ts")(image))  # type: ignore[no-untyped-call]
    return cast(torch.Tensor, torch.export.load(folder / f"{name}.pt2").module()(image))


def check_nnunet(run: RunDir, folder: Path, exports: Path) -> dict[str, Any]:
    """nnU-Net's own check of a dataset of translations mixed with real images."""
    from medgan.data.cases import load_cases

    study = run_experiment(run)
    raw = exports / "nnUNet_raw"
    dataset = export_nnunet(
        run,
        raw,
        load_cases(study.cases, Path()),
        dataset=DATASET,
        with_real=True,
        direction="AB",
        options=study.export,
        translating=study.translate,
        classes=study.cases.classes,
        device="cpu",
    )
    python = environment(folder / "nnunet", ["nnunetv2"])
    places = {"nnUNet_raw": raw, "nnUNet_preprocessed": exports / "nnunet", "nnUNet_results": exports / "nnunet"}
    command = [
        "nnUNetv2_plan_and_preprocess",
        "-d",
        str(DATASET),
        "--verify_dataset_integrity",
        "--no_pp",
        "-npfp",
        "1",
    ]
    command[0] = str(python.with_name(command[0]))
    return {
        "packages": packages(python, ("nnunetv2", "torch")),
        "dataset": dataset.name,
        "files": {part: len(list((dataset / part).glob("*.nii.gz"))) for part in ("imagesTr", "labelsTr", "imagesTs")},
        "verify_dataset_integrity": succeeds(command, raw, {name: str(path) for name, path in places.items()}),
    }


def held_out(run: RunDir, way: Direction) -> list[Path]:
    """The sources of a direction's held-out cases."""
    from medgan.data.cases import load_cases

    cases = load_cases(run_experiment(run).cases, Path())
    return [case.image.resolve() for case in cases if case.domain == way[0] and case.split == "test"]


def environment(place: Path, packages: list[str]) -> Path:
    """The Python of a virtual environment, made with torch for CPUs and these packages where it is missing."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        kept = place / "constraints.txt"
        kept.write_text(f"torch=={version('torch')}\n", encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "-q", "-c", str(kept)]
        subprocess.run([*install, "torch"], check=True)
        subprocess.run([*install, *packages], check=True)
    return python


def packages(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The versions of these in an environment."""
    code = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {names}}}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, env=_alone())
    return cast(dict[str, str], json.loads(done.stdout))


def has_medgan(python: Path) -> bool:
    """Whether medgan is installed in an environment."""
    code = "from importlib.util import find_spec; print(find_spec('medgan') is not None)"
    done = subprocess.run([str(python), "-c", code], cwd="/", capture_output=True, text=True, check=True, env=_alone())
    return done.stdout.strip() == "True"


def monai(python: Path, command: str, *arguments: str) -> list[str]:
    """A command of MONAI's for bundles."""
    return [str(python), "-m", "monai.bundle", command, *arguments]


def succeeds(command: list[str], folder: Path, more: dict[str, str] | None = None) -> bool:
    """Whether a command leaves with 0; what it said otherwise goes to stderr."""
    done = subprocess.run(command, cwd=folder, env=_alone(more), capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
    return done.returncode == 0


def _alone(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment's variables, without a way to medgan's sources."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **(more or {})}


def is_sound(told: dict[str, Any]) -> bool:
    """Whether everything came out as it should."""
    bundle = told["bundle"]
    ran = all(value for name, value in bundle.items() if name.startswith(("verify", "run")))
    near = all(volume["rms"] <= 1.0 for volume in bundle["volumes"] if volume["direction"] == "BA")
    programs = all(gap <= 1e-3 for program in told["programs"] for gap in program["largest"].values())
    return ran and near and programs and not bundle["medgan_is_there"] and told["nnunet"]["verify_dataset_integrity"]


def page(told: dict[str, Any]) -> list[str]:
    """The results as Markdown."""
    bundle, nnunet = told["bundle"], told["nnunet"]
    lines = [
        "# In other people's tools",
        "",
        f"`python3 scripts/ecosystem_study.py runs/{told['run']} FOLDER --page`: the networks of the demo "
        "([demo.md](demo.md)), exported and then checked by the tools themselves, each in an environment of its own.",
        f"Numbers in full: `ecosystem.json`. medgan {told['packages']['medgan']}, torch {told['packages']['torch']}.",
        "",
        "## MONAI, without medgan",
        "",
        f"The environment holds {_versions(bundle['packages'])}.",
        f"`import medgan` {_works(bundle['medgan_is_there'])} there.",
        f"The bundle brings {bundle['modules']} files of medgan's own code; {bundle['kilobytes']} kB in all.",
        "",
        "| command | outcome |",
        "|---|---|",
        *(
            f"| `python -m monai.bundle {name}` | {_works(bundle[name])} |"
            for name in bundle
            if name.startswith("verify")
        ),
        *(
            f"| `python -m monai.bundle run ... --direction {name[4:]}` | {_works(bundle[name])} |"
            for name in bundle
            if name.startswith("run_")
        ),
        "",
        "`verify_metadata` was given `--filepath docs/metadata.schema.json`, the schema that the bundle carries, which",
        "was written after MONAI's bundle specification. The schema that MONAI publishes, to which the key `schema`",
        "points, is fetched over the network where none is given; against that one it was not checked.",
        "",
        "| held-out volumes | RMS difference to `medgan translate` | largest | labels that differ | headers |",
        "|---|---:|---:|---:|---|",
    ]
    for way, unit in (("BA", "HU"), ("AB", "stored units")):
        volumes = [volume for volume in bundle["volumes"] if volume["direction"] == way]
        if volumes:
            rms, largest = max(volume["rms"] for volume in volumes), max(volume["largest"] for volume in volumes)
            labels = max(volume["labels_differ"] for volume in volumes)
            same = "the same" if all(volume["same_header"] for volume in volumes) else "DIFFER"
            lines.append(f"| {way}, {len(volumes)} | {rms:.3g} {unit} | {largest:.3g} {unit} | {labels:.3g} | {same} |")
    lines += [
        "",
        "## Programs",
        "",
        "Largest difference to the network in torch, whose outputs lie in [-1, 1] (segmentors: logits), over a",
        "prepared held-out volume and noise of two other sizes.",
        "",
        "| format | " + " | ".join(told["programs"][0]["largest"]) + " |",
        "|---" + "|---:" * len(told["programs"][0]["largest"]) + "|",
        *(
            f"| {program['format']} | " + " | ".join(f"{gap:.1e}" for gap in program["largest"].values()) + " |"
            for program in told["programs"]
        ),
        "",
        "## nnU-Net",
        "",
        f"`{nnunet['dataset']}`: translations with the labels of their sources, and real images: "
        + ", ".join(f"{count} in `{part}`" for part, count in nnunet["files"].items())
        + f". `nnUNetv2_plan_and_preprocess -d {DATASET} --verify_dataset_integrity`, "
        f"{_versions(nnunet['packages'])}: "
        f"{_works(nnunet['verify_dataset_integrity'])}.",
    ]
    return lines


def _works(is_so: bool) -> str:
    return "works" if is_so else "fails"


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


if __name__ == "__main__":
    raise SystemExit(main())
