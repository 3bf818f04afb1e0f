"""A picture per case of what preparation made of it, and a page that shows all of them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.intensity import from_dict
from medgan.data.store import StoredCase
from medgan.data.volume import read_volume

_UNITS = {"ct": "HU", "mr": "MR signal as stored", "other": "as stored"}


def draw_quality(case: StoredCase, original: Path, folder: Path, *, modality: str, classes: Mapping[int, str]) -> Path:
    """Write ``<subject>_<domain>.png``, unless it stands there and is younger than the case; returns its path.

    Three cuts through the body: the file on the working grid, the prepared image with the body's outline, its labels. A
    patient who was laid onto another grid is seen before at the place where the file has it.

    Args:
        case: prepared.
        original: the file that it was made from.
        folder: of the pictures.
        modality: ct, mr or other.
        classes: names of the labels.
    """
    from medgan.pictures import Panel, draw_cuts  # imported late: matplotlib takes a second

    path = folder / f"{case.subject}_{case.domain}.png"
    made = (case.folder / "case.json").stat().st_mtime_ns
    if path.exists() and path.stat().st_mtime_ns >= made:
        return path
    affine = np.array(case.meta["affine"])
    image, body = np.asarray(case.image, dtype=np.float32), np.asarray(case.body)
    before = _on_grid(original, affine, case.shape)
    inside = before[body] if body.any() else before
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))
    inner = {value: name for value, name in classes.items() if value > 0}
    body_value = max(inner, default=0) + 1
    outline = np.where(body, body_value, 0)
    panels = [
        Panel("as stored", before, (low, max(high, low + 1e-6)), _UNITS[modality]),
        Panel("prepared", image, (-1.0, 1.0), "what networks see", outlines=((outline, "dotted", "outline"),)),
    ]
    label = case.label
    if label is not None:
        shown = np.maximum(np.asarray(label), 0)
        panels.append(Panel("labels", image, (-1.0, 1.0), "what networks see", outlines=((shown, "solid", "labels"),)))
    figure = draw_cuts(panels, affine, _middle(body), {**inner, body_value: "body"})
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.png")
    figure.savefig(partial, dpi=110)
    partial.replace(path)
    return path


def write_contact_sheet(folder: Path, cases: Sequence[StoredCase], domains: Mapping[str, Any]) -> Path:
    """``index.html`` beside the pictures: all cases, domain by domain, each with what its map did to its values."""
    parts = []
    for side in sorted(domains):
        mine = [case for case in cases if case.domain == side]
        parts.append(f"<h2>{html.escape(domains[side]['name'])}, {len(mine)} cases</h2><main>")
        for case in mine:
            subject, picture = html.escape(case.subject), html.escape(f"{case.subject}_{side}.png")
            low, high = from_dict(case.meta["intensity"]).ends  # type: ignore[union-attr]
            size = " x ".join(map(str, case.shape))
            mm = " x ".join(f"{one:.3g}" for one in case.meta["spacing_mm"])
            parts.append(
                f'<figure><a href="{picture}"><img loading="lazy" src="{picture}" alt="{subject}"></a>'
                f"<figcaption><b>{subject}</b> {case.split}<br>{size} voxels of {mm} mm<br>"
                f"{low:.4g} to {high:.4g} became -1 to 1</figcaption></figure>"
            )
        parts.append("</main>")
    page = folder / "index.html"
    page.write_text(_PAGE.format(body="\n".join(parts)), encoding="utf-8")
    return page


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Prepared cases</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 90rem; padding: 0 1.5rem; }}
main {{ display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }}
figure {{ margin: 0; padding: .8rem; border: 1px solid #8884; border-radius: .5rem; }}
img {{ width: 100%; background: white; border-radius: .3rem; }}
figcaption {{ margin-top: .5rem; font-size: .87rem; }}
</style>
<h1>Prepared cases</h1>
<p>Left to right: the file on the working grid, the prepared image with the outline of the body, its labels.</p>
{body}
</html>
"""


def _on_grid(original: Path, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """The file sampled where the voxels of the working grid lie; the border goes on outside."""
    volume = read_volume(original, dtype=np.float32)
    to_file = np.linalg.inv(volume.affine) @ affine
    array = np.nan_to_num(volume.array, posinf=0.0, neginf=0.0)
    sampled = ndimage.affine_transform(
        array, to_file[:3, :3], to_file[:3, 3], output_shape=shape, order=1, mode="nearest"
    )
    return np.asarray(sampled, dtype=np.float32)


def _middle(body: NDArray[np.bool_]) -> list[int]:
    """The voxel in the middle of the body, slice by slice where most of it is."""
    if not body.any():
        return [n // 2 for n in body.shape]
    return [
        int(np.average(np.arange(n), weights=body.sum(axis=tuple({0, 1, 2} - {axis}))))
        for axis, n in enumerate(body.shape)
    ]
