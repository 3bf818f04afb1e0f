"""Scores as they are written and shown: per case in ``cases.csv``, over patients in ``summary.json``, as a table."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgan.data.store import write_json
from medgan.evaluate.scoring import CaseResult, EvaluateOptions, Scoring
from medgan.metrics.presets import PRESETS
from medgan.metrics.statistics import summarize
from medgan.metrics.tables import TISSUE_COLUMNS, VOLUME_COLUMNS, tissue_rows, volume_rows

_FACTS = ("direction", "subject", "split", "method", "labels_of", "voxels")
MAIN_METRICS = ("mae", "psnr", "ssim", "dice", "hd95_mm", "missed", "spurious", "cycle_error")


def direction_summary(scoring: Scoring, results: Sequence[CaseResult], start: Path, title: str) -> dict[str, Any]:
    """One direction of ``summary.json``: means over patients by method and metric, every case; paths from `start`."""
    methods = list(dict.fromkeys(name for result in results for name in result.scores))
    patients = [result.files.subject for result in results]
    return {
        "title": title,
        "source": {"name": scoring.source.name, "modality": scoring.source.modality},
        "target": {"name": scoring.target.name, "modality": scoring.target.modality},
        "data_range": scoring.data_range,
        "methods": {
            method: {
                metric: asdict(summarize([r.scores.get(method, {}).get(metric, math.nan) for r in results], patients))
                for metric in _metrics(results, method)
            }
            for method in methods
        },
        "cases": [_case_entry(result, start) for result in results],
    }


def _case_entry(result: CaseResult, start: Path) -> dict[str, Any]:
    paths = {key: value for key, value in asdict(result.files).items() if key != "features"}
    files = {key: _told(value, start) for key, value in paths.items() if isinstance(value, Path)}
    facts = {"subject": result.files.subject, "split": result.files.split, "files": files}
    return {**facts, "labels_of": result.labels_of, "voxels": result.voxels, "methods": result.scores}


def _told(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _metrics(results: Sequence[CaseResult], method: str) -> list[str]:
    """The metrics that some case has, in the order in which they came up."""
    return list(dict.fromkeys(metric for result in results for metric in result.scores.get(method, {})))


def write_summary(
    folder: Path, parts: Mapping[str, Any], classes: Mapping[int, str], options: EvaluateOptions
) -> dict[str, Any]:
    """Write ``cases.csv``, ``tissues.csv``, ``volumes.csv`` and ``summary.json``; returns what the last one holds."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(_csv_rows(parts))
    write_csv(
        folder / "cases.csv", [*_FACTS, *dict.fromkeys(key for row in rows for key in row if key not in _FACTS)], rows
    )
    write_csv(folder / "tissues.csv", TISSUE_COLUMNS, [_told_row(row) for row in _tissue_rows(parts)])
    write_csv(folder / "volumes.csv", VOLUME_COLUMNS, [_told_row(row) for row in _volume_rows(parts)])
    summary = without_nan({"options": options.model_dump(mode="json"), "classes": dict(classes), "directions": parts})
    write_json(folder / "summary.json", summary)
    return json.loads(json.dumps(summary))  # type: ignore[no-any-return]


def _csv_rows(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for way, part in parts.items():
        for case in part["cases"]:
            for method, scores in case["methods"].items():
                facts = {"direction": way, "subject": case["subject"], "split": case["split"], "method": method}
                facts |= {"labels_of": case["labels_of"], "voxels": case["voxels"]}
                yield facts | {name: _number(value) for name, value in scores.items()}


def _tissue_rows(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for way, part in parts.items():
        yield from tissue_rows(way, part["methods"])


def _volume_rows(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for way, part in parts.items():
        yield from volume_rows(
            way, {m: [case["methods"].get(m, {}) for case in part["cases"]] for m in part["methods"]}
        )


def _told_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) if isinstance(value, float) else value for key, value in row.items()}


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file whole or not at all; a row without a value for a column leaves it empty."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of a short table of a summary: per direction and method the main means and intervals."""
    methods = [
        (part, name, scores) for part in summary["directions"].values() for name, scores in part["methods"].items()
    ]
    columns = [
        metric for metric in MAIN_METRICS if any(scores.get(metric, {}).get("count") for _, _, scores in methods)
    ]
    rows = [[part["title"], name, *(cell(scores.get(metric)) for metric in columns)] for part, name, scores in methods]
    return ["direction", "method", *columns], rows


def presets_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of what presets give: per direction, method and preset the means and intervals.

    There are no rows where no preset was asked for.
    """
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for part in summary["directions"].values():
        for method, scores in part["methods"].items():
            for key, entry in scores.items():
                preset, _, metric = key.partition("/")
                if preset in PRESETS and metric:
                    found.setdefault((part["title"], method, preset), {})[metric] = cell(entry)
    columns = list(dict.fromkeys(metric for told in found.values() for metric in told))
    rows = [[*names, *(told.get(metric, "-") for metric in columns)] for names, told in found.items()]
    return ["direction", "method", "preset", *columns], rows


def cell(entry: Mapping[str, Any] | None) -> str:
    """A mean with its interval and count as text, ``-`` where there is none."""
    if not entry or not entry["count"]:
        return "-"
    if entry["mean"] is None:  # JSON has no infinity: the PSNR of an image without error
        return f"inf (n={entry['count']})"
    interval = "" if None in (entry["low"], entry["high"]) else f" [{entry['low']:.3g}, {entry['high']:.3g}]"
    return f"{entry['mean']:.3g}{interval} (n={entry['count']})"
