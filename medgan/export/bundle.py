"""A run as a MONAI bundle: what MONAI's command line, MONAI Label and MONAI Deploy open.

The bundle carries its weights as safetensors and, in ``scripts/``, the modules of medgan that translate, so that it
gives what `medgan translate` gives where medgan is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medgan.config import InputError
from medgan.export.card import model_card
from medgan.export.definition import PACKAGE, definition, modules_of
from medgan.export.metadata import metadata, schema
from medgan.export.options import ExportOptions
from medgan.export.parts import copied_modules, packages_of
from medgan.export.trained import Trained
from medgan.rundir import Direction
from medgan.translate import TranslateOptions

_COMPONENTS = "medgan.export.components"
_NAMES = ("VolumeInferer", "VolumeReader", "WriteVolumed", "load_weights", "volumes_of")
_KEPT = {"segmentation", "mask_background", "memory_gb", "window", "precision"}
_LOGGING = """[loggers]
keys=root

[handlers]
keys=console

[formatters]
keys=plain

[logger_root]
level=INFO
handlers=console

[handler_console]
class=StreamHandler
level=INFO
formatter=plain
args=(sys.stdout,)

[formatter_plain]
format=%(asctime)s %(levelname)s %(name)s: %(message)s
"""


def write_bundle(
    trained: Trained,
    folder: Path,
    direction: Direction,
    options: ExportOptions,
    translating: TranslateOptions,
    classes: Mapping[int, str],
) -> None:
    """Write the bundle into an empty folder.

    Args:
        trained: what the run has learnt.
        folder: empty.
        direction: of the bundle's ``network_def``; ``--direction`` of MONAI's command line chooses the other.
        options: what its authors say of it.
        translating: as the run translates.
        classes: of the segmentors.

    Raises:
        InputError: one of the networks is not medgan's own.
    """
    config = inference(trained, direction, translating)
    networks = [*config["networks"].values(), *config["segmentors"].values()]
    modules = [_COMPONENTS, *(name for network in networks for name in modules_of(network))]
    sources = copied_modules(modules)
    for name, source in sources.items():
        _write(folder / PACKAGE / name, source)
    imports = ",\n    ".join(_NAMES)
    _write(
        folder / PACKAGE / "__init__.py",
        '"""The modules of medgan that translate, unchanged but for how they import each other."""\n\n'
        f"from .{_COMPONENTS} import (\n    {imports},\n)\n\n__all__ = {list(_NAMES)!r}\n",
    )
    told = metadata(trained, direction, options, classes, packages_of(sources.values()))
    _write_json(folder / "configs" / "inference.json", config)
    _write_json(folder / "configs" / "metadata.json", told)
    _write(folder / "configs" / "logging.conf", _LOGGING)
    _write_json(folder / "docs" / "metadata.schema.json", schema())
    _write(folder / "docs" / "README.md", model_card(trained, options, classes, _use(trained, direction)))
    _write(folder / "docs" / "requirements.txt", _requirements(told))
    _write(
        folder / "LICENSE",
        f"Weights: {options.license}\nCode in scripts/: Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0\n",
    )
    _write_weights(trained, folder / "models", direction)


def inference(trained: Trained, direction: Direction, translating: TranslateOptions) -> dict[str, Any]:
    """The content of ``inference.json``: MONAI's workflow from a folder of volumes to a folder of translations.

    Raises:
        InputError: one of the networks is not medgan's own.
    """
    ways = {way: definition(network) for way, network in trained.generators.items()}
    readers = {side: definition(network) for side, network in trained.segmentors.items()}
    weights = "@bundle_root + '/models/model.safetensors'"
    reads = f"{bool(readers) and translating.segmentation} and @target in @segmentor_names"
    return {
        "imports": ["$import torch", f"$import {PACKAGE}"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "direction": direction,
        "source": "$@direction[0]",
        "target": "$@direction[1]",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "domains": {side: domain.model_dump(mode="json") for side, domain in trained.domains.items()},
        "translating": translating.model_dump(mode="json", include=_KEPT),
        "networks": ways,
        "segmentors": readers,
        "segmentor_names": list(readers),
        "network_def": _chosen("networks", "direction", list(ways)),
        "network": f"${PACKAGE}.load_weights(@network_def, {weights}, @direction, @device)",
        "segmentor_def": _chosen("segmentors", "target", list(readers)) if readers else None,
        "segmentor": (
            f"${PACKAGE}.load_weights(@segmentor_def, {weights}, @target, @device) if {reads} else None"
            if readers
            else None
        ),
        "datalist": f"${PACKAGE}.volumes_of(@dataset_dir, @output_dir)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": f"${PACKAGE}.VolumeReader()",
                    "image_only": True,
                    "ensure_channel_first": True,
                }
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": f"{PACKAGE}.VolumeInferer",
            "source": "$@domains[@source]",
            "target": "$@domains[@target]",
            "patch_size": None if trained.patch_size is None else list(trained.patch_size),
            "options": "@translating",
            "segmentor": "@segmentor",
            "device": "@device",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": f"{PACKAGE}.WriteVolumed",
                    "keys": "pred",
                    "modality": "$@domains[@target]['modality']",
                    "segmentation": "$@segmentor is not None",
                }
            ],
        },
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def _chosen(table: str, key: str, names: list[str]) -> str:
    """An expression for the entry of a table that a key of the configuration names; only that one is made."""
    *others, last = names
    return "$" + "".join(f"@{table}::{name} if @{key} == '{name}' else " for name in others) + f"@{table}::{last}"


def _write_weights(trained: Trained, folder: Path, direction: Direction) -> None:
    """All networks in one file, and the one of `direction` as the state dictionary that MONAI's own tools look for."""
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise InputError("export: a bundle needs safetensors; pip install 'medgan[export]'") from None
    parts: dict[str, nn.Module] = dict(trained.segmentors)
    parts.update({str(way): network for way, network in trained.generators.items()})
    weights = {f"{part}.{name}": value for part, network in parts.items() for name, value in _state(network).items()}
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    torch.save(_state(trained.generators[direction]), folder / "model.pt")


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def _use(trained: Trained, direction: Direction) -> str:
    other = [way for way in trained.generators if way != direction]
    more = f" `--direction {other[0]}` goes the other way." if other else ""
    return f"""
## Use

A MONAI bundle. It needs what `docs/requirements.txt` lists, and not medgan: the modules of medgan that translate lie in
`scripts/`. In this folder:

```bash
pip install -r docs/requirements.txt
python -m monai.bundle run --config_file configs/inference.json --dataset_dir FOLDER --output_dir OUT
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath docs/metadata.schema.json
python -m monai.bundle verify_net_in_out network_def --meta_file configs/metadata.json \\
    --config_file configs/inference.json
```

`FOLDER` is a volume (NIfTI, NRRD, MetaImage), a folder of them, or a folder with one DICOM series. Each leaves
`OUT/<name>.nii.gz` on its own grid and, where there is a segmentor, `OUT/<name>_segmentation.nii.gz`.
The direction is {direction}.{more} Nothing that stands is written over.
`models/model.safetensors` holds all networks, `models/model.pt` the state dictionary of {direction} alone. Preparation
and norms look at whole volumes: give whole volumes, not patches of them.
"""


def _requirements(told: Mapping[str, Any]) -> str:
    lines = [f"torch>={told['pytorch_version']}", f"monai>={told['monai_version']}"]
    return "".join(
        f"{line}\n" for line in [*lines, *(f"{name}>={low}" for name, low in told["required_packages_version"].items())]
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
