"""The numbers of an evaluated run as cards and tables of the report's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from medgan.page import table

_METRICS = {  # title, unit, decimals, whether a low value is good
    "mae": ("MAE", "", 1, True),
    "bias": ("bias", "", 1, True),
    "psnr": ("PSNR", "dB", 1, False),
    "ssim": ("SSIM", "", 3, False),
    "dice": ("Dice", "", 3, False),
    "hd95_mm": ("HD95", "mm", 1, True),
    "hd95_found_mm": ("HD95 of those found", "mm", 1, True),
    "missed": ("missed organs", "", 0, True),
    "spurious": ("spurious organs", "", 0, True),
}
_COUNTS = ("missed", "spurious")


@dataclass(frozen=True)
class ScoredCase:
    """A case of the summary and what its direction has in common."""

    part: Mapping[str, Any]
    case: Mapping[str, Any]

    @property
    def scores(self) -> Mapping[str, float | None]:
        return self.case["methods"].get("translation", {})  # type: ignore[no-any-return]


def results_html(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return "<p class='quiet'>Not evaluated yet: <code>medgan evaluate</code> adds the numbers.</p>"
    kind = summary["options"]["mask"]
    where = {"body": "inside the source's body", "common": "inside the body that both images show"}.get(kind)
    erosion = summary["options"]["erosion_mm"]
    where = (where or "in the whole volume") + (f", without a rim of {erosion:g} mm" if erosion else "")
    text = [
        f"<p class='quiet'>Images are compared {where}. Intervals: 95 %, bootstrap over patients; n: cases. "
        "Missed and spurious organs count Dice 0 and the image's diagonal as HD95.</p>"
    ]
    for part in summary["directions"].values():
        text.append(f"<h3>{escape(part['title'])}</h3><div class='cards'>{''.join(_cards(part))}</div>")
        text.append(_methods_table(part))
        text.append(_parts_table(part))
    return "".join(text)


def _cards(part: Mapping[str, Any]) -> Iterator[str]:
    scores = part["methods"].get("translation", {})
    tables = [other["mae"]["mean"] for name, other in part["methods"].items() if name != "translation"]
    for metric in ("mae", "psnr", "ssim", "dice", "hd95_mm"):
        entry = scores.get(metric)
        if entry and entry["count"] and entry["mean"] is not None:
            title, unit, decimals, _ = _METRICS[metric]
            unit = unit or (_image_unit(part) if metric == "mae" else "")
            beside = f"{_interval(entry, decimals)} n = {entry['count']}"
            beside += f"<br>best lookup table {min(tables):.{decimals}f}" if metric == "mae" and tables else ""
            yield _card(title, f"{entry['mean']:.{decimals}f} <small>{unit}</small>", beside)
    counted = [scores[metric] for metric in _COUNTS if scores.get(metric, {}).get("count")]
    if counted:
        totals = [round(entry["mean"] * entry["count"]) for entry in counted]
        beside = f"organs, in {counted[0]['count']} cases"
        yield _card("missed / spurious", " / ".join(map(str, totals)), beside, warn=any(totals))


def _card(title: str, value: str, beside: str, *, warn: bool = False) -> str:
    return (
        f"<div class='card{' warn' if warn else ''}'><div class='name'>{title}</div>"
        f"<div class='value'>{value}</div><div class='beside'>{beside}</div></div>"
    )


def _methods_table(part: Mapping[str, Any]) -> str:
    methods = part["methods"]
    columns = [m for m in _METRICS if any(scores.get(m, {}).get("count") for scores in methods.values())]
    span = part["data_range"]
    caption = f"Mean and 95 % interval over {len(part['cases'])} patients"
    if span and "psnr" in columns:
        caption += f"; PSNR and SSIM over a range of {span[0]:g} to {span[1]:g} {_image_unit(part)}"
    heads = [_head(metric, part) for metric in columns]
    cases = len(part["cases"])
    rows = [[escape(name), *(_entry(scores.get(m), m, cases) for m in columns)] for name, scores in methods.items()]
    return table(["method", *heads], rows, caption)


def _parts_table(part: Mapping[str, Any]) -> str:
    """What is measured per tissue, region or organ: a row for each, a column per method and metric."""
    metrics = dict.fromkeys(m for scores in part["methods"].values() for m in scores if "/" in m)
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
    return table(["part", *heads], rows, "By tissue, region and organ") if rows and columns else ""


def cases_html(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return ""
    text = []
    for part in summary["directions"].values():
        shown = worst_first(part)
        columns = [m for m in _METRICS if any(one.scores.get(m) is not None for one in shown)]
        tables = [name for name in part["methods"] if name != "translation"]
        heads = [*(_head(metric, part) for metric in columns), *(f"MAE, {escape(name)}" for name in tables)]
        rows = []
        for one in shown:
            values = [(one.scores.get(metric), _METRICS[metric][2]) for metric in columns]
            values += [(one.case["methods"].get(name, {}).get("mae"), 1) for name in tables]
            cells = [("", "") if v is None else (f"{v:.{d}f}", f"{v:.6g}") for v, d in values]
            rows.append([escape(one.case["subject"]), *(f"<!--{key}-->{text}" for text, key in cells)])
        text.append(f"<h3>{escape(part['title'])}</h3>")
        text.append(table(["case", *heads], rows, "Worst first; a click on a head sorts", sortable=True))
    return "".join(text)


def worst_first(part: Mapping[str, Any]) -> list[ScoredCase]:
    shown = [ScoredCase(part, case) for case in part["cases"]]

    def badness(one: ScoredCase) -> float:
        for metric in ("mae", "dice"):
            value = one.scores.get(metric)
            if value is not None:
                return value if _METRICS[metric][3] else -value
        return -np.inf

    return sorted(shown, key=badness, reverse=True)


def facts(one: ScoredCase) -> Iterator[str]:
    for metric, (title, unit, decimals, _) in _METRICS.items():
        value = one.scores.get(metric)
        if value is not None and metric not in ("bias", "hd95_found_mm"):
            unit = unit or (_image_unit(one.part) if metric == "mae" else "")
            yield f"{title} {value:.{decimals}f} {unit}".strip()


def _image_unit(part: Mapping[str, Any]) -> str:
    return "HU" if part["target"]["modality"] == "ct" else ""


def _head(metric: str, part: Mapping[str, Any]) -> str:
    title, unit, _, _ = _METRICS.get(metric, (metric, "", 3, True))
    unit = unit or (_image_unit(part) if metric in ("mae", "bias") else "")
    return f"{title} ({unit})" if unit else title


def _entry(entry: Mapping[str, Any] | None, metric: str, cases: int) -> str:
    """Mean and interval, organs that are counted as their sum, and how many cases have a value if not all have."""
    if not entry or not entry["count"]:
        return ""
    if entry["mean"] is None:  # JSON has no infinity: the PSNR of an image without error
        return "&infin;"
    number = f" n = {entry['count']}" if entry["count"] != cases else ""
    if metric in _COUNTS:
        return f"{entry['mean'] * entry['count']:.0f} <small>{number}</small>"
    decimals = _METRICS[metric][2]
    return f"{entry['mean']:.{decimals}f} <small>{_interval(entry, decimals)}{number}</small>"


def _interval(entry: Mapping[str, Any], decimals: int) -> str:
    if entry["low"] is None or entry["high"] is None:
        return ""
    return f"[{entry['low']:.{decimals}f}, {entry['high']:.{decimals}f}]"
