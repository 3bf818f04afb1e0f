"""One HTML page about a run: numbers with their intervals, tables, curves, and every case in pictures.

Reads files, not models. The page loads nothing from anywhere, so that it can be sent and kept.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.progress import track

from medgan.config import InputError, StrictModel, read_yaml, suggest, validate
from medgan.data.store import read_json
from medgan.data.volume import Volume, read_volume
from medgan.rundir import Direction, RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medgan.pictures import Style

_INK = "#808894"  # readable on white and on black
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_METRICS = {  # title, unit, decimals, whether a low value is good
    "mae": ("MAE", "", 1, True),
    "bias": ("bias", "", 1, True),
    "psnr": ("PSNR", "dB", 1, False),
    "ssim": ("SSIM", "", 3, False),
    "dice": ("Dice", "", 3, False),
    "hd95_mm": ("HD95", "mm", 1, True),
    "hd95_found_mm": ("HD95 without missed", "mm", 1, True),
    "missed": ("missed organs", "", 2, True),
    "spurious": ("spurious organs", "", 2, True),
}


class ReportOptions(StrictModel):
    """The `report:` section."""

    max_cases: int = Field(12, ge=0, description="cases shown in pictures in each direction, the worst first")
    ct_window_hu: tuple[float, float] = Field((-250.0, 450.0), description="HU drawn black and white")
    difference_hu: float = Field(300.0, gt=0, description="HU off the truth at the ends of the colour bar")
    previews: int = Field(6, ge=0, description="training previews shown, evenly over the training")


@dataclass(frozen=True)
class _Shown:
    """A case of the summary and what its direction has in common."""

    part: Mapping[str, Any]
    case: Mapping[str, Any]

    @property
    def scores(self) -> Mapping[str, float | None]:
        return self.case["methods"].get("translation", {})  # type: ignore[no-any-return]


def report(run: RunDir | Path | str, options: ReportOptions | None = None) -> Path:
    """Write ``report/index.html`` of a run from what its verbs have left so far, and return its path.

    Args:
        run: folder of the run.
        options: None takes the `report:` section of the run.

    Raises:
        InputError: no run there, or a file of it that cannot be read.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    if not run.experiment_yaml.is_file():
        raise InputError(f"{run.path}: holds no run (no {run.experiment_yaml.name}); give the folder of one")
    settings = read_yaml(run.experiment_yaml)
    options = options or validate(ReportOptions, settings.get("report", {}), "report")
    summary_file = run.evaluate / "summary.json"
    summary = read_json(summary_file) if summary_file.is_file() else None
    environment = read_json(run.environment_json) if run.environment_json.is_file() else {}
    title = str(settings.get("name") or run.path.resolve().name)
    sections = [
        ("results", "Results", _results(summary)),
        ("cases", "Cases", _cases(summary)),
        ("pictures", "Pictures", "".join(_pictures(run, summary, options))),
        ("training", "Training", _training(run.train, options.previews)),
        ("run", "Run", _provenance(environment, run.experiment_yaml.read_text(encoding="utf-8"))),
    ]
    page = _page(title, _subtitle(settings, environment), [section for section in sections if section[2]])
    run.report.mkdir(parents=True, exist_ok=True)
    target = run.report / "index.html"
    partial = target.with_name(f".index.html.{os.getpid()}")
    partial.write_text(page, encoding="utf-8")
    partial.replace(target)
    return target


def figure(
    run: RunDir | Path | str,
    case: str,
    direction: Direction | None = None,
    options: ReportOptions | None = None,
    *,
    ink: str = "#222222",
) -> Figure:
    """Three orthogonal cuts of a case's source, translation, truth, difference and outlines, for papers and pages.

    Args:
        run: folder of an evaluated run.
        case: the subject.
        direction: None takes the first in which the case was translated.
        options: windows of the pictures.
        ink: colour of the writing.

    Raises:
        InputError: the run was not evaluated, has no such case, or a file of the case cannot be read.
    """
    run = run if isinstance(run, RunDir) else RunDir(Path(run))
    summary_file = run.evaluate / "summary.json"
    if not summary_file.is_file():
        raise InputError(f"{run.path}: not evaluated; run `medgan evaluate {run.path}` first")
    summary = read_json(summary_file)
    found = {
        entry["subject"]: _Shown(part, entry)
        for way, part in reversed(summary["directions"].items())
        if direction in (None, way)
        for entry in part["cases"]
    }
    if case not in found:
        raise InputError(f"{run.path}: no case '{case}'; {suggest(case, found)}")
    return _draw(run, summary, found[case], options or ReportOptions(), ink)


