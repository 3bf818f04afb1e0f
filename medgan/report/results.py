"""The numbers of an evaluated run as cards and tables of the report's page."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from medgan.data.store import read_json
from medgan.report.page import strip, table

_METRICS = {  # title, unit, decimals, whether a low value is good
    "mae": ("MAE", "", 1, True),
    "bias": ("bias", "", 1, True),
    "psnr": ("PSNR", "dB", 1, False),
    "ssim": ("SSIM", "", 3, False),
    "ms_ssim": ("MS-SSIM", "", 3, False),
    "dice": ("Dice", "", 3, False),
    "surface_dice": ("surface Dice", "", 3, False),
    "surface_dice_found": ("surface Dice of those found", "", 3, False),
    "consistency": ("consistency", "", 3, False),
    "cycle_error": ("cycle error", "", 1, True),
    "hd95_mm": ("HD95", "mm", 1, True),
    "hd95_found_mm": ("HD95 of those found", "mm", 1, True),
    "missed": ("missed organs", "", 0, True),
    "spurious": ("spurious organs", "", 0, True),
}
_CARDS = ("mae", "psnr", "ssim", "ms_ssim", "dice", "surface_dice", "hd95_mm")
_COUNTS = ("missed", "spurious")


@dataclass(frozen=True)
class ScoredCase:
    """A case of the summary and what its direction has in common.

    Attributes:
        way: key of its direction.
        part: the direction's entry.
        case: its own entry.
        classes: names of the labels.
    """

    way: str
    part: Mapping[str, Any]
    case: Mapping[str, Any]
    classes: Mapping[int, str]

    @property
    def subject(self) -> str:
        """Whose."""
        return str(self.case["subject"])

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.way, self.subject

    @property
    def anchor(self) -> str:
        """Where its pictures stand in the page."""
        return f"case-{self.way}-{self.subject}"

    @property
    def scores(self) -> Mapping[str, float | None]:
        """What was measured on its translation."""
        return self.case["methods"].get("translation", {})  # type: ignore[no-any-return]


def read_summary(run: Path) -> dict[str, Any] | None:
    """``evaluate/summary.json`` of a run, or None where it was not evaluated."""
    path = run / "evaluate" / "summary.json"
    return dict(read_json(path)) if path.is_file() else None


def results_html(summary: Mapping[str, Any] | None) -> str:
    """Cards and tables of means with intervals, per direction."""
    if not summary:
        return "<p class='quiet'>Not evaluated yet: <code>medgan evaluate</code> adds the numbers.</p>"
    text = [f"<p class='quiet'>{_how(summary.get('options') or {})}</p>"]
    presets = (summary.get("options") or {}).get("presets") or []
    for way, part in summary["directions"].items():
        text.append(f"<h3>{escape(part['title'])}</h3><div class='cards'>{''.join(_cards(part))}</div>")
        text.append(_methods_table(part))
        text.append(_presets_table(part, presets))
        if parts := _parts_table(part, presets):
            text.append(
                f"<details open id='parts-{escape(way)}'><summary>By tissue, region and organ</summary>"
                f"{parts}</details>"
            )
    return "".join(text)


def _how(options: Mapping[str, Any]) -> str:
    kind, erosion = options.get("mask"), options.get("erosion_mm") or 0
    where = {"body": "inside the source's body", "common": "inside the body that both images show"}.get(str(kind))
    where = (where or "in the whole volume") + (f", without a rim of {erosion:g} mm" if erosion else "")
    return (
        f"Images are compared {where}. Intervals: 95 %, bootstrap over patients; n: cases. "
        "Missed and spurious organs count Dice 0 and the image's diagonal as HD95."
    )


def _cards(part: Mapping[str, Any]) -> Iterator[str]:
    scores = part["methods"].get("translation", {})
    for metric in _CARDS:
        entry = scores.get(metric)
        if not entry or not entry.get("count") or entry.get("mean") is None:
            continue
        title, unit, decimals, low_is_good = _metric(metric)
        unit = unit or (_image_unit(part) if metric == "mae" else "")
        others = [
            other[metric]["mean"]
            for name, other in part["methods"].items()
            if name != "translation" and other.get(metric, {}).get("mean") is not None
        ]
        best = (min(others) if low_is_good else max(others)) if others else None
        values = [case["methods"].get("translation", {}).get(metric) for case in part["cases"]]
        drawn = strip([v for v in values if v is not None], entry["mean"], entry["low"], entry["high"], best)
        beside = f"{_interval(entry, decimals)} n = {entry['count']}"
        beside += "" if best is None else f"<br><span class='mark'></span> lookup table {best:.{decimals}f}"
        good = "low is good" if low_is_good else "high is good"
        yield _card(title, f"{entry['mean']:.{decimals}f} <small>{unit}</small>", drawn + beside, hint=good)
    counted = [scores[metric] for metric in _COUNTS if scores.get(metric, {}).get("count")]
    if counted:
        totals = [round(entry["mean"] * entry["count"]) for entry in counted]
        beside = f"organs, in {counted[0]['count']} cases"
        yield _card("missed / spurious", " / ".join(map(str, totals)), beside, warn=any(totals))


def _card(title: str, value: str, beside: str, *, hint: str = "", warn: bool = False) -> str:
    return (
        f"<div class='card{' warn' if warn else ''}'><div class='name'><span>{title}</span><span>{hint}</span></div>"
        f"<div class='value'>{value}</div><div class='beside'>{beside}</div></div>"
    )


def _methods_table(part: Mapping[str, Any]) -> str:
    methods = part["methods"]
    columns = _columns([[m for m, entry in scores.items() if entry.get("count")] for scores in methods.values()])
    span = part.get("data_range")
    caption = f"Mean and 95 % interval over {len(part['cases'])} patients"
    if span and "psnr" in columns:
        caption += f"; PSNR and SSIM over a range of {span[0]:g} to {span[1]:g} {_image_unit(part)}"
    heads = [_head(metric, part) for metric in columns]
    cases = len(part["cases"])
    rows = [[escape(name), *(_entry(scores.get(m), m, cases) for m in columns)] for name, scores in methods.items()]
    return table(["method", *heads], rows, caption)


def _presets_table(part: Mapping[str, Any], presets: Sequence[str]) -> str:
    """The figures of the challenges' presets: a row per method, a column per preset and figure."""
    methods = part["methods"]
    columns = list(
        dict.fromkeys(m for scores in methods.values() for m in scores if m.partition("/")[0] in presets and "/" in m)
    )
    heads = [f"{_head(m.partition('/')[2], part)}, {escape(m.partition('/')[0])}" for m in columns]
    rows = [
        [escape(name), *(_entry(scores.get(m), m.partition("/")[2], len(part["cases"])) for m in columns)]
        for name, scores in methods.items()
        if any(scores.get(m, {}).get("count") for m in columns)
    ]
    return table(["method", *heads], rows, "By the rules of the challenges") if rows else ""


