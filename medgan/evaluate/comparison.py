"""Several sets of translations of the same cases against each other: who is better, by how much, and is it chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from medgan.data.store import write_json
from medgan.evaluate.predictions import refuse
from medgan.evaluate.scoring import TRANSLATION
from medgan.evaluate.summary import MAIN_METRICS, cell, without_nan, write_csv
from medgan.metrics.statistics import holm, paired_wilcoxon, summarize

_COLUMNS = (
    "direction", "metric", "first", "second", "count", "mean_first", "mean_second", "difference", "low", "high", "p",
    "p_holm",
)  # fmt: skip


def compare(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The contents of ``comparison.json``: per direction and metric the means of each, and every pair's difference.

    Args:
        summaries: what `evaluate_run` or `evaluate_folders` returned, by name; at least two.

    A difference is first minus second, over the cases in which both have a value, with its 95 % bootstrap interval
    over patients and the p-value of Wilcoxon's signed-rank test, two-sided; ``p_holm`` is corrected (Holm 1979) over
    the pairs of one metric, not over metrics: choose the metric beforehand. Only translations are compared; lookup
    tables, equal in all, stand in each summary.

    Raises:
        InputError: directions, cases or options that are not the same in all; every difference has its line.
    """
    refuse(_different(summaries))
    first = next(iter(summaries.values()))
    parts = {
        way: {
            "title": part["title"],
            "metrics": {metric: _compared(summaries, way, metric) for metric in _metrics(summaries, way)},
        }
        for way, part in first["directions"].items()
    }
    compared: dict[str, Any] = without_nan({"names": list(summaries), "options": first["options"], "directions": parts})
    return compared


def _different(summaries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for whatever keeps sets from being compared with the first one."""
    (name, first), *others = summaries.items()
    for other, summary in others:
        if summary["options"] != first["options"]:
            keys = [key for key in first["options"] if first["options"][key] != summary["options"].get(key)]
            yield f"{other}: evaluate.{keys[0]} differs from {name}'s; set one value for all with --set"
        if list(summary["directions"]) != list(first["directions"]):
            there, here = (" and ".join(one["directions"]) or "nothing" for one in (summary, first))
            yield f"{other}: has translated {there}, {name} {here}; name one of them with --direction"
            continue
        for way, part in first["directions"].items():
            mine = {case["subject"] for case in part["cases"]}
            theirs = {case["subject"] for case in summary["directions"][way]["cases"]}
            yield from (
                f"{other}: no case {subject}, which {name} has; translate it" for subject in sorted(mine - theirs)
            )
            yield from (
                f"{name}: no case {subject}, which {other} has; translate it" for subject in sorted(theirs - mine)
            )
            if summary["directions"][way]["data_range"] != part["data_range"]:
                yield f"{other}: another data range than {name}'s; set evaluate.data_range for both with --set"


def _metrics(summaries: Mapping[str, Mapping[str, Any]], way: str) -> list[str]:
    """The metrics that all of them have."""
    have = [summary["directions"][way]["methods"].get(TRANSLATION, {}) for summary in summaries.values()]
    return [metric for metric in have[0] if all(metric in other for other in have[1:])]


def _compared(summaries: Mapping[str, Mapping[str, Any]], way: str, metric: str) -> dict[str, Any]:
    values = {name: _values(summary["directions"][way], metric) for name, summary in summaries.items()}
    patients = list(next(iter(values.values())))
    pairs = [_pair(first, second, values, patients) for first, second in combinations(values, 2)]
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = corrected
    means = {name: summary["directions"][way]["methods"][TRANSLATION][metric] for name, summary in summaries.items()}
    return {"means": means, "pairs": pairs}


def _values(part: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The metric of each case, NaN where it has none."""
    scores = {case["subject"]: case["methods"].get(TRANSLATION, {}).get(metric) for case in part["cases"]}
    return {subject: math.nan if value is None else float(value) for subject, value in scores.items()}


def _pair(
    first: str, second: str, values: Mapping[str, Mapping[str, float]], patients: Sequence[str]
) -> dict[str, Any]:
    a, b = ([values[name][patient] for patient in patients] for name in (first, second))
    difference = summarize([x - y for x, y in zip(a, b, strict=True)], patients)
    return {"first": first, "second": second, "difference": asdict(difference), "p": paired_wilcoxon(a, b)}


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> None:
    """Write ``comparison.json`` and, a row for each pair and metric, ``comparison.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "comparison.csv", _COLUMNS, list(_csv_rows(comparison)))
    write_json(folder / "comparison.json", comparison)


def _csv_rows(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for way, part in comparison["directions"].items():
        for metric, compared in part["metrics"].items():
            for pair in compared["pairs"]:
                first, second, difference = pair["first"], pair["second"], pair["difference"]
                numbers = {
                    "mean_first": compared["means"][first]["mean"],
                    "mean_second": compared["means"][second]["mean"],
                }
                numbers |= {"difference": difference["mean"], "low": difference["low"], "high": difference["high"]}
                numbers |= {"p": pair["p"], "p_holm": pair["p_holm"]}
                told = {key: "" if value is None else f"{value:.6g}" for key, value in numbers.items()}
                facts = {"direction": way, "metric": metric, "first": first, "second": second}
                yield facts | {"count": difference["count"]} | told


def comparison_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and rows of a short table: per direction and main metric each mean, then each pair's difference."""
    names = comparison["names"]
    pairs = [f"{first} - {second}" for first, second in combinations(names, 2)]
    rows = []
    for part in comparison["directions"].values():
        for metric in MAIN_METRICS:
            if metric in part["metrics"]:
                compared = part["metrics"][metric]
                means = [cell(compared["means"][name]) for name in names]
                rows.append([part["title"], metric, *means, *(_difference(pair) for pair in compared["pairs"])])
    return ["direction", "metric", *names, *pairs], rows


def _difference(pair: Mapping[str, Any]) -> str:
    p = pair["p_holm"]
    return cell(pair["difference"]) + ("" if p is None else f", p = {p:.2g}")
