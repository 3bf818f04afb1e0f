"""Several runs on one page: their means and what sets them apart, and the same cases beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from medgan.report.page import table
from medgan.report.results import ScoredCase, metric_title, worst_first
from medgan.report.views import DRAWN, READ, Kind, View, Views

_MAIN = ("mae", "bias", "psnr", "ssim", "ms_ssim", "dice", "surface_dice", "hd95_mm", "missed", "spurious")
_PER_CASE = ("mae", "dice")


def shared_ways(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The directions that all of them have."""
    first, *others = summaries
    return [way for way in first["directions"] if all(way in other["directions"] for other in others)]


def means_html(comparison: Mapping[str, Any]) -> str:
    """A table per direction: each run's mean and interval by metric, and the difference of every pair.

    Args:
        comparison: what ``medgan.evaluate.comparison.compare`` returns.
    """
    text = [
        "<p class='quiet'>Mean with its 95 % interval, bootstrap over patients. A difference is of the same patients, "
        "first minus second; p: Wilcoxon's signed-rank test, two-sided, corrected over the pairs after Holm. Of n "
        "patients it is at least 2 / 2<sup>n</sup>.</p>"
    ]
    names = comparison["names"]
    for way, part in comparison["directions"].items():
        metrics = [m for m in _MAIN if m in part["metrics"]]
        metrics += [m for m in part["metrics"] if m not in _MAIN and "/" not in m]
        if not metrics:
            continue
        pairs = part["metrics"][metrics[0]]["pairs"]
        heads = ["metric", *map(escape, names)]
        heads += [f"{escape(one['first'])} &minus; {escape(one['second'])}" for one in pairs]
        rows = [_means_row(metric, part["metrics"][metric], names) for metric in metrics]
        text.append(f"<h3>{escape(part.get('title') or way)}</h3>")
        text.append(table(heads, rows, "The better mean is bold"))
    return "".join(text)


def _means_row(metric: str, found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    title, decimals, low_is_good = metric_title(metric)
    means = {name: found["means"][name].get("mean") for name in names}
    known = [value for value in means.values() if value is not None]
    best = None
    if known and metric != "bias":
        best = min(known) if low_is_good else max(known)
    cells = [
        _entry(found["means"][name], decimals, bold=means[name] is not None and means[name] == best) for name in names
    ]
    for pair in found["pairs"]:
        p = pair.get("p_holm", pair.get("p"))
        beside = "" if p is None else f"<small>p = {p:.2g}</small>"
        cells.append(_entry(pair["difference"], decimals) + beside)
    return [title, *cells]


def _entry(entry: Mapping[str, Any], decimals: int, *, bold: bool = False) -> str:
    mean, low, high = (entry.get(key) for key in ("mean", "low", "high"))
    if mean is None:
        return ""
    text = f"{mean:.{decimals}f}"
    text = f"<b>{text}</b>" if bold else text
    return text + ("" if low is None or high is None else f" <small>[{low:.{decimals}f}, {high:.{decimals}f}]</small>")


def cases_table(summaries: Mapping[str, Mapping[str, Any]], way: str) -> str:
    """A sortable table of every case that all have, a column per run and metric; the worst of the first run first."""
    scored = {name: {one.subject: one for one in worst_first(summary, way)} for name, summary in summaries.items()}
    first = next(iter(scored.values()))
    subjects = [subject for subject in first if all(subject in other for other in scored.values())]
    heads, columns = ["case"], []
    for metric in _PER_CASE:
        title, decimals, _ = metric_title(metric)
        for name, cases in scored.items():
            values = [cases[subject].scores.get(metric) for subject in subjects]
            if any(value is not None for value in values):
                heads.append(f"{title}, {escape(name)}")
                columns.append(["" if v is None else f"<!--{v:.6g}-->{v:.{decimals}f}" for v in values])
    rows = [[escape(subject), *(column[row] for column in columns)] for row, subject in enumerate(subjects)]
    return table(heads, rows, "The worst of the first run first; a click on a head sorts", sortable=True)


def shared_cases(summaries: Mapping[str, Mapping[str, Any]], way: str, most: int) -> list[dict[str, ScoredCase]]:
    """Up to `most` cases that every run has, the worst of the first run first: by run, the scored case."""
    scored = {name: {one.subject: one for one in worst_first(summary, way)} for name, summary in summaries.items()}
    first = next(iter(scored.values()))
    subjects = [subject for subject in first if all(subject in other for other in scored.values())]
    return [{name: cases[subject] for name, cases in scored.items()} for subject in subjects[:most]]


def merged(views: Mapping[str, Views]) -> Views | None:
    """One case of several runs: source, truth, each run's translation and error; None if their grids differ."""
    first, *others = views.values()
    for other in others:
        same = other.mask.shape == first.mask.shape and np.allclose(other.affine, first.affine, atol=1e-3)
        if not same:
            return None
    truth = first.image("reference")
    images = [view for view in (first.image("source"), truth) if view]
    kinds: tuple[Kind, ...] = ("translation", "error")
    for kind in kinds:
        for name, one in views.items():
            view = one.image(kind)
            if view is not None:
                window = truth.window if truth and kind == "translation" else view.window
                images.append(_renamed(view, name if kind == "translation" else f"{name} - truth", window))
    labels = {f"read off {name}": one.labels[READ] for name, one in views.items() if READ in one.labels}
    labels |= {DRAWN: first.labels[DRAWN]} if DRAWN in first.labels else {}
    return replace(first, images=tuple(images), labels=labels)


def _renamed(view: View, title: str, window: tuple[float, float]) -> View:
    return replace(view, title=title, window=window)


def differences_html(lines: Mapping[str, Sequence[str]], against: str) -> str:
    """What is configured otherwise than in the first run."""
    text = []
    for name, changes in lines.items():
        items = "".join(f"<li><code>{escape(line)}</code></li>" for line in changes) or "<li>nothing</li>"
        text.append(f"<h3>{escape(name)}, against {escape(against)}</h3><ul>{items}</ul>")
    return "".join(text)
