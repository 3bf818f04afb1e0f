"""The building blocks of the report's page: tables that sort, small charts, and the page that holds its own style.

Nothing here loads anything from anywhere. Cells and sections are HTML already; titles, names and captions are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


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
    heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str, *, sortable: bool = False, text: bool = False
) -> str:
    def cell(value: str) -> str:
        key, found, rest = value.removeprefix("<!--").partition("-->")
        return f"<td data-value='{key}'>{rest}</td>" if found else f"<td{' class=text' if text else ''}>{value}</td>"

    head = "".join(
        f"<th scope='col'{' class=text' if text else ''}>{f'<button>{h}</button>' if sortable else h}</th>"
        for h in heads
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return (
        f"<div class='scroll'><table{' class=sortable' if sortable else ''}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str, str]]) -> str:
    style, script = ((files("medgan") / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    links = "".join(f"<a href='#{key}'>{name}</a>" for key, name, _ in sections)
    body = "".join(f"<section id='{key}'><h2>{name}</h2>{text}</section>" for key, name, text in sections)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p class='quiet'>{subtitle}</p><nav>{links}</nav></header>"
        f"<main>{body}</main><script>{script}</script></body></html>\n"
    )
