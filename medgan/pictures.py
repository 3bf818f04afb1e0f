"""Pictures of volumes: three orthogonal cuts through the body, to scale, side by side for several images.

Cuts are shown as radiologists look at them: the patient's right is on the left, anterior is up, or on the left in a
sagittal cut. Colours are those of Okabe and Ito, "Color Universal Design", 2008, which the colour-blind tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")
_CUTS = (("axial", 2, "RLAP"), ("coronal", 1, "RLSI"), ("sagittal", 0, "APSI"))  # name, normal, left right top bottom
Style = Literal["solid", "dotted"]

_INCHES = 2.5  # width of a panel


@dataclass(frozen=True)
class Panel:
    """One column of a picture.

    Attributes:
        title: above it.
        image: (X, Y, Z).
        window: values that are drawn darkest and brightest.
        unit: of the colour bar.
        colours: name of a matplotlib colour map.
        where: (X, Y, Z), draws only these voxels; None draws all.
        outlines: label maps (X, Y, Z) to outline, each with a line style and a word for the legend.
    """

    title: str
    image: NDArray[Any]
    window: tuple[float, float]
    unit: str
    colours: str = "gray"
    where: NDArray[np.bool_] | None = None
    outlines: tuple[tuple[NDArray[Any], Style, str], ...] = ()


def draw_cuts(
    panels: Sequence[Panel],
    affine: NDArray[np.float64],
    centre: Sequence[int],
    classes: Mapping[int, str],
    *,
    ink: str = "#222222",
) -> Figure:
    """A figure with a column per panel and a row per cut, all at one scale in mm, over a clear ground.

    Args:
        panels: images on one grid.
        affine: (4, 4) voxel to RAS mm of that grid.
        centre: the voxel that the cuts go through.
        classes: names of the labels that may be outlined.
        ink: colour of the writing.
    """
    turn = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    shape = panels[0].image.shape
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    mm = [float(spacing_mm[np.flatnonzero(turn[:, 0] == axis)[0]]) for axis in range(3)]
    at = [0, 0, 0]
    for voxel_axis, (axis, sign) in enumerate(turn):
        at[int(axis)] = int(centre[voxel_axis]) if sign > 0 else shape[voxel_axis] - 1 - int(centre[voxel_axis])
    turned = [_turned(panel.image, turn) for panel in panels]
    x_mm, y_mm, z_mm = (n * one for n, one in zip(turned[0].shape, mm, strict=True))
    heights, widest = (y_mm, z_mm, z_mm), max(x_mm, y_mm)
    tall = _INCHES * sum(heights) / widest
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(_INCHES * len(panels), tall + 1.5), layout=layout, facecolor="none")
    grid = figure.subplots(3, len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})
    seen: dict[tuple[int, Style, str], str] = {}
    for column, panel in enumerate(panels):
        shown = None
        for row, (name, normal, letters) in enumerate(_CUTS):
            axes = grid[row, column]
            pixel_mm = [one for axis, one in enumerate(mm) if axis != normal]
            cut = _cut(turned[column], normal, at[normal])
            if panel.where is not None:
                where = _cut(_turned(panel.where, turn), normal, at[normal])
                cut = np.ma.masked_where(~where.astype(bool), cut)
            extent = (0.0, cut.shape[1] * pixel_mm[0], 0.0, cut.shape[0] * pixel_mm[1])
            low, high = panel.window
            shown = axes.imshow(cut, cmap=panel.colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
            for labels, style, word in panel.outlines:
                plane = _cut(_turned(labels, turn), normal, at[normal])
                seen |= _outline(axes, plane, extent, classes, style, word)
            _dress(axes, letters, ink, first=column == 0, name=name, title=panel.title if row == 0 else "")
        assert shown is not None
        bar = figure.colorbar(shown, ax=list(grid[:, column]), location="bottom", aspect=28, shrink=0.85, pad=0.01)
        bar.set_label(panel.unit, color=ink, fontsize=8)
        bar.ax.tick_params(colors=ink, labelsize=7)
        bar.outline.set_edgecolor(ink)
    _legend(figure, seen, classes, ink)
    return figure


def _cut(volume: NDArray[Any], normal: int, at: int) -> NDArray[Any]:
    """A plane of a RAS volume as an image: first row on top, first column on the left."""
    plane: NDArray[Any] = np.take(volume, at, axis=normal)
    return plane[::-1, ::-1].T


def _turned(volume: NDArray[Any], turn: NDArray[Any]) -> NDArray[Any]:
    """The volume with its axes to the right, anterior and superior."""
    return np.asarray(nib.orientations.apply_orientation(volume, turn))  # type: ignore[no-untyped-call]


def _outline(
    axes: Axes,
    plane: NDArray[Any],
    extent: tuple[float, float, float, float],
    classes: Mapping[int, str],
    style: Style,
    word: str,
) -> dict[tuple[int, Style, str], str]:
    seen = {}
    wide = np.pad(plane, 1)  # outlines close at the border of the image
    width, height = extent[1] / plane.shape[1], extent[3] / plane.shape[0]
    x = (np.arange(wide.shape[1]) - 0.5) * width
    y = extent[3] - (np.arange(wide.shape[0]) - 0.5) * height
    for (label, _), colour in zip(sorted(classes.items()), cycle(COLOURS), strict=False):
        if (plane == label).any():
            axes.contour(x, y, (wide == label).astype(float), [0.5], colors=colour, linestyles=style, linewidths=1.1)
            seen[label, style, word] = colour
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    return seen


def _dress(axes: Axes, letters: str, ink: str, *, first: bool, name: str, title: str) -> None:
    """Ticks off, sides named, black behind what is masked out."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, color=ink, fontsize=10)
    if first:
        axes.set_ylabel(name, color=ink, fontsize=9)
        sides = (0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")
        ends = (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom")
        for letter, (x, y, across, up) in zip(letters, (*sides, *ends), strict=True):
            axes.text(x, y, letter, transform=axes.transAxes, color="#E0E0E0", fontsize=7, ha=across, va=up)


def _legend(figure: Figure, seen: Mapping[tuple[int, Style, str], str], classes: Mapping[int, str], ink: str) -> None:
    if not seen:
        return
    lines = [
        Line2D([], [], color=seen[key], linestyle=key[1], label=f"{classes[key[0]]}, {key[2]}") for key in sorted(seen)
    ]
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=min(6, len(lines)), frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        text.set_color(ink)