def _parts_table(part: Mapping[str, Any], presets: Sequence[str]) -> str:
    """What is measured per tissue, region or organ: a row for each, a column per method and metric.

    Volumes of organs have a table of their own, see `medgan.report.quality`.
    """
    metrics = dict.fromkeys(
        metric
        for scores in part["methods"].values()
        for metric in scores
        if "/" in metric and metric.partition("/")[0] not in presets and "volume" not in metric.partition("/")[0]
    )
    names = list(dict.fromkeys(metric.partition("/")[2] for metric in metrics))
    columns = [
        (method, kind)
        for kind in dict.fromkeys(metric.partition("/")[0] for metric in metrics)
        for method, scores in part["methods"].items()
        if any(scores.get(f"{kind}/{name}", {}).get("count") for name in names)
    ]
    heads = [f"{_head(kind, part)}, {escape(method)}" for method, kind in columns]
    cases, methods = len(part["cases"]), part["methods"]
    rows = [
        [escape(name), *(_entry(methods[method].get(f"{kind}/{name}"), kind, cases) for method, kind in columns)]
        for name in names
    ]
    return table(["part", *heads], rows, "") if rows and columns else ""


def cases_html(summary: Mapping[str, Any] | None, pictured: Collection[tuple[str, str]]) -> str:
    """A sortable table of cases per direction, the worst first; those that are `pictured` link to their pictures."""
    if not summary:
        return ""
    text = []
    for way, part in summary["directions"].items():
        shown = worst_first(summary, way)
        columns = _columns([[m for m, value in one.scores.items() if value is not None] for one in shown])
        tables = [name for name in part["methods"] if name != "translation"]
        heads = [*(_head(metric, part) for metric in columns), *(f"MAE, {escape(name)}" for name in tables)]
        rows = []
        for one in shown:
            values = [(one.scores.get(metric), _metric(metric)[2]) for metric in columns]
            values += [(one.case["methods"].get(name, {}).get("mae"), 1) for name in tables]
            cells = [("", "") if v is None else (f"{v:.{d}f}", f"{v:.6g}") for v, d in values]
            name = escape(one.subject)
            link = f"<!--{name}--><a href='#{escape(one.anchor)}'>{name}</a>" if one.key in pictured else name
            rows.append([link, *(f"<!--{key}-->{text}" for text, key in cells)])
        first = _judged_by(shown)
        text.append(f"<h3>{escape(part['title'])}</h3>")
        text.append(
            table(
                ["case", *heads],
                rows,
                "Worst first; a click on a head sorts",
                sortable=True,
                sorted_by=(columns.index(first) + 1, "descending" if _metric(first)[3] else "ascending")
                if first in columns
                else None,
            )
        )
    return "".join(text)


