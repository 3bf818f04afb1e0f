"""Pictures of volumes: three orthogonal cuts through the body, to scale, side by side for several images.

Cuts are shown as radiologists look at them: the patient's right is on the left, anterior is up, or on the left in a
sagittal cut. Colours are those of Okabe and Ito, "Color Universal Design", 2008, which the colour-blind tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")
_CUTS = (("axial", 2, "RLAP"), ("coronal", 1, "RLSI"), ("sagittal", 0, "APSI"))  # name, normal, left right top bottom
Style = Literal["solid", "dotted"]

_WIDEST, _NARROWEST, _TALLEST = 2.4, 1.5, 7.0  # inches: of a panel, and of the three cuts together
_LEFT, _TOP, _GAP, _BARS, _LEGEND = 0.25, 0.3, 0.06, 0.6, 0.22  # inches


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
    ground: str = "white",
) -> Figure:
    """A figure with a column per panel and a row per cut, all at one scale in mm.

    Args:
        panels: images on one grid.
        affine: (4, 4) voxel to RAS mm of that grid.
        centre: the voxel that the cuts go through.
        classes: names of the labels that may be outlined.
        ink: colour of the writing.
        ground: colour behind it, or "none".
    """
    turn = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    shape = panels[0].image.shape
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    mm = [float(spacing_mm[np.flatnonzero(turn[:, 0] == axis)[0]]) for axis in range(3)]
    at = [0, 0, 0]
    for voxel_axis, (axis, sign) in enumerate(turn):
        at[int(axis)] = int(centre[voxel_axis]) if sign > 0 else shape[voxel_axis] - 1 - int(centre[voxel_axis])
    middle: dict[str, Any] = {"color": ink, "fontsize": 9, "ha": "center", "va": "center"}
    turned = [_turned(panel.image, turn) for panel in panels]
    x_mm, y_mm, z_mm = (n * one for n, one in zip(turned[0].shape, mm, strict=True))
    scale = min(_WIDEST / max(x_mm, y_mm), _TALLEST / (y_mm + 2 * z_mm))  # inches per mm
    width, heights = max(scale * x_mm, scale * y_mm, _NARROWEST), (scale * y_mm, scale * z_mm, scale * z_mm)
    key = _key(panels, turn, at, classes, ink)
    columns = max(1, int(len(panels) * (width + _GAP) / 1.3))
    tops = [_TOP + sum(heights[:row]) + row * _GAP for row in range(3)]
    below = tops[2] + heights[2]
    size = (_LEFT + len(panels) * (width + _GAP), below + _BARS + _LEGEND * math.ceil(len(key) / columns))
    figure = Figure(figsize=size, facecolor=ground)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        """Axes by their distance from the left and upper border, in inches."""
        return figure.add_axes((left / size[0], 1 - (top + high) / size[1], wide / size[0], high / size[1]))

    for column, panel in enumerate(panels):
        left = _LEFT + column * (width + _GAP)
        for row, (name, normal, letters) in enumerate(_CUTS):
            cut = _cut(turned[column], normal, at[normal])
            if panel.where is not None:
                cut = np.ma.masked_where(_cut(_turned(panel.where, turn), normal, at[normal]) == 0, cut)
            across_mm, up_mm = (one for axis, one in enumerate(mm) if axis != normal)
            extent = (0.0, cut.shape[1] * across_mm, 0.0, cut.shape[0] * up_mm)
            wide = scale * extent[1]
            axes = place(left + (width - wide) / 2, tops[row], wide, heights[row])
            low, high = panel.window
            shown = axes.imshow(cut, cmap=panel.colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
            for labels, style, _ in panel.outlines:
                _outline(axes, _cut(_turned(labels, turn), normal, at[normal]), extent, classes, style)
            name_sides(axes, letters if column == 0 else "")
            if column == 0:
                figure.text(0.12 / size[0], 1 - (tops[row] + heights[row] / 2) / size[1], name, **middle, rotation=90)
        figure.text((left + width / 2) / size[0], 1 - 0.15 / size[1], panel.title, **middle)
        bar = figure.colorbar(
            shown, cax=place(left + 0.1 * width, below + 0.1, 0.8 * width, 0.08), orientation="horizontal"
        )
        bar.set_label(panel.unit, color=ink, fontsize=7)
        bar.ax.tick_params(colors=ink, labelsize=6.5)
        bar.ax.locator_params(nbins=4)
        bar.outline.set_edgecolor(ink)
    if key:
        legend = figure.legend(handles=key, loc="lower center", ncols=columns, frameon=False, fontsize=7.5)
        for text in legend.get_texts():
            text.set_color(ink)
    return figure


def axial_cut(
    volume: NDArray[Any], affine: NDArray[np.float64], centre: Sequence[int]
) -> tuple[NDArray[Any], tuple[float, float]]:
    """The axial plane of a volume through a voxel, as one looks at it, and its width and height in mm."""
    turn = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    across, up, along = (int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in range(3))
    at = int(centre[along]) if turn[along, 1] > 0 else volume.shape[along] - 1 - int(centre[along])
    size = (volume.shape[across] * float(spacing_mm[across]), volume.shape[up] * float(spacing_mm[up]))
    return _cut(_turned(volume, turn), 2, at), size


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
) -> None:
    wide = np.pad(plane, 1)  # outlines close at the border of the image
    width, height = extent[1] / plane.shape[1], extent[3] / plane.shape[0]
    x = (np.arange(wide.shape[1]) - 0.5) * width
    y = extent[3] - (np.arange(wide.shape[0]) - 0.5) * height
    for label, colour in label_colours(classes).items():
        if (plane == label).any():
            axes.contour(x, y, (wide == label).astype(float), [0.5], colors=colour, linestyles=style, linewidths=1.1)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])


def name_sides(axes: Axes, letters: str) -> None:
    """Ticks off, sides named (left, right, top, bottom; none for ""), black behind what is masked out."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for spine in axes.spines.values():
        spine.set_visible(False)
    sides = (0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")
    ends = (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom")
    for letter, (x, y, across, up) in zip(letters, (*sides, *ends), strict=False):
        text = axes.text(x, y, letter, transform=axes.transAxes, color="white", fontsize=7, ha=across, va=up)
        text.set_path_effects([Stroke(linewidth=1.5, foreground="black"), Normal()])


def _key(
    panels: Sequence[Panel], turn: NDArray[Any], at: Sequence[int], classes: Mapping[int, str], ink: str
) -> list[Line2D]:
    """What the outlines mean: the colours of the classes that are in the cuts, and the line styles."""
    maps = [(_turned(labels, turn), style, word) for panel in panels for labels, style, word in panel.outlines]
    there = {
        int(v) for labels, _, _ in maps for _, normal, _ in _CUTS for v in np.unique(_cut(labels, normal, at[normal]))
    }
    colours = label_colours(classes)
    lines = [Line2D([], [], color=colours[v], linewidth=3, label=classes[v]) for v in sorted(there & set(classes))]
    styles = {style: word for _, style, word in maps}
    return lines + [Line2D([], [], color=ink, linestyle=style, label=word) for style, word in styles.items()]


def label_colours(classes: Mapping[int, str]) -> dict[int, str]:
    """A colour for each label, ``#rrggbb``; they repeat when they run out."""
    return dict(zip(sorted(classes), cycle(COLOURS), strict=False))
