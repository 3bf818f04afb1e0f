"""What a whole volume costs: a processor's seconds and peak memory, each from a process of its own with one thread.

python3 scripts/translation_costs.py JOB RUN WORD ...     one job; called by translation_study.py, prints JSON

The processor's seconds are those in which the thread was at work: what else runs on the machine hardly changes them.
What was measured is kept, so that a study that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from medgan.checkpoint import find_checkpoint
from medgan.data.phantom import make_phantom
from medgan.data.store import read_json, write_json
from medgan.data.volume import read_volume, write_volume
from medgan.metrics.seams import difference_rms
from medgan.networks.cuts import Size
from medgan.networks.windows import Evaluator
from medgan.preprocess import prepare_input
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, load_translator

CPU = torch.device("cpu")
OPTIONS = TranslateOptions(precision="float32")
WINDOW: Size = (96, 96, 96)
METHODS = ("medgan", "MONAI 0.25", "MONAI 0.5", "MONAI 0", "whole", "medgan windows")
_LARGE = 2e7  # voxels, from which some methods need more memory than there is, or hours
_SLOW = ("medgan windows", "MONAI 0.5", "whole", "MONAI 0")
_ENOUGH = 10.0  # seconds that a job has taken in all, from which it is not repeated
_SEED = 3
_REPEATED = 4

Method = Callable[[Tensor], Tensor]


def monai(network: nn.Module, window: Size, overlap: float, mode: str = "gaussian") -> Method:
    """MONAI's inferer, with background instead of zeros outside."""
    from monai.inferers.utils import sliding_window_inference

    def run(image: Tensor) -> Tensor:
        out = sliding_window_inference(image, window, 1, network, overlap=overlap, mode=mode, cval=-1.0)
        assert isinstance(out, Tensor)
        return out

    return run


def measure_costs(
    run: Path, work: Path, sizes: Sequence[Size], repeats: int, chosen: Sequence[str] = METHODS
) -> list[dict[str, Any]]:
    """A generator over prepared volumes by every method, and whole files: medians of seconds, the largest peaks.

    Args:
        run: trained on synthetic bodies, both ways.
        work: where bodies of these sizes are kept.
        sizes: voxels.
        repeats: of every job that is done quickly; others are timed once.
        chosen: of `METHODS`; at large sizes the slow ones are left out.
    """
    kept = work / f"costs_{hashlib.sha256(find_checkpoint(RunDir(run)).read_bytes()).hexdigest()[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in sizes:
        ct, mr = (work / f"{name}_{'x'.join(map(str, size))}.nii" for name in ("ct", "mr"))
        if not (ct.exists() and mr.exists()):
            _in_own_process("make", run, ct, mr, *size)
        if not _prepared(mr).exists():
            _in_own_process("prepare", run, mr)
        methods = [method for method in chosen if not (method in _SLOW and np.prod(size) > _LARGE)]
        jobs: list[tuple[str, str, Sequence[object]]] = [
            ("generator, MR to CT", method, ("network", run, mr, method, *_part(size, method))) for method in methods
        ]
        jobs.insert(1, ("file, CT to MR", "medgan translate", ("file", run, ct, "AB", work / "translated.nii")))
        for what, method, words in jobs:
            name = f"{'x'.join(map(str, size))} {what} {method}".replace(" ", "_")
            facts = list[dict[str, Any]]()
            while len(facts) < repeats and sum(fact["seconds"] for fact in facts) < _ENOUGH:
                facts.append(_once(kept / f"{name}_{len(facts)}.json", words))
            seconds = statistics.median(fact["seconds"] for fact in facts)
            peak = max(fact["peak_gib"] for fact in facts)
            row = {"size": list(size), "what": what, "method": method, "repeats": len(facts)}
            rows.append(facts[0] | row | {"seconds": seconds, "peak_gib": peak})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _part(size: Size, method: str) -> tuple[int, ...]:
    """Of large volumes MONAI is given two windows along X, so that a study takes minutes, not hours."""
    kind, _, how = method.partition(" ")
    return (2 * WINDOW[0] - int(WINDOW[0] * float(how)),) if kind == "MONAI" and np.prod(size) > _LARGE else ()


