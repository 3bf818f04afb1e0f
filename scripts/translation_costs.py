"""What a whole volume costs: seconds and peak memory, each from a process of its own.

python3 scripts/translation_costs.py JOB RUN WORD ...     one job; called by translation_study.py, prints JSON
"""

from __future__ import annotations

import json
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

from medgan.data.phantom import make_phantom
from medgan.data.volume import read_volume, write_volume
from medgan.metrics.seams import difference_rms
from medgan.networks.windows import Evaluator, Size
from medgan.preprocess import prepare_input
from medgan.translate import TranslateOptions, load_translator

CPU = torch.device("cpu")
OPTIONS = TranslateOptions(precision="float32")
WINDOW: Size = (96, 96, 96)
METHODS = ("medgan", "medgan windows", "MONAI 0.25", "MONAI 0.5", "MONAI 0.75", "whole")
_LARGE = 2e7  # voxels, from which some methods need more memory than there is, or hours
_SEED = 3

Method = Callable[[Tensor], Tensor]


def monai(network: nn.Module, window: Size, overlap: float, mode: str = "gaussian") -> Method:
    """MONAI's inferer, with background instead of zeros outside."""
    from monai.inferers.utils import sliding_window_inference

    def run(image: Tensor) -> Tensor:
        out = sliding_window_inference(image, window, 1, network, overlap=overlap, mode=mode, cval=-1.0)
        assert isinstance(out, Tensor)
        return out

    return run


def measure_costs(run: Path, work: Path, sizes: Sequence[Size], repeats: int) -> list[dict[str, Any]]:
    """A generator over prepared volumes by every method, and whole files: medians of seconds, the largest peaks.

    Args:
        run: trained on synthetic bodies, both ways.
        work: where bodies of these sizes are kept.
        sizes: voxels.
        repeats: of every job.
    """
    rows = []
    for size in sizes:
        ct, mr = (work / f"{name}_{'x'.join(map(str, size))}.nii" for name in ("ct", "mr"))
        if not (ct.exists() and mr.exists()):
            _in_own_process("make", run, ct, mr, *size)
        if not _prepared(mr).exists():
            _in_own_process("prepare", run, mr)
        jobs: list[tuple[str, str, Sequence[object]]] = [
            ("generator, MR to CT", method, ("network", run, mr, method))
            for method in METHODS
            if not (method in ("MONAI 0.75", "whole") and np.prod(size) > _LARGE)
        ]
        jobs += [
            (f"file, {name}", "medgan translate", ("file", run, file, way, work / "translated.nii"))
            for name, file, way in (("CT to MR", ct, "AB"), ("MR to CT", mr, "BA"))
        ]
        for what, method, words in jobs:
            facts = [_in_own_process(*words) for _ in range(repeats)]
            seconds = statistics.median(fact["seconds"] for fact in facts)
            peak = max(fact["peak_gib"] for fact in facts)
            row = {"size": list(size), "what": what, "method": method, "repeats": repeats}
            rows.append(facts[0] | row | {"seconds": seconds, "peak_gib": peak})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _in_own_process(*words: object) -> dict[str, Any]:
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))


def _prepared(file: Path) -> Path:
    return file.with_suffix(".prepared.npz")


def make(run: Path, ct: str, mr: str, *size: str) -> dict[str, Any]:
    """A synthetic body of this size, as two files, its voxels as large as the training's: it is not resampled."""
    x, y, z = map(int, size)
    spacing_mm = load_translator(run, "BA", device="cpu").source.spacing_mm
    phantom = make_phantom(_SEED, (x, y, z), spacing_mm)
    Path(ct).parent.mkdir(parents=True, exist_ok=True)
    for path, array in ((ct, phantom.ct), (mr, phantom.mr)):
        nib.save(nib.Nifti1Image(array, phantom.affine), path)  # type: ignore[no-untyped-call]
    return {}


def prepare(run: Path, mr: str) -> dict[str, Any]:
    """The image and the body of an MR, as the generator is given them."""
    prepared, _ = prepare_input(read_volume(mr), load_translator(run, "BA", device="cpu").source)
    np.savez(_prepared(Path(mr)), image=prepared.image, body=prepared.body)
    return {}


def file(run: Path, source: str, way: str, target: str) -> dict[str, Any]:
    """``medgan translate`` of a file, the loading of the networks not timed."""
    translator = load_translator(run, way, device="cpu", options=OPTIONS)  # type: ignore[arg-type]
    begin = time.perf_counter()
    volume = read_volume(source)
    write_volume(target, translator.translate(volume).image, volume)
    return {"seconds": time.perf_counter() - begin, "peak_gib": _peak_gib()}


@torch.inference_mode()
def network(run: Path, mr: str, method: str) -> dict[str, Any]:
    """A generator over a prepared volume by one method of `METHODS`, and how far the result is from medgan's."""
    translator = load_translator(run, "BA", device="cpu", options=OPTIONS)
    arrays = np.load(_prepared(Path(mr)))
    image, body = (torch.from_numpy(arrays[name])[None, None] for name in ("image", "body"))
    kind, _, how = method.partition(" ")
    begin = time.perf_counter()
    if kind == "medgan":
        evaluator = Evaluator(translator.generator, channels=1, device=CPU, sweep=not how)
        window = WINDOW if how else None
        out = evaluator(image, memory_gb=OPTIONS.memory_gb, window=window, where=body).values
    elif kind == "MONAI":
        out = monai(translator.generator, WINDOW, float(how))(image)
    else:
        out = translator.generator(image)
    facts: dict[str, Any] = {"seconds": time.perf_counter() - begin, "peak_gib": _peak_gib()}
    reference = Path(mr).with_suffix(".medgan.npy")
    if method == METHODS[0]:
        np.save(reference, out[0, 0].numpy())
    low, high = translator.intensity.ends
    rms = difference_rms(out[0, 0].numpy(), np.load(reference, mmap_mode="r"), arrays["body"])
    return facts | {"shape": list(image.shape[2:]), "rms_hu": rms * (high - low) / 2}


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
