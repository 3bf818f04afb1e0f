"""Figures of translated cases: every cut of one case, or several cases below each other for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgan.pictures import Panel, Style, draw_cuts
from medgan.views import Views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES: dict[str, tuple[Style, str]] = {
    "segmentation": ("solid", "read off the translation"),
    "label": ("dotted", "label"),
}


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
    outlines = tuple((array, *_STYLES[word]) for word, array in views.labels.items())
    shown = views.image("translation")
    if outlines and shown:
        panels.append(Panel("outlines", shown.image, shown.window, shown.scale, outlines=outlines))
    return draw_cuts(panels, views.affine, views.centre, views.classes, ink=ink, ground=ground)
