"""docs/results/performance.md out of what benchmark.py measured: tables, and how cost grows as a picture."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_STEPS = ("step", "step_demo", "step_gpu")
Found = Mapping[str, Sequence[Row]]


def write_page(page: Path, found: Found) -> None:
    """The page, its JSON and its picture; a part that was never measured is left out.

    Args:
        page: the Markdown file; the others lie beside it.
        found: rows by part.
    """
    lines = [
        "# Speed and memory, measured",
        "",
        f"`python3 scripts/benchmark.py --run runs/demo --page`: Python {platform.python_version()}, torch "
        f"{version('torch')}, on the machine that each section names. Medians; ways that are compared take turns in "
        "one run, each in processes of its own. What the figures mean: [performance](../performance.md). Numbers in "
        f"full: `{page.stem}.json`.",
    ]
    measured = [row for name in _STEPS for row in found.get(name, ())]
    sections = {steps: measured} | {section: found.get(name, ()) for name, section in SECTIONS.items()}
    for section, rows in sections.items():
        for number, (place, some) in enumerate(by_machine(rows).items()):
            told = section(some)
            start = next(row for row, line in enumerate(told) if line.startswith("|"))
            lines += ["", *(told[:start] if number == 0 else ()), f"On {place}:", "", *told[start:]]
    if any(found.get(name) for name in ("growth", "translation", "supply")):
        draw(page.with_suffix(".png"), found)
        lines += ["", "## How cost grows", "", f"![Curves of the rows in the JSON]({page.stem}.png)"]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def joined(before: Sequence[Row], now: Sequence[Row]) -> list[Row]:
    """The rows of a part as measured now, after those that other machines gave."""
    places = {row["on"] for row in now}
    return [row for row in before if row["on"] not in places] + list(now)


def by_machine(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that each machine gave."""
    return {place: [row for row in rows if row["on"] == place] for place in dict.fromkeys(row["on"] for row in rows)}


def processor() -> str:
    """How many cores of which kind, as the system names it, and its widest instructions."""
    info = Path("/proc/cpuinfo")
    lines = (info.read_text() if info.exists() else "").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = facts.get("flags", "").split()
    widest = [name for flag, name in (("avx512f", "AVX-512"), ("amx_bf16", "AMX")) if flag in has]
    kind = facts.get("model name", platform.machine())
    return f"{os.cpu_count()} cores of {kind}" + (f" ({', '.join(widest)})" if widest else "")


