"""Pictures of the sarcoma study: what each method makes of a patient, and how its training went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image
from sts_scores import AIR_HU, Patient

CT_WINDOW_HU = (-250.0, 750.0)
MR_WINDOW = (0.0, 1200.0)
ERROR_HU = 400.0  # at the ends of the colour bar
_PIXELS, _DPI = 1400, 100
_MOST_BYTES = 290_000


def draw_patient(path: Path, patient: Patient, images_hu: Mapping[str, NDArray[Any]]) -> None:
    """An axial and a coronal cut through most bone: MR, real CT and each method's CT, below each its error in HU.

    Args:
        path: PNG to write, 1400 pixels wide.
        patient: the truth.
        images_hu: (X, Y, Z) synthetic CT by method, in the order of the columns; outside the MR body they are drawn
            as air, which translators write there and lookup tables do not know.
    """

    orientation = nib.orientations.io_orientation(patient.affine)  # type: ignore[no-untyped-call]

    def turned(image: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(nib.orientations.apply_orientation(image, orientation))  # type: ignore[no-untyped-call]

    order = orientation[:, 0].astype(int)
    mm = [patient.spacing_mm[int(np.flatnonzero(order == axis)[0])] for axis in range(3)]
    inside, dense = turned(patient.common), turned(patient.dense_bone)
    box = tuple(slice(max(0, ends[0] - 3), ends[-1] + 4) for ends in map(np.flatnonzero, _shadows(inside)))
    cuts = [(2, int(dense.sum((0, 1)).argmax())), (1, int(dense.sum((0, 2)).argmax()))]
    columns = {"MR (T1)": patient.mr, "real CT": patient.ct_hu}
    columns |= {name: np.where(patient.mr_body, image, AIR_HU) for name, image in images_hu.items()}
    errors = {name: image - patient.ct_hu for name, image in images_hu.items()}
    sizes = [mm[axis] * (box[axis].stop - box[axis].start) for axis in range(3)]  # as cut: an upper bound, for layout
    heights = [sizes[1], sizes[1], sizes[2], sizes[2]]
    width = _PIXELS / _DPI
    figure = Figure(figsize=(width, width / len(columns) / sizes[0] * sum(heights) + 0.45), dpi=_DPI)
    top, bottom = 1 - 0.3 / figure.get_figheight(), 0.05 / figure.get_figheight()
    grid = figure.subplots(
        4,
        len(columns),
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights, "wspace": 0.02, "hspace": 0.02,
            "left": 0.02, "right": 0.995, "top": top, "bottom": bottom,
        },
    )  # fmt: skip
    shown: dict[str, Any] = {}
    for pair, (normal, at) in enumerate(cuts):
        frame = [part for axis, part in enumerate(box) if axis != normal]
        pixel_mm = [one for axis, one in enumerate(mm) if axis != normal]

        def cut(image: NDArray[Any], normal: int = normal, at: int = at, frame: list[slice] = frame) -> NDArray[Any]:
            return np.asarray(np.take(turned(image), at, axis=normal)[tuple(frame)][::-1, ::-1].T)

        for column, (name, image) in enumerate(columns.items()):
            low, high = MR_WINDOW if column == 0 else CT_WINDOW_HU
            axes, below = grid[2 * pair, column], grid[2 * pair + 1, column]
            aspect = pixel_mm[1] / pixel_mm[0]
            drawn = axes.imshow(cut(image), cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
            _bare(axes)
            _bare(below)
            if pair == 0:
                axes.set_title(name, fontsize=11, pad=4)
            if column == 0:
                axes.set_ylabel(("axial", "coronal")[pair], fontsize=10)
            if column == 1:
                shown["CT (HU)"] = drawn
            if name in errors:
                error = np.ma.masked_where(~cut(patient.common), cut(errors[name]))
                shown["synthetic - real (HU)"] = below.imshow(
                    error, cmap="RdBu_r", vmin=-ERROR_HU, vmax=ERROR_HU, aspect=aspect, interpolation="nearest"
                )
                below.set_facecolor("#D8D8D8")
            else:
                below.set_visible(False)
    _bars(figure, grid, shown)
    _save(figure, path)


def _shadows(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Where along each axis a mask lies."""
    return [np.any(mask, axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]


def _bars(figure: Figure, grid: NDArray[Any], shown: Mapping[str, Any]) -> None:
    """The colour bars, in the empty places below MR and real CT; the sides of the cuts beside them."""
    for column, (unit, drawn) in enumerate(shown.items()):
        place = grid[1, column].get_position()
        axes = figure.add_axes(
            (place.x0 + 0.12 * place.width, place.y0 + 0.55 * place.height, 0.76 * place.width, 0.07 * place.height)
        )
        bar = figure.colorbar(drawn, cax=axes, orientation="horizontal")
        bar.set_label(unit, fontsize=10)
        bar.ax.tick_params(labelsize=9)
    place = grid[3, 0].get_position()
    figure.text(
        place.x0 + 0.01,
        place.y0 + 0.5 * place.height,
        "The patient's right is on the left.\nErrors are drawn in the common\nbody only, grey is outside it.",
        fontsize=10,
        va="center",
    )


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    for side in axes.spines.values():
        side.set_visible(False)


def draw_curves(path: Path, trainings: Mapping[str, Path]) -> None:
    """Losses above, validation below, a column per method; `trainings` are the ``train/`` folders of the runs."""
    figure = Figure(figsize=(_PIXELS / _DPI, 8.6), dpi=_DPI, layout="constrained")
    grid = figure.subplots(2, len(trainings), squeeze=False, sharex="col")
    for column, (name, folder) in enumerate(trainings.items()):
        losses, validation = read_lines(folder / "losses.jsonl"), read_lines(folder / "validation.jsonl")
        _curves(grid[0, column], losses)
        grid[0, column].set_yscale("log")
        grid[0, column].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        grid[0, column].yaxis.set_major_formatter("{x:g}")
        grid[0, column].yaxis.set_minor_formatter(NullFormatter())
        _curves(grid[1, column], validation)
        grid[0, column].set_title(name, fontsize=11)
        grid[1, column].set_xlabel("step")
        for axes, below in zip(grid[:, column], (-0.03, -0.14), strict=True):
            if axes.has_data():
                axes.legend(fontsize=8, ncols=4, frameon=False, loc="upper center", bbox_to_anchor=(0.5, below))
    grid[0, 0].set_ylabel("loss, weighted (training)")
    grid[1, 0].set_ylabel("validation: score, and what it is made of")
    _save(figure, path)


def _curves(axes: Axes, lines: Sequence[Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    for number, name in enumerate(names):
        points = [(line["step"], line[name]) for line in lines if name in line]
        is_score = name == "score"
        axes.plot(
            *zip(*points, strict=True),
            label=name,
            linewidth=2.2 if is_score else 1.1,
            color="black" if is_score else f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            marker="." if len(points) < 3 else None,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def read_lines(path: Path) -> list[dict[str, float]]:
    """The entries of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _save(figure: Figure, path: Path) -> None:
    """As PNG; one that would be large for a page (volumes at full resolution), with 256 colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", facecolor="white")
    if path.stat().st_size > _MOST_BYTES:
        with Image.open(path) as picture:
            few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