def worst_first(summary: Mapping[str, Any], way: str) -> list[ScoredCase]:
    """The cases of a direction, the worst first: by MAE, else by Dice."""
    part = summary["directions"][way]
    classes = {int(label): str(name) for label, name in (summary.get("classes") or {}).items()}
    shown = [ScoredCase(way, part, case, classes) for case in part["cases"]]
    metric = _judged_by(shown)
    sign = 1 if _metric(metric)[3] else -1

    def badness(one: ScoredCase) -> float:
        value = one.scores.get(metric)
        return -math.inf if value is None else sign * value

    return sorted(shown, key=badness, reverse=True)


def _judged_by(shown: Sequence[ScoredCase]) -> str:
    return next((m for m in ("mae", "dice") if any(one.scores.get(m) is not None for one in shown)), "mae")


def facts(one: ScoredCase) -> Iterator[str]:
    """The main numbers of a case in words."""
    for metric, (title, unit, decimals, _) in _METRICS.items():
        value = one.scores.get(metric)
        if value is not None and metric not in ("bias", "hd95_found_mm"):
            unit = unit or (_image_unit(one.part) if metric == "mae" else "")
            yield f"{title} {value:.{decimals}f} {unit}".strip()


def _columns(found: Sequence[Sequence[str]]) -> list[str]:
    """The metrics of whole cases that there are: the known ones in their order, then any others."""
    there = dict.fromkeys(metric for metrics in found for metric in metrics if "/" not in metric)
    return [m for m in _METRICS if m in there] + [m for m in there if m not in _METRICS]


def metric_title(name: str) -> tuple[str, int, bool]:
    """Title with its unit, decimals, and whether a low value is good."""
    title, unit, decimals, low_is_good = _metric(name)
    return f"{title} ({unit})" if unit else title, decimals, low_is_good


def _metric(name: str) -> tuple[str, str, int, bool]:
    """Title, unit, decimals and whether low is good; of a metric that is not known, its name."""
    return _METRICS.get(name) or (escape(name.replace("_", " ")), "", 3, True)


def _image_unit(part: Mapping[str, Any]) -> str:
    return "HU" if part["target"].get("modality") == "ct" else ""


def _head(metric: str, part: Mapping[str, Any]) -> str:
    title, unit, _, _ = _metric(metric)
    unit = unit or (_image_unit(part) if metric in ("mae", "bias") else "")
    return f"{title} ({unit})" if unit else title


def _entry(entry: Mapping[str, Any] | None, metric: str, cases: int) -> str:
    """Mean and interval, organs that are counted as their sum, and how many cases have a value if not all have."""
    if not entry or not entry.get("count"):
        return ""
    if entry["mean"] is None:  # JSON has no infinity: the PSNR of an image without error
        return "&infin;"
    number = f" n = {entry['count']}" if entry["count"] != cases else ""
    if metric in _COUNTS:
        return f"{entry['mean'] * entry['count']:.0f} <small>{number}</small>"
    decimals = _metric(metric)[2]
    return f"{entry['mean']:.{decimals}f} <small>{_interval(entry, decimals)}{number}</small>"


def _interval(entry: Mapping[str, Any], decimals: int) -> str:
    if entry.get("low") is None or entry.get("high") is None:
        return ""
    return f"[{entry['low']:.{decimals}f}, {entry['high']:.{decimals}f}]"
