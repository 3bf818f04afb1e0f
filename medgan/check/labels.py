"""A label map beside its image: grid, values, and whether anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medgan.check.findings import Finding, finding
from medgan.check.volumes import Facts
from medgan.data import geometry

UNLABELLED = -1
_MOST_SHOWN = 8


def label_findings(
    label: Facts, images: Sequence[Facts], classes: Mapping[int, str], *, is_sure: bool
) -> list[Finding]:
    """What is wrong with a label map.

    Args:
        label: of the map.
        images: that it may belong to; it has to fit one of them.
        classes: values and names, {} when not known.
        is_sure: whether the images are known to be its own; else they are those that lie beside it.
    """
    findings = _grid(label, images, is_sure=is_sure)
    if not label.values:
        return findings
    values = [value for value, _ in label.values]
    known = {*classes, UNLABELLED} if classes else set(range(UNLABELLED, max(values) + 1))
    foreign = [value for value in values if value not in known]
    if foreign:
        listed = ", ".join(map(str, foreign[:_MOST_SHOWN])) + (", ..." if len(foreign) > _MOST_SHOWN else "")
        allowed = f"0 to {max(classes)}, or -1 for unlabelled" if classes else "0 or more, or -1 for unlabelled"
        findings.append(finding("label_values", label.place, f"label values {listed} are not {allowed}"))
    if set(values) <= {0, UNLABELLED}:
        findings.append(finding("label_empty", label.place, "only background"))
    return findings


def _grid(label: Facts, images: Sequence[Facts], *, is_sure: bool) -> list[Finding]:
    reasons = [reason for image in images if (reason := _apart(label, image))]
    if not images or len(reasons) < len(images):
        return []
    if is_sure:
        return [finding("label_grid", label.place, reasons[0])]
    return [finding("label_apart", label.place, f"it fits none of {len(images)} beside it: {reasons[0]}")]


def _apart(label: Facts, image: Facts) -> str:
    """How the grids of a label map and its image differ; empty when a voxel of one is that voxel of the other."""
    if label.shape != image.shape:
        return f"label map of shape {label.shape} on an image of shape {image.shape}"
    one, other = np.array(label.affine), np.array(image.affine)
    apart = geometry.largest_displacement_mm(one, other, label.shape)
    if apart > min(image.spacing_mm) / 2:
        return f"label map lies up to {apart:.1f} mm off its image"
    return ""