def _draw(run: RunDir, summary: Mapping[str, Any], shown: _Shown, options: ReportOptions, ink: str) -> Figure:
    from medgan.pictures import Panel, draw_cuts

    paths = {key: run.path / path for key, path in shown.case["files"].items()}
    volumes = {key: read_volume(path) for key, path in paths.items()}
    translation = volumes["translation"]
    mask = _mask_of(run, summary, shown, translation)
    source, target = shown.part["source"], shown.part["target"]

    def window(side: Mapping[str, str], key: str) -> tuple[float, float]:
        if side["modality"] == "ct":
            return options.ct_window_hu
        return _percentiles(volumes[key].array, mask)

    truth = "reference" if "reference" in volumes else "translation"
    span = window(target, truth)
    unit = _unit(target, span)
    panels = []
    if "source" in volumes:
        own = window(source, "source")
        panels.append(Panel(f"source ({source['name']})", volumes["source"].array, own, _unit(source, own)))
    panels.append(Panel(f"translation ({target['name']})", translation.array, span, unit))
    if "reference" in volumes:
        difference = translation.array.astype(np.float32) - volumes["reference"].array
        end = options.difference_hu if target["modality"] == "ct" else (span[1] - span[0]) / 2
        word = "HU" if target["modality"] == "ct" else "stored units"
        panels.append(Panel(f"truth ({target['name']})", volumes["reference"].array, span, unit))
        panels.append(
            Panel("translation - truth", difference, (-end, end), f"{word}, inside the mask", "RdBu_r", where=mask)
        )
    classes = {int(label): name for label, name in summary["classes"].items()}
    kinds: tuple[tuple[str, Style, str], ...] = (
        ("segmentation", "solid", "read off the translation"),
        ("reference_label" if "reference_label" in volumes else "label", "dotted", "label"),
    )
    outlines = tuple((volumes[key].array, style, word) for key, style, word in kinds if key in volumes)
    if outlines and classes:
        panels.append(Panel("outlines", translation.array, span, unit, outlines=outlines))
    centre = [int(np.median(where)) for where in np.nonzero(mask)]
    return draw_cuts(panels, translation.affine, centre, classes, ink=ink)


def _mask_of(run: RunDir, summary: Mapping[str, Any], shown: _Shown, like: Volume) -> NDArray[np.bool_]:
    """The mask that the case was scored in; everywhere if it was not kept."""
    way = next(way for way, part in summary["directions"].items() if part is shown.part)
    path = run.evaluate / way / f"{shown.case['subject']}_mask.nii.gz"
    return read_volume(path).array > 0 if path.is_file() else np.ones(like.array.shape, dtype=bool)