def _once(result: Path, words: Sequence[object]) -> dict[str, Any]:
    """What a job has measured, now or before."""
    if not result.exists():
        write_json(result, _in_own_process(*words))
    return cast(dict[str, Any], read_json(result))


def _in_own_process(*words: object) -> dict[str, Any]:
    command, one_thread = [sys.executable, __file__, *map(str, words)], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread)
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))


def _prepared(file: Path) -> Path:
    return file.with_suffix(".prepared.npz")


def make(run: Path, ct: str, mr: str, *size: str) -> dict[str, Any]:
    """A synthetic body of this size, as two files, its voxels as large as the training's: it is not resampled.

    It is made at a quarter of the resolution, and every voxel told 4 x 4 x 4 times: no method is faster for that.
    """
    x, y, z = (int(side) // _REPEATED for side in size)
    spacing_mm = load_translator(run, "BA", device="cpu").source.spacing_mm
    phantom = make_phantom(_SEED, (x, y, z))
    Path(ct).parent.mkdir(parents=True, exist_ok=True)
    for path, array in ((ct, phantom.ct), (mr, phantom.mr)):
        large = array.repeat(_REPEATED, 0).repeat(_REPEATED, 1).repeat(_REPEATED, 2)
        nib.save(nib.Nifti1Image(large, np.diag([*(spacing_mm or (1.0, 1.0, 1.0)), 1.0])), path)  # type: ignore[no-untyped-call]
    return {}


def prepare(run: Path, mr: str) -> dict[str, Any]:
    """The image and the body of an MR, as the generator is given them."""
    prepared, _ = prepare_input(read_volume(mr), load_translator(run, "BA", device="cpu").source)
    np.savez(_prepared(Path(mr)), image=prepared.image, body=prepared.body)
    return {}


def file(run: Path, source: str, way: str, target: str) -> dict[str, Any]:
    """``medgan translate`` of a file, the loading of the networks not timed."""
    translator = load_translator(run, way, device="cpu", options=OPTIONS)  # type: ignore[arg-type]
    begin = time.process_time()
    volume = read_volume(source)
    write_volume(target, translator.translate(volume).image, volume)
    return {"seconds": time.process_time() - begin, "peak_gib": _peak_gib()}


@torch.inference_mode()
def network(run: Path, mr: str, method: str, slices: str = "") -> dict[str, Any]:
    """A generator over a prepared volume by one method of `METHODS`, and how far the result is from medgan's.

    With `slices` it is given these first ones only, two windows along X; the seconds told are those of all windows.
    """
    translator = load_translator(run, "BA", device="cpu", options=OPTIONS)
    arrays = np.load(_prepared(Path(mr)))
    image, body = (torch.from_numpy(arrays[name])[None, None] for name in ("image", "body"))
    kind, _, how = method.partition(" ")
    inferer = monai(translator.generator, WINDOW, float(how)) if kind == "MONAI" else None  # imported before
    begin = time.process_time()
    if kind == "medgan":
        evaluator = Evaluator(translator.generator, channels=1, device=CPU, sweep=not how)
        window = WINDOW if how else None
        out = evaluator(image, memory_gb=OPTIONS.memory_gb, window=window, where=body).values
    else:
        out = (inferer or translator.generator)(image[:, :, : int(slices) if slices else None])
    facts: dict[str, Any] = {"seconds": time.process_time() - begin, "peak_gib": _peak_gib()}
    facts["shape"] = list(image.shape[2:])
    if slices:
        step = int(slices) - WINDOW[0]
        windows = -(-(image.shape[2] - WINDOW[0]) // step) + 1
        return facts | {"seconds": facts["seconds"] * windows / 2, "share": 2 / windows}
    reference = Path(mr).with_suffix(".medgan.npy")
    if method == METHODS[0]:
        np.save(reference, out[0, 0].numpy())
    low, high = translator.intensity.ends
    rms = difference_rms(out[0, 0].numpy(), np.load(reference, mmap_mode="r"), arrays["body"])
    return facts | {"rms_hu": rms * (high - low) / 2}


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    JOBS: dict[str, Callable[..., dict[str, Any]]] = {
        "make": make,
        "prepare": prepare,
        "file": file,
        "network": network,
    }
    print(json.dumps(JOBS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
