"""``metadata.json`` of a MONAI bundle, and a JSON Schema of it that needs no network.

MONAI, "MONAI Bundle Specification", https://docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from medgan.export.options import ExportOptions
from medgan.export.trained import Trained
from medgan.rundir import Direction

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_OF_MONAI = {"pytorch-ignite": "0.5.1", "fire": "0.7.0", "jsonschema": "4.20.0"}  # by its command line and workflows
_TOLD_APART = ("torch", "monai", "numpy", "pydantic_core")  # the last comes with pydantic
_FORMATS = {"ct": "hounsfield", "mr": "magnitude"}


def metadata(
    trained: Trained,
    direction: Direction,
    options: ExportOptions,
    classes: Mapping[int, str],
    packages: Sequence[str],
) -> dict[str, Any]:
    """The content of ``metadata.json``; `direction` is that of its network, `packages` what its code imports."""
    source, target = (trained.domains[side] for side in direction)
    ways = " and ".join(
        f"{trained.domains[way[0]].name} to {trained.domains[way[1]].name}" for way in trained.generators
    )
    patch = list(trained.patch_size or (32, 32, 32))
    return {
        "schema": SCHEMA_URL,
        "version": options.version,
        "changelog": {options.version: "exported by medgan"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in packages if name not in _TOLD_APART} | _OF_MONAI,
        "supported_apps": {},
        "name": f"medgan {ways}",
        "task": f"Translation of 3D volumes: {ways}",
        "description": (
            f"A volume of one modality as one of the other, on its own grid, by the recipe {trained.recipe}; and what "
            "a segmentor reads off the translation, where one was trained."
        ),
        "authors": options.authors,
        "copyright": options.license,
        "data_source": options.data_source,
        "data_type": "nifti or dicom",
        "image_classes": f"one channel, {_units(source.modality)}, prepared to [-1, 1]",
        "label_classes": ", ".join(f"{value} {name}" for value, name in classes.items()) or "none",
        "pred_classes": f"one channel in [-1, 1], written as {_units(target.modality)}",
        "eval_metrics": figures(trained, direction),
        "intended_use": options.intended_use,
        "references": [
            'Zhang, Yang and Zheng, "Translating and Segmenting Multimodal Medical Volumes with Cycle- and '
            'Shape-Consistency Generative Adversarial Network", 2018, arXiv:1802.09655'
        ],
        "network_data_format": {
            "inputs": {"image": _tensor(source.modality, patch, "image")},
            "outputs": {"pred": _tensor(target.modality, patch, "translation")},
        },
    }


def figures(trained: Trained, direction: Direction) -> dict[str, float]:
    """Means over the held-out cases, where `medgan evaluate` has measured them: mae, psnr, ssim, dice."""
    methods = trained.summary.get("directions", {}).get(direction, {}).get("methods", {})
    scores = methods.get("translation", {})
    means = {name: scores.get(name, {}).get("mean") for name in ("mae", "psnr", "ssim", "dice")}
    return {name: round(float(mean), 4) for name, mean in means.items() if mean is not None}


def _units(modality: str) -> str:
    return "HU" if modality == "ct" else "stored units"


def _tensor(modality: str, patch: list[int], channel: str) -> dict[str, Any]:
    return {
        "type": "image",
        "format": _FORMATS.get(modality, "magnitude"),
        "modality": modality.upper() if modality in _FORMATS else "n/a",
        "num_channels": 1,
        "spatial_shape": patch,
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": True,
        "channel_def": {"0": channel},
    }


def schema() -> dict[str, Any]:
    """A JSON Schema of ``metadata.json``, by MONAI's specification: its mandatory keys, their types, tensor formats."""
    text, versions = {"type": "string", "minLength": 1}, {"type": "string", "pattern": r"^\d+(\.\w+)*"}
    named = {"type": "object", "additionalProperties": {"type": "string"}}
    size = {"type": ["integer", "string"], "minimum": 1, "pattern": r"^(\*|[0-9pn *+]+)$"}
    tensor = {
        "type": "object",
        "required": [
            *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range"),
            *("is_patch_data", "channel_def"),
        ],
        "properties": {
            "type": {"enum": ["image", "series", "tuples", "probabilities"]},
            "format": text,
            "modality": text,
            "num_channels": {"type": "integer", "minimum": 1},
            "spatial_shape": {"type": "array", "items": size, "minItems": 1},
            "dtype": {"enum": ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64"]},
            "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
            "is_patch_data": {"type": "boolean"},
            "channel_def": named,
        },
    }
    tensors = {"type": "object", "additionalProperties": tensor, "minProperties": 1}
    mandatory: dict[str, Any] = {
        "version": versions,
        "monai_version": versions,
        "pytorch_version": versions,
        "numpy_version": versions,
        "required_packages_version": named,
        "task": text,
        "description": text,
        "authors": text,
        "copyright": text,
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": tensors, "outputs": tensors},
        },
    }
    optional = {
        **{"schema": {"type": "string", "format": "uri"}, "changelog": named},
        **{"intended_use": text, "data_source": text, "data_type": text, "eval_metrics": {"type": "object"}},
        **{"references": {"type": "array", "items": text}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "metadata.json of a MONAI bundle, after the MONAI Bundle Specification",
        "type": "object",
        "required": list(mandatory),
        "properties": mandatory | optional,
    }