def _percentiles(image: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = (float(value) for value in np.nanpercentile(image[mask], (0.5, 99.5)))
    return (low, high) if low < high else (low, low + 1)


def _unit(side: Mapping[str, str], window: tuple[float, float]) -> str:
    if side["modality"] == "ct":
        return f"HU, window {window[0]:g} to {window[1]:g}"
    return f"stored units, {window[0]:.0f} to {window[1]:.0f}"


def _results(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return "<p class='quiet'>Not evaluated yet: <code>medgan evaluate</code> adds the numbers.</p>"
    kind = summary["options"]["mask"]
    where = {"body": "inside the source's body", "common": "inside the body that both images show"}.get(kind)
    erosion = summary["options"]["erosion_mm"]
    where = (where or "in the whole volume") + (f", without a rim of {erosion:g} mm" if erosion else "")
    text = [
        f"<p class='quiet'>Images are compared {where}. Intervals: 95 %, bootstrap over patients; n: cases. "
        "Missed and spurious organs count Dice 0 and the image's diagonal as HD95.</p>"
    ]
    for part in summary["directions"].values():
        text.append(f"<h3>{escape(part['title'])}</h3><div class='cards'>{''.join(_cards(part))}</div>")
        text.append(_methods_table(part))
        text.append(_parts_table(part))
    return "".join(text)


def _cards(part: Mapping[str, Any]) -> Iterator[str]:
    scores = part["methods"].get("translation", {})
    for metric in ("mae", "psnr", "ssim", "dice", "hd95_mm", "missed", "spurious"):
        entry = scores.get(metric)
        if not entry or not entry["count"] or entry["mean"] is None:
            continue
        title, unit, decimals, _ = _METRICS[metric]
        unit = unit or (_image_unit(part) if metric == "mae" else "")
        if metric in ("missed", "spurious"):
            total = round(entry["mean"] * entry["count"])
            warn = " warn" if total else ""
            beside = f"in {entry['count']} cases"
            value = str(total)
        else:
            warn, value = "", f"{entry['mean']:.{decimals}f}"
            beside = f"{_interval(entry, decimals)} n = {entry['count']}"
        yield (
            f"<div class='card{warn}'><div class='name'>{title}</div>"
            f"<div class='value'>{value} <small>{unit}</small></div><div class='beside'>{beside}</div></div>"
        )


def _methods_table(part: Mapping[str, Any]) -> str:
    methods = part["methods"]
    columns = [m for m in _METRICS if any(scores.get(m, {}).get("count") for scores in methods.values())]
    span = part["data_range"]
    caption = "Mean and 95 % interval over patients"
    if span and "psnr" in columns:
        caption += f"; PSNR and SSIM over a range of {span[0]:g} to {span[1]:g} {_image_unit(part)}"
    heads = [_head(metric, part) for metric in columns]
    rows = [[escape(name), *(_entry(scores.get(m), m) for m in columns)] for name, scores in methods.items()]
    return _table(["method", *heads], rows, caption)


def _parts_table(part: Mapping[str, Any]) -> str:
    """What is measured per tissue, region or organ: a row for each, a column per method and metric."""
    metrics = dict.fromkeys(m for scores in part["methods"].values() for m in scores if "/" in m)
    names = list(dict.fromkeys(metric.partition("/")[2] for metric in metrics))
    columns = [
        (method, kind)
        for kind in dict.fromkeys(metric.partition("/")[0] for metric in metrics)
        for method, scores in part["methods"].items()
        if any(scores.get(f"{kind}/{name}", {}).get("count") for name in names)
    ]
    heads = [f"{_head(kind, part)}, {escape(method)}" for method, kind in columns]
    rows = [
        [escape(name), *(_entry(part["methods"][method].get(f"{kind}/{name}"), kind) for method, kind in columns)]
        for name in names
    ]
    return _table(["part", *heads], rows, "By tissue, region and organ") if rows and columns else ""


def _cases(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return ""
    text = []
    for part in summary["directions"].values():
        shown = _worst_first(part)
        columns = [m for m in _METRICS if any(one.scores.get(m) is not None for one in shown)]
        tables = [name for name in part["methods"] if name != "translation"]
        heads = [*(_head(metric, part) for metric in columns), *(f"MAE, {escape(name)}" for name in tables)]
        rows = []
        for one in shown:
            values = [(one.scores.get(metric), _METRICS[metric][2]) for metric in columns]
            values += [(one.case["methods"].get(name, {}).get("mae"), 1) for name in tables]
            cells = [("", "") if v is None else (f"{v:.{d}f}", f"{v:.6g}") for v, d in values]
            rows.append([escape(one.case["subject"]), *(f"<!--{key}-->{text}" for text, key in cells)])
        text.append(f"<h3>{escape(part['title'])}</h3>")
        text.append(_table(["case", *heads], rows, "Worst first; a click on a head sorts", sortable=True))
    return "".join(text)


def _worst_first(part: Mapping[str, Any]) -> list[_Shown]:
    shown = [_Shown(part, case) for case in part["cases"]]

    def badness(one: _Shown) -> float:
        for metric in ("mae", "dice"):
            value = one.scores.get(metric)
            if value is not None:
                return value if _METRICS[metric][3] else -value
        return -np.inf

    return sorted(shown, key=badness, reverse=True)


def _pictures(run: RunDir, summary: Mapping[str, Any] | None, options: ReportOptions) -> Iterator[str]:
    for part in summary["directions"].values() if summary else ():
        shown = _worst_first(part)
        yield f"<h3>{escape(part['title'])}</h3>"
        for one in track(shown[: options.max_cases], description=f"pictures, {part['title']}"):
            assert summary is not None
            drawn = _draw(run, summary, one, options, _INK)
            subject, numbers = escape(one.case["subject"]), ", ".join(_facts(one))
            yield (
                f"<figure class='case' id='{escape(part['title'])} {subject}'>"
                f"<figcaption><b>{subject}</b> &nbsp; {numbers}</figcaption>"
                f"<img loading='lazy' alt='cuts of {subject}' src='{_data_uri(drawn)}'></figure>"
            )
        if len(shown) > options.max_cases:
            rest = len(shown) - options.max_cases
            yield f"<p class='quiet'>{rest} more cases are not shown; raise <code>report.max_cases</code>.</p>"


def _facts(one: _Shown) -> Iterator[str]:
    for metric, (title, unit, decimals, _) in _METRICS.items():
        value = one.scores.get(metric)
        if value is not None and metric not in ("bias", "hd95_found_mm"):
            unit = unit or (_image_unit(one.part) if metric == "mae" else "")
            yield f"{title} {value:.{0 if metric in ('missed', 'spurious') else decimals}f} {unit}".strip()


def _data_uri(drawn: Figure) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(drawn)
    file = io.BytesIO()
    drawn.savefig(file, format="webp", dpi=110, transparent=True, pil_kwargs={"quality": 88})
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _training(folder: Path, previews: int) -> str:
    text = []
    for name, title in (("losses.jsonl", "Losses"), ("validation.jsonl", "Validation")):
        lines = _read_lines(folder / name)
        for player, terms in groupby(sorted(_terms(lines)), key=lambda term: term.partition("/")[0] * ("/" in term)):
            curves = "".join(_curve(term, [(x["step"], x[term]) for x in lines if term in x]) for term in terms)
            text.append(f"<h3>{title}{f', {escape(player)}' if player else ''}</h3><div class='curves'>{curves}</div>")
    found = sorted((folder / "previews").glob("*.png"))
    if found and previews:
        columns_file = folder / "previews" / "columns.json"
        columns = ", ".join(map(str, read_json(columns_file))) if columns_file.is_file() else ""
        kept = [found[i] for i in sorted({round(i) for i in np.linspace(0, len(found) - 1, previews)})][::-1]
        text.append(f"<h3>Previews</h3><p class='quiet'>From left to right: {escape(columns)}</p>" if columns else "")
        for path in kept:
            uri, step = base64.b64encode(path.read_bytes()).decode(), path.stem.lstrip("0") or "0"
            text.append(
                f"<details class='preview'{' open' if path is kept[0] else ''}><summary>step {step}</summary>"
                f"<img alt='preview at step {step}' src='data:image/png;base64,{uri}'></details>"
            )
    return "".join(text)


def _read_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a JSON-lines file; a last line that is still being written is left out."""
    lines: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _terms(lines: Sequence[Mapping[str, float]]) -> set[str]:
    return {key for line in lines for key, value in line.items() if key != "step" and isinstance(value, int | float)}


def _curve(term: str, points: Sequence[tuple[float, float]]) -> str:
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


def _provenance(environment: Mapping[str, Any], configuration: str) -> str:
    packages = environment.get("packages") or {}
    facts = {key: value for key, value in environment.items() if key != "packages" and value not in (None, [], "")}
    facts |= {name: number for name, number in packages.items() if number}
    rows = [[escape(str(key)), f"<code>{escape(_plain(value))}</code>"] for key, value in facts.items()]
    table = _table(["what", "value"], rows, "What the run ran on", text=True) if rows else ""
    return (
        f"{table}<details><summary>configuration, every default written out</summary>"
        f"<pre>{escape(configuration)}</pre></details>"
    )


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _image_unit(part: Mapping[str, Any]) -> str:
    return "HU" if part["target"]["modality"] == "ct" else ""


def _head(metric: str, part: Mapping[str, Any]) -> str:
    title, unit, _, _ = _METRICS.get(metric, (metric, "", 3, True))
    unit = unit or (_image_unit(part) if metric in ("mae", "bias") else "")
    return f"{title} ({unit})" if unit else title


def _entry(entry: Mapping[str, Any] | None, metric: str) -> str:
    if not entry or not entry["count"] or entry["mean"] is None:
        return ""
    decimals = _METRICS[metric][2]
    missing = f", {entry['without']} without" if entry["without"] else ""
    return f"{entry['mean']:.{decimals}f} <small>{_interval(entry, decimals)} n = {entry['count']}{missing}</small>"


def _interval(entry: Mapping[str, Any], decimals: int) -> str:
    if entry["low"] is None or entry["high"] is None:
        return ""
    return f"[{entry['low']:.{decimals}f}, {entry['high']:.{decimals}f}]"


def _table(
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


def _subtitle(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    recipe = settings.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    versions = environment.get("packages") or {}
    facts = [name, f"medgan {versions['medgan']}" if versions.get("medgan") else None, environment.get("command")]
    return " &middot; ".join(escape(str(fact)) for fact in facts if fact)


def _page(title: str, subtitle: str, sections: Sequence[tuple[str, str, str]]) -> str:
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