def steps(rows: Sequence[Row]) -> list[str]:
    """Seconds per step beside `plain` of the same recipe, patch and device."""
    lines = [
        "## The step",
        "",
        "The demo's networks, noise with labels, every term on, batch 1. `plain` computes the same losses the ordinary "
        "way (`scripts/plain_step.py`). Seconds are the clock's [lowest, highest], then the processor's over both "
        "cores. Share: operations of the step per second, of a matrix product's measured rate in the same type.",
        "",
        "| recipe | patch | way | seconds | processor's | times as fast as plain | peak GiB | share |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        same = [other for other in rows if all(other.get(k) == row.get(k) for k in ("recipe", "patch", "device"))]
        plain = next((other["median_s"] for other in same if other["way"] == "plain"), None)
        rates = next((other["rates"] for other in same if other.get("rates")), None)
        share = ""
        if rates and row["operations"]:
            rate = rates["bfloat16" if "bf16" in row["way"] or "autocast" in row["way"] else "float32"]
            share = f"{row['operations'] / row['median_s'] / rate:.0%}"
        ratio = f"{plain / row['median_s']:.2f}" if plain else ""
        ends = f"{row['median_s']:.3g} [{min(row['seconds']):.3g}, {max(row['seconds']):.3g}]"
        busy = f"{row['median_cpu_s']:.3g}"
        cells = (row["recipe"], by(row["patch"]), row["way"], ends, busy, ratio, f"{row['peak_gib']:.2f}", share)
        lines.append("| " + " | ".join(cells) + " |")
    return lines + losses(rows)


def losses(rows: Sequence[Row]) -> list[str]:
    """How far the losses of the first step are from those of `plain`."""
    lines = []
    for row in rows:
        same = [other for other in rows if all(other.get(k) == row.get(k) for k in ("recipe", "patch", "device"))]
        plain = next((other["losses"] for other in same if other["way"] == "plain"), None)
        if plain and row["way"] != "plain":
            gaps = {name: abs(row["losses"][name] / value - 1) for name, value in plain.items() if value}
            worst = max(gaps, key=lambda name: gaps[name])
            lines.append(f"* {row['recipe']}, {by(row['patch'])}, {row['way']}: {gaps[worst]:.1e} (`{worst}`)")
    return ["", "Largest relative difference of a loss from `plain`'s, first step:", "", *lines] if lines else []


def compiled(rows: Sequence[Row]) -> list[str]:
    """What compiling takes at the start, and gives."""
    lines = [
        "## `train.compile`",
        "",
        "The first step holds the compiling; of the way as it is, also the counting of its operations.",
        "",
        "| patch | way | first step, seconds | later ones | peak GiB |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        failed = "compile" in row["way"] and not row["is_compiled"]
        way = row["way"] + (", which failed here: as it is" if failed else "")
        cells = (by(row["patch"]), way, f"{row['first_s']:.3g}", f"{row['median_s']:.3g}", f"{row['peak_gib']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def by(size: Sequence[int]) -> str:
    """A size in words."""
    return " x ".join(map(str, size))


def supply(rows: Sequence[Row]) -> list[str]:
    """Patches per second, the memory and the room on the disk."""
    base = next(row["patches_per_s"] for row in rows if row["format"] == "PersistentDataset")
    lines = [
        "## The supply",
        "",
        "Random patches of 96 x 96 x 96, image and label, out of 20 stored volumes of 256 x 256 x 128; one thread, "
        "files in the system's cache. MONAI's datasets read `.nii.gz` into their cache first, which is not timed.",
        "",
        "| supply | patches per second | times PersistentDataset | peak GiB | GiB on the disk |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        disk = f"{row['disk_gib']:.2f}" if row.get("disk_gib") else ""
        name = "medgan (`PatchDataset`, npy)" if row["format"] == "medgan" else row["format"]
        rate = row["patches_per_s"]
        lines.append(f"| {name} | {rate:.0f} | {rate / base:.1f} | {row['peak_gib']:.2f} | {disk} |")
    return lines


def seconds(title: str, name: str, key: str) -> Callable[[Sequence[Row]], list[str]]:
    """A table of one column of seconds."""

    def section(rows: Sequence[Row]) -> list[str]:
        lines = [f"## {title}", "", f"| {name} | seconds |", "|---|---:|"]
        return lines + [f"| {_what(row, name)} | {row[key]:.3g} |" for row in rows]

    return section


def _what(row: Row, name: str) -> str:
    peak = f", peak {row['peak_gib']:.2f} GiB" if "peak_gib" in row else ""
    return str(row.get("what") or row.get("way") or row.get(name) or "") + peak


def translations(rows: Sequence[Row]) -> list[str]:
    """Whole volumes, medgan beside MONAI's inferer."""
    lines = [
        "## Translation",
        "",
        "Large volumes: [translation](translation.md). Here small ones, as a generator's cost against the volume.",
        "",
        "| voxels | what | method | seconds | peak GiB |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        cells = (by(row["size"]), row["what"], row["method"], f"{row['seconds']:.2f}", f"{row['peak_gib']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def waiting(rows: Sequence[Row]) -> list[str]:
    """How long a training had no batch."""
    lines = [
        "## Waiting for data over a whole training",
        "",
        "| run | steps | minutes | waiting |",
        "|---|---:|---:|---:|",
    ]
    return lines + [
        f"| {row['run']} | {row['steps']} | {row['seconds'] / 60:.1f} | {row['waiting']:.1%} |" for row in rows
    ]


def precisions(rows: Sequence[Row]) -> list[str]:
    """Whole trainings in one precision and another."""
    lines = [
        "## A whole training in one precision and another",
        "",
        "Synthetic CT of the held-out bodies, mean [95 % bootstrap interval], and what the run's segmentor reads off "
        "it. Seconds are those of all steps, on the machine that trained the run; `auto` is bf16 where a processor is "
        "faster with it.",
        "",
        "| run | precision | steps | training, seconds | MAE, HU | Dice |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        error, dice = (
            f"{one['mean']:.{digits}f} [{one['low']:.{digits}f}, {one['high']:.{digits}f}]"
            for one, digits in ((row["mae"], 0), (row["dice"], 2))
        )
        cells = (row["run"], row["precision"], str(row["steps"]), f"{row['training_s']:.0f}", error, dice)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(picture: Path, found: Found) -> None:
    """Seconds per step against patch and channels, translation against the volume, supply against workers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {
        against_patch: [row for row in latest(found, "growth") if "channels" not in row],
        against_channels: [row for row in latest(found, "growth") if "channels" in row],
        against_volume: [row for row in latest(found, "translation") if row["what"].startswith("generator")],
        against_workers: [row for row in latest(found, "supply") if row["format"].startswith("medgan")],
    }
    measured = {panel: rows for panel, rows in panels.items() if rows}
    figure, axes = plt.subplots(1, len(measured), figsize=(3.6 * len(measured), 3.2), constrained_layout=True)
    for axis, (panel, rows) in zip(axes, measured.items(), strict=True):
        panel(axis, rows)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def latest(found: Found, name: str) -> list[Row]:
    """The rows of the machine that measured a part last."""
    return list(by_machine(found.get(name, ())).values())[-1] if found.get(name) else []


def against_patch(axis: Any, rows: Sequence[Row]) -> None:
    """A straight line is as many seconds per voxel at any size."""
    axis.plot([row["patch"][0] ** 3 / 1000 for row in rows], [row["median_s"] for row in rows], "o-")
    label = "thousand voxels"
    sides = [row["patch"][0] for row in rows]
    title = f"Step against patch, {min(sides)}³ to {max(sides)}³"
    axis.set(title=title, xlabel=label, ylabel="seconds", xlim=(0, None), ylim=(0, None))


def against_channels(axis: Any, rows: Sequence[Row]) -> None:
    """On one thread."""
    axis.plot([row["channels"] for row in rows], [statistics.median(row["cpu_seconds"]) for row in rows], "o-")
    label = "channels of the U-Net"
    axis.set(title="Step against channels, 32³", xlabel=label, ylabel="processor's seconds", ylim=(0, None))


def against_volume(axis: Any, rows: Sequence[Row]) -> None:
    """A line per method."""
    for method in dict.fromkeys(row["method"] for row in rows):
        same = [row for row in rows if row["method"] == method]
        millions = [math.prod(row["size"]) / 1e6 for row in same]
        axis.plot(millions, [row["seconds"] for row in same], "o-", label=method)
    axis.set(
        title="Translation against volume", xlabel="million voxels", ylabel="seconds", xlim=(0, None), ylim=(0, None)
    )
    axis.legend(fontsize=7)


def against_workers(axis: Any, rows: Sequence[Row]) -> None:
    """Without any, the training process cuts the patches."""
    axis.bar([str(number) for number in range(len(rows))], [row["patches_per_s"] for row in rows])
    axis.set(title="Patches of 96³ against workers", xlabel="workers", ylabel="patches per second")


SECTIONS: dict[str, Callable[[Sequence[Row]], list[str]]] = {
    "step_compile": compiled,
    "memory": seconds("Blocks computed again (`train.recompute`), 64 x 64 x 64", "way", "median_s"),
    "supply": supply,
    "start_up": seconds("Start of the command line", "command", "median_s"),
    "first_step": seconds("From `medgan train` to the end of the first step, the demo's data", "ranks", "first_step_s"),
    "waiting": waiting,
    "ranks": seconds("Step of one and of two processes (gloo), a thread and a batch each", "ranks", "seconds_per_step"),
    "volumes": seconds("Per volume, one thread", "what", "median_s"),
    "translation": translations,
    "precision": precisions,
}
