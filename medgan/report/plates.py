"""Figures of translated cases: every cut of one case, or several cases below each other for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medgan.config import InputError
from medgan.pictures import Panel, Style, axial_cut, draw_cuts, name_sides
from medgan.report.views import DRAWN, Kind, Views

_COLUMNS: tuple[Kind, ...] = ("source", "translation", "reference", "error")
_WIDTH, _LEFT, _TOP, _GAP, _BELOW = 7.1, 0.3, 0.28, 0.05, 0.55  # inches; two columns of a journal are 180 mm
SUFFIXES = (".pdf", ".svg", ".png", ".eps", ".tiff", ".webp")


def draw_views(views: Views, *, ink: str = "#222222", ground: str = "white") -> Figure:
    """Three orthogonal cuts of each image of a case, and of the translation with its labels outlined.

    Args:
        views: the case.
        ink: colour of the writing.
        ground: colour behind it, or "none".
    """
    panels = [
        Panel(view.title, view.image, view.window, view.scale, "RdBu_r", where=views.mask)
        if view.kind == "error"
        else Panel(view.title, view.image, view.window, view.scale)
        for view in views.images
    ]
    outlines = tuple((array, _style(word), word) for word, array in views.labels.items())
    shown = views.image("translation")
    if outlines and shown:
        panels.append(Panel("outlines", shown.image, shown.window, shown.scale, outlines=outlines))
    return draw_cuts(panels, views.affine, views.centre, views.classes, ink=ink, ground=ground)


def _style(word: str) -> Style:
    return "dotted" if word == DRAWN else "solid"


def plate(cases: Sequence[Views], names: Sequence[str]) -> Figure:
    """A row of axial cuts for each case: source, translation, truth and error, what there is, all at one scale in mm.

    Columns have a colour bar where all cases share the window, as in HU; images in stored units are each drawn from
    the 0.5th to the 99.5th percentile of their own values in the mask, and errors in units to the widest of the cases.

    Args:
        cases: at least one, of one direction.
        names: what stands beside each row.
    """
    columns = [kind for kind in _COLUMNS if any(views.image(kind) for views in cases)]
    cuts = [_row(views, columns) for views in cases]
    mm = max(size[0] for row in cuts for _, size in row.values())
    width = (_WIDTH - _LEFT) / len(columns) - _GAP
    heights = [width / mm * max(size[1] for _, size in row.values()) for row in cuts]
    below = _TOP + sum(heights) + _GAP * (len(cuts) - 1)
    high = below + _BELOW
    figure = Figure(figsize=(_WIDTH, high), facecolor="white")

    def place(left: float, top: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / _WIDTH, 1 - (top + tall) / high, wide / _WIDTH, tall / high))

    for column, kind in enumerate(columns):
        left = _LEFT + column * (width + _GAP)
        found = [view for views in cases if (view := views.image(kind))]
        ends = [view.window for view in found]
        if kind == "error":
            ends = [(min(low for low, _ in ends), max(high for _, high in ends))] * len(ends)
        title = found[0].title
        figure.text((left + width / 2) / _WIDTH, 1 - 0.6 * _TOP / high, title, ha="center", va="center", fontsize=8.5)
        shown: Any = None
        windows = iter(ends)
        for row, (views, cut) in enumerate(zip(cases, cuts, strict=True)):
            top = _TOP + sum(heights[:row]) + _GAP * row
            if column == 0:
                middle = 1 - (top + heights[row] / 2) / high
                figure.text(0.14 / _WIDTH, middle, names[row], rotation=90, ha="center", va="center", fontsize=8)
            if views.image(kind) is None:
                continue
            plane, (across_mm, up_mm) = cut[kind]
            wide, tall = width * across_mm / mm, width * up_mm / mm
            axes = place(left + (width - wide) / 2, top + (heights[row] - tall) / 2, wide, tall)
            low, end = next(windows)
            colours = "RdBu_r" if kind == "error" else "gray"
            shown = axes.imshow(plane, cmap=colours, vmin=low, vmax=end, aspect="auto", interpolation="none")
            name_sides(axes, "RLAP" if row == column == 0 else "")
        if len(set(ends)) == 1:
            bar = figure.colorbar(
                shown, cax=place(left + 0.08 * width, below + 0.1, 0.84 * width, 0.08), orientation="horizontal"
            )
            bar.set_label(found[0].scale if kind == "error" else found[0].unit, fontsize=7, labelpad=1)
            bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)
            bar.ax.locator_params(nbins=5)
            bar.outline.set_linewidth(0.4)
        else:
            told = "own window each"
            figure.text((left + width / 2) / _WIDTH, 1 - (below + 0.2) / high, told, ha="center", fontsize=7)
    return figure


def _row(views: Views, columns: Sequence[Kind]) -> dict[Kind, tuple[Any, tuple[float, float]]]:
    """The axial cut of each image of a case through the middle of its mask; errors in the mask alone."""
    cuts: dict[Kind, tuple[Any, tuple[float, float]]] = {}
    for kind in columns:
        view = views.image(kind)
        if view is not None:
            plane, size = axial_cut(view.image, views.affine, views.centre)
            if kind == "error":
                inside, _ = axial_cut(views.mask, views.affine, views.centre)
                plane = np.ma.masked_where(inside == 0, plane)
            cuts[kind] = plane, size
    return cuts


def save_plate(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name ends in; letters stay letters, fonts go along.

    Raises:
        InputError: a format that is not known.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--figure {path}: unknown format; end the name in {', '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    with matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):  # TrueType, text
        figure.savefig(partial, dpi=300)
    partial.replace(path)
