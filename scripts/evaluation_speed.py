"""Seconds and memory of a challenge's figures on one large pair, beside scikit-image's SSIM of the same pair.

    python3 scripts/evaluation_speed.py           about a minute; leave the machine alone meanwhile
    python3 scripts/evaluation_speed.py --page    and docs/results/evaluation.md and evaluation.json

Each measurement is the first call in a process of its own, on one thread, on a pair that is read before the clock
starts. A process inherits the peak memory of the one that starts it, so that the pair, too, is made in its own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environment import ROOT, enter

PAGE = Path("docs/results/evaluation.md")
SHAPE = (400, 400, 150)
SEED = 0
ROUNDS = 7
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

PRESET = "`synthrad2025_metrics`, in a body mask"
WHOLE = "`synthrad2025_metrics`, everywhere"
SINGLE_SCALE = "`synthrad2023`, in a body mask"
SKIMAGE = "scikit-image `structural_similarity`"
KINDS = (PRESET, WHOLE, SINGLE_SCALE, SKIMAGE)


def main() -> None:
    """Measure all kinds in turn, several times, and print the table."""
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        share = float(apart("--write", folder, *map(str, SHAPE)))
        rounds = [{kind: measured(kind, folder) for kind in KINDS} for _ in range(ROUNDS)]
    table = {kind: {key: [one[kind][key] for one in rounds] for key in rounds[0][kind]} for kind in KINDS}
    result = {"shape": SHAPE, "seed": SEED, "mask_share": round(share, 3), "threads": 1, **versions(), "kinds": table}
    text = page(result)
    print(text)
    if "--page" in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        PAGE.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_pair(folder: Path, shape: tuple[int, ...]) -> float:
    """Write a body in air, a prediction of it and its mask as arrays; returns the mask's share of the volume."""
    import numpy as np
    from scipy import ndimage

    rng = np.random.default_rng(SEED)
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    body = np.broadcast_to(((x / 0.9) ** 2 + (y / 0.65) ** 2 < 1)[..., None], shape)
    tissue = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 4) * 6000
    reference = np.where(body, tissue, -1000) + rng.normal(0, 15, shape)
    prediction = ndimage.gaussian_filter(reference, 1.0) + rng.normal(0, 30, shape)
    for name, image in (("reference", reference), ("prediction", prediction)):
        np.save(folder / f"{name}.npy", np.rint(image).astype(np.float32))
    np.save(folder / "mask.npy", np.ascontiguousarray(body))
    return float(body.mean())


def measured(kind: str, folder: str) -> dict[str, float]:
    """What a fresh process with one thread measures of one kind."""
    return json.loads(apart("--measure", folder, kind))  # type: ignore[no-any-return]


def apart(*arguments: str) -> str:
    """What this script prints when it is called with these arguments, on one thread."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Seconds of the first call, the processor's share of them, and what it adds to the process's peak memory, MiB."""
    import numpy as np

    prediction, reference, mask = (np.load(folder / f"{name}.npy") for name in ("prediction", "reference", "mask"))
    call = calls()[kind]
    small = (slice(0, 20),) * 3
    call(prediction[small], reference[small], mask[small] | True)  # everything is imported
    before, started, busy = peak_mib(), time.perf_counter(), time.process_time()
    value = call(prediction, reference, mask)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return {"seconds": seconds, "cpu_seconds": busy, "added_mib": peak_mib() - before, "peak_mib": peak_mib(), **value}


def calls() -> dict[str, Callable[[Any, Any, Any], dict[str, float]]]:
    """What is measured, by name: functions of prediction, reference and mask."""
    from skimage.metrics import structural_similarity

    from medgan.metrics.presets import PRESETS

    def skimage(prediction: Any, reference: Any, mask: Any) -> dict[str, float]:
        options: dict[str, Any] = {"win_size": 7, "full": True, "data_range": 4024}
        mean, _ = structural_similarity(reference, prediction, **options)  # type: ignore[no-untyped-call]
        return {"ssim": float(mean)}

    multi, single = PRESETS["synthrad2025_metrics"], PRESETS["synthrad2023"]
    return {
        PRESET: multi.scores,
        WHOLE: lambda prediction, reference, mask: multi.scores(prediction, reference),
        SINGLE_SCALE: single.scores,
        SKIMAGE: skimage,
    }


def peak_mib() -> float:
    """The process's highest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)


def versions() -> dict[str, str]:
    """Of Python and the packages that compute."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "scipy", "scikit-image")}}


def page(result: dict[str, Any]) -> str:
    """The table as Markdown, with what it was measured on."""
    kinds, shape = result["kinds"], " x ".join(map(str, result["shape"]))
    rows = []
    for kind, values in kinds.items():
        ratios = [a / b for a, b in zip(kinds[SKIMAGE]["seconds"], values["seconds"], strict=True)]
        seconds = values["seconds"]
        rows.append(
            f"| {kind} | {statistics.median(seconds):.2f} [{min(seconds):.2f}, {max(seconds):.2f}] "
            f"| {statistics.median(values['cpu_seconds']):.2f} | {statistics.median(values['added_mib']):.0f} "
            f"| {statistics.median(ratios):.1f} |"
        )
    lines = [
        "# Speed of the evaluation",
        "",
        f"`python3 scripts/evaluation_speed.py --page`: {shape} voxels, float32, seed {result['seed']}; one "
        f"thread of {platform.machine()}, Python {result['python']}, numpy {result['numpy']}, scipy {result['scipy']}, "
        f"scikit-image {result['scikit-image']}. Median of {len(kinds[SKIMAGE]['seconds'])} [lowest, highest], each "
        "the first call in a process of its own, the pair in memory before; the kinds take turns. Numbers in full: "
        "`evaluation.json`.",
        "",
        f"A preset gives MAE, PSNR and (MS-)SSIM; its body mask holds {100 * result['mask_share']:.0f} % of the "
        "voxels. scikit-image gives the SSIM of one scale, without a mask: `win_size=7, full=True, data_range=4024`. "
        "Memory is what a call adds to the process's peak, the pair itself not included.",
        "",
        "| figures | seconds | processor's seconds | MiB added | times as fast as scikit-image |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        print(write_pair(Path(sys.argv[2]), tuple(map(int, sys.argv[3:]))))
    elif sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[3], Path(sys.argv[2]))))
    else:
        enter()
        main()
