"""The model card that goes with every export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgan.data.intensity import Intensity, from_dict
from medgan.export.options import ExportOptions
from medgan.export.trained import Trained
from medgan.preprocess import PreparedDomain

_METRICS = {"mae": "MAE", "psnr": "PSNR, dB", "ssim": "SSIM", "dice": "Dice of the segmentor"}
_SPLITS = ("train", "validation", "test")


def model_card(trained: Trained, options: ExportOptions, classes: Mapping[int, str], use: str) -> str:
    """The card in Markdown: what the model is, what it learnt from, its figures, what it is not for.

    Args:
        trained: the model.
        options: what its authors say of it.
        classes: of the segmentors.
        use: a Markdown section on how to use this export.
    """
    a, b = trained.domains["A"], trained.domains["B"]
    names = {side: domain.name for side, domain in trained.domains.items()}
    ways = "; ".join(f"{way}, {names[way[0]]} to {names[way[1]]}" for way in trained.generators)
    labels = ", ".join(f"{value} {name}" for value, name in classes.items())
    read = " and ".join(names[side] for side in trained.segmentors)
    lines = [
        f"# {a.name} and {b.name}: translation of 3D volumes",
        "",
        f"Made by medgan, recipe `{trained.recipe}`. Directions: {ways}.",
        *([f"Segmentors read off {read}: {labels}."] if labels and read else []),
        "",
        "## Intended use",
        "",
        options.intended_use,
        "A translation is an estimate of what the other scanner would have shown. It can invent and lose structures,",
        "most of all where the input is unlike the training's images.",
        "",
        use.strip(),
        "",
        "## Training data",
        "",
        f"Source: {options.data_source}.",
        "",
        *_data_table(trained),
        "",
        *_figures(trained),
        "## Preparation",
        "",
        *(f"* {_preparation(domain)}" for domain in (a, b)),
        "",
        "## Licence and authors",
        "",
        f"Weights: {options.license}. Code: Apache-2.0. Authors: {options.authors}. Version {options.version}.",
        "",
        "## Reference",
        "",
        'Zhang, Yang and Zheng, "Translating and Segmenting Multimodal Medical Volumes with Cycle- and',
        'Shape-Consistency Generative Adversarial Network", 2018, arXiv:1802.09655.',
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _data_table(trained: Trained) -> list[str]:
    if not trained.counts:
        return ["The numbers of images are not recorded."]
    head = ["| images | learnt from | watched | held out |", "|---|---:|---:|---:|"]
    rows = [
        f"| {trained.domains[side].name} | " + " | ".join(str(counts.get(split, 0)) for split in _SPLITS) + " |"
        for side, counts in trained.counts.items()
    ]
    return head + rows


def _figures(trained: Trained) -> list[str]:
    """Means and intervals over the held-out cases, a table per direction, beside what needs no network."""
    lines: list[str] = []
    for way, part in trained.summary.get("directions", {}).items():
        methods: Mapping[str, Any] = part.get("methods", {})
        shown = [
            name
            for name in _METRICS
            if any((scores.get(name) or {}).get("mean") is not None for scores in methods.values())
        ]
        if way not in trained.generators or not shown:
            continue
        count = max((scores.get(shown[0]) or {}).get("count") or 0 for scores in methods.values())
        lines += ["", f"{part.get('title', way)}, {count} held-out cases; mean [95 % bootstrap interval]:", ""]
        units = "HU" if trained.domains[way[1]].modality == "ct" else "stored units"
        heads = [f"MAE, {units}" if name == "mae" else _METRICS[name] for name in shown]
        lines += ["| method | " + " | ".join(heads) + " |", "|---" + "|---:" * len(shown) + "|"]
        for method, scores in methods.items():
            lines.append(f"| {method} | " + " | ".join(_cell(scores.get(name)) for name in shown) + " |")
    return ["## Figures", *(lines or ["", "None were measured: `medgan evaluate` has not run."]), ""]


def _mean(entry: Mapping[str, Any] | None) -> float | None:
    return entry.get("mean") if entry else None


def _cell(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry.get("mean") is None:
        return ""
    digits = 3 if abs(entry["mean"]) < 1 else 1
    numbers = [entry["mean"], entry.get("low"), entry.get("high")]
    mean, low, high = ("" if number is None else f"{number:.{digits}f}" for number in numbers)
    return f"{mean} [{low}, {high}]" if low and high else mean


def _preparation(domain: PreparedDomain) -> str:
    """One line on how volumes of a domain are prepared; no option is left out."""
    chosen = domain.preprocess
    spacing = f"{_spacing(chosen.spacing_mm)} mm" if chosen.spacing_mm else "its own spacing"
    if not chosen.spacing_mm and domain.spacing_mm:
        spacing += f" (the training's: {_spacing(domain.spacing_mm)} mm)"
    rule = from_dict(domain.rule)
    if isinstance(rule, Intensity):
        mapped = f"{rule.ends[0]:g} to {rule.ends[1]:g} {'HU' if domain.modality == 'ct' else 'stored units'}"
    else:
        mapped = f"what {_told(domain.rule)} finds in the body"
    masked = "masked" if chosen.mask_background else "not masked"
    others = chosen.model_dump(mode="json", exclude={"orientation", "spacing_mm", "crop_margin_mm", "mask_background"})
    more = "".join(f"; {name.replace('_', ' ')}: {value}" for name, value in others.items() if value is not None)
    start = f"{domain.name}: axes {chosen.orientation}, {spacing}; {mapped} becomes -1 to 1, outside the body {masked}"
    return f"{start}{more}."


def _spacing(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{mm:g}" for mm in spacing_mm)


def _told(rule: Mapping[str, Any]) -> str:
    """A rule with its options: ``percentile_range (low 0.5, high 99.5)``."""
    options = ", ".join(f"{name} {value}" for name, value in rule.items() if name != "name")
    return f"{rule.get('name')} ({options})"
