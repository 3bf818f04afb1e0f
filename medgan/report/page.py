"""The building blocks of the report's page: tables that sort, small charts, and the page that holds its own style.

Nothing here loads anything from anywhere. Cells and sections are HTML already; titles, names and captions are escaped.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'self' file:"  # volumes beside the page
)


def curve(term: str, points: Sequence[tuple[float, float]]) -> str:
    """A small chart of one term: each logged value faintly, a running mean on top."""
    width, height, left, bottom, top = 300, 120, 40, 16, 8
    steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if not values.size:
        return ""
    smooth = _running_mean(values)
    low, high = float(np.percentile(values, 0.5)), float(np.percentile(values, 99.5))
    low, high = min(low, smooth.min()), max(high, smooth.max())
    if not low < high:
        low, high = low - 0.5, high + 0.5
    thin = np.unique(np.linspace(0, len(steps) - 1, 300).round().astype(int))
    end = max(float(steps[-1]), 1.0)

    def line(y: NDArray[Any]) -> str:
        x = left + (width - left - 4) * steps[thin] / end
        y = height - bottom - (height - bottom - top) * (np.clip(y[thin], low, high) - low) / (high - low)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    return (
        f"<figure><figcaption>{escape(term)}<span>{values[-1]:.3g}</span></figcaption>"
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(term)} over training'>"
        f"<path class='frame' d='M{left} {top}V{height - bottom}H{width - 4}'/>"
        f"<text x='{left - 4}' y='{top + 7}' text-anchor='end'>{high:.3g}</text>"
        f"<text x='{left - 4}' y='{height - bottom}' text-anchor='end'>{low:.3g}</text>"
        f"<text x='{left}' y='{height - 4}'>0</text>"
        f"<text x='{width - 4}' y='{height - 4}' text-anchor='end'>step {end:.0f}</text>"
        f"<polyline class='raw' points='{line(values)}'/><polyline class='smooth' points='{line(smooth)}'/>"
        "</svg></figure>"
    )


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of a twentieth of the curve, shorter at its ends."""
    reach = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    *,
    sortable: bool = False,
    sorted_by: tuple[int, str] | None = None,
    text: bool = False,
) -> str:
    """A table.

    Args:
        heads: HTML of each column's head.
        rows: HTML of each cell; ``<!--key-->`` in front of it is what it is sorted by.
        caption: plain text.
        sortable: heads are buttons.
        sorted_by: column, and "ascending" or "descending", that the rows are sorted by already.
        text: cells hold words rather than numbers.
    """

    def cell(value: str) -> str:
        key, found, rest = value.removeprefix("<!--").partition("-->")
        return f"<td data-value='{key}'>{rest}</td>" if found else f"<td{' class=text' if text else ''}>{value}</td>"

    def head(column: int, name: str) -> str:
        order = f" aria-sort='{sorted_by[1]}'" if sorted_by and sorted_by[0] == column else ""
        name = f"<button type='button'>{name}</button>" if sortable else name
        return f"<th scope='col'{' class=text' if text else ''}{order}>{name}</th>"

    top = "".join(head(column, name) for column, name in enumerate(heads))
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(caption or 'table')}'>"
        f"<table{' class=sortable' if sortable else ''}>{told}"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def strip(values: Sequence[float], mean: float, low: float | None, high: float | None, mark: float | None) -> str:
    """A dot per case, the mean with its interval, and a mark to compare with, on one line."""
    ends = [v for v in (*values, mean, low, high, mark) if v is not None and math.isfinite(v)]
    first, last = min(ends), max(ends)
    reach = (last - first) or 1.0

    def x(value: float) -> str:
        return f"{6 + 148 * (value - first) / reach:.1f}"

    dots = "".join(f"<circle class='one' cx='{x(v)}' cy='10' r='2.6'/>" for v in values if math.isfinite(v))
    bar = "" if low is None or high is None else f"<path class='bar' d='M{x(low)} 10H{x(high)}'/>"
    beside = "" if mark is None else f"<path class='mark' d='M{x(mark)} 3V17'/>"
    return (
        "<svg class='strip' viewBox='0 0 160 20' aria-hidden='true'><path class='frame' d='M4 10H156'/>"
        f"{bar}{dots}<circle class='mean' cx='{x(mean)}' cy='10' r='4'/>{beside}</svg>"
    )


def picture(drawn: Figure, words: str, *, dpi: int = 110) -> str:
    """A drawn figure as an image of the page; `words` tell it to those who do not see it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(drawn)
    file = io.BytesIO()
    drawn.savefig(file, format="webp", dpi=dpi, pil_kwargs={"quality": 88})
    uri = base64.b64encode(file.getvalue()).decode()
    width, height = (round(dpi * inches) for inches in drawn.get_size_inches())
    words = escape(words)
    return (
        f"<div class='still' tabindex='0' role='region' aria-label='{words}'><img loading='lazy' width='{width}' "
        f"height='{height}' alt='{words}' src='data:image/webp;base64,{uri}'></div>"
    )


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str, str]], scripts: str = "") -> str:
    """The whole page.

    Args:
        title: plain text.
        subtitle: HTML.
        sections: key, name and HTML of each.
        scripts: HTML of further scripts, after the page's own.
    """
    style, script = ((files("medgan.report") / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    links = "".join(f"<a href='#{key}'>{name}</a>" for key, name, _ in sections)
    body = "".join(
        f"<section id='{key}' aria-labelledby='{key}-head'><h2 id='{key}-head'>{name}</h2>{text}</section>"
        for key, name, text in sections
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p class='quiet'>{subtitle}</p></header>"
        f"<nav aria-label='Sections'>{links}</nav>"
        f"<main>{body}</main><script>{script}</script>{scripts}</body></html>\n"
    )


def written(target: Path, text: str) -> Path:
    """Write a page, or what lies beside it, so that a reader finds the old or the new one, and return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return target
