"""Volumes inside a page, and NiiVue to scroll through them.

NiiVue and the volumes lie in the page as compressed text that nothing reads until a viewer is opened. Volumes are
rounded to 4096 steps and, above a limit, reduced, so that a page stays a size that can be sent; in full they lie in
files beside it, each loaded when it is asked for.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medgan.report.views import View, Views

_STEPS = 4095  # 12 bits, what a scanner writes


def viewer_html(
    views: Views, limit: int, colours: Mapping[int, str], names: Mapping[str, str], full: str | None = None
) -> str:
    """A case's volumes as a closed part of the page, for `viewer_scripts` to open.

    Args:
        views: what can be looked at.
        limit: voxels that the page holds of a volume; a larger one is reduced by whole factors.
        colours: of the labels, ``#rrggbb``.
        names: paths to tell beside reduced images, by kind.
        full: where `full_script` lies, seen from the page; None: nowhere.
    """
    factors = _factors(views, limit)
    reduced = max(factors) > 1
    told = _told(views, factors, colours) | {
        "reduced": " x ".join(map(str, factors)) if reduced else "",
        "files": dict(names) if reduced else {},
        "full": full or "",
    }
    text = json.dumps(told, separators=(",", ":")).replace("</", "<\\/")
    return (
        "<details class='volumes'><summary>Scroll through the volumes</summary>"
        f"<script type='application/json'>{text}</script></details>"
    )


def full_script(views: Views, limit: int, colours: Mapping[int, str]) -> str | None:
    """What the page loads on request of a case that it holds reduced: a script, as a page from a disk may load those.

    None where the page holds the case in full. Arguments are those of `viewer_html`.
    """
    if max(_factors(views, limit)) == 1:
        return None
    told = _told(views, (1, 1, 1), colours) | {"reduced": "", "files": {}, "full": ""}
    return f"medganVolumes({json.dumps(told, separators=(',', ':'))});\n"


def _factors(views: Views, limit: int) -> tuple[int, ...]:
    return reduction(views.mask.shape, np.linalg.norm(views.affine[:3, :3], axis=0), limit)


def _told(views: Views, factors: tuple[int, ...], colours: Mapping[int, str]) -> dict[str, Any]:
    """What viewer.js shows, its volumes reduced by these factors."""
    affine = reduced_affine(views.affine, factors)
    return {
        "subject": views.subject,
        "images": [_image(view, views.mask, factors, affine) for view in views.images],
        "labels": [
            {
                "title": word,
                "data": _nifti(_thinned(array, factors).astype(np.int16), affine=affine, intent="label"),
            }
            for word, array in views.labels.items()
        ],
        "classes": [{"value": value, "name": name, "colour": colours[value]} for value, name in views.classes.items()],
        "centre": [float(x) for x in views.affine @ [*views.centre, 1]][:3],
    }


def viewer_scripts() -> str:
    """NiiVue, asleep, and the script that wakes it: once per page."""
    folder = files("medgan.report") / "viewer"
    packed = gzip.compress((folder / "niivue.umd.js").read_bytes(), mtime=0)
    ours = (folder / "viewer.js").read_text(encoding="utf-8")
    return (
        f"<script type='text/plain' id='niivue-source'>{base64.b64encode(packed).decode()}</script>"
        f"<script type='text/plain' id='niivue-licence'>{(folder / 'LICENSE').read_text(encoding='utf-8')}</script>"
        f"<script>{ours}</script>"
    )


def reduction(shape: tuple[int, ...], spacing_mm: NDArray[Any], limit: int) -> tuple[int, ...]:
    """Whole factors per axis that bring a volume to `limit` voxels; the finest axis is thinned first."""
    factors = [1] * len(shape)
    while math.prod(math.ceil(n / f) for n, f in zip(shape, factors, strict=True)) > limit:
        finest = [f * mm if f < n else math.inf for f, mm, n in zip(factors, spacing_mm, shape, strict=True)]
        factors[int(np.argmin(finest))] += 1
    return tuple(factors)


def reduced_affine(affine: NDArray[np.float64], factors: tuple[int, ...]) -> NDArray[np.float64]:
    """The affine of blocks of voxels, from that of the voxels."""
    blocks = np.diag([*map(float, factors), 1.0])
    blocks[:3, 3] = [(f - 1) / 2 for f in factors]
    return affine @ blocks


def _image(
    view: View, mask: NDArray[np.bool_], factors: tuple[int, ...], affine: NDArray[np.float64]
) -> dict[str, Any]:
    image = np.where(mask, view.image, 0) if view.kind == "error" else view.image
    data = _nifti(*_rounded(_averaged(image, factors)), affine=affine)
    return {"kind": view.kind, "title": view.title, "unit": view.unit, "window": [*view.window], "data": data}


def _rounded(array: NDArray[Any]) -> tuple[NDArray[np.int16], tuple[float, float]]:
    """The array in whole steps above its minimum, and slope and intercept that give its values back."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    slope = max((high - low) / _STEPS, 1e-6)
    if slope < 1 and low.is_integer() and np.array_equal(array, np.round(array)):
        slope = 1.0  # whole numbers stay what they are
    return np.round((np.nan_to_num(array, nan=low).clip(low, high) - low) / slope).astype(np.int16), (slope, low)


def _averaged(array: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """Means of blocks; those at the far border repeat its voxels."""
    if max(factors) == 1:
        return array
    short = [(0, -n % f) for n, f in zip(array.shape, factors, strict=True)]
    padded = np.pad(array.astype(np.float32), short, mode="edge")
    split = [size for n, f in zip(padded.shape, factors, strict=True) for size in (n // f, f)]
    return np.asarray(padded.reshape(split).mean(axis=tuple(range(1, 2 * array.ndim, 2))))


def _thinned(array: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    """The middle voxel of each block, as labels have no mean."""
    short = [(0, -n % f) for n, f in zip(array.shape, factors, strict=True)]
    return np.pad(array, short, mode="edge")[tuple(slice(f // 2, None, f) for f in factors)]


def _nifti(
    array: NDArray[Any],
    scaling: tuple[float, float] = (1.0, 0.0),
    *,
    affine: NDArray[np.float64],
    intent: Literal["none", "label"] = "none",
) -> str:
    image = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.header.set_intent(intent)  # type: ignore[no-untyped-call]
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array(scaling, dtype="<f4").tobytes()  # scl_slope and scl_inter, which nibabel would refuse
    return base64.b64encode(gzip.compress(bytes(raw), compresslevel=9, mtime=0)).decode()
