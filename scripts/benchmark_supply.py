"""Patches per second out of stored volumes, and the memory that takes: one job in a process of its own.

python3 scripts/benchmark_supply.py make FOLDER [small]     the volumes, once, in every format that is installed
python3 scripts/benchmark_supply.py FORMAT FOLDER SECONDS   prints JSON; called by benchmark.py
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from benchmark_step import peak_gib
from numpy.typing import NDArray
from scipy import ndimage
from torch import device as torch_device
from torch.utils.data import DataLoader

from medgan.data.datasets import PatchDataset
from medgan.data.store import StoredCase, write_case

SHAPE, CASES, PATCH = (256, 256, 128), 20, (96, 96, 96)
SMALL = (112, 112, 104), 2  # to see that it runs
_CHUNK = (64, 64, 64)
FORMATS = ("medgan", "npy", "zarr", "blosc2", "PersistentDataset", "CacheDataset")


def make(folder: Path, shape: tuple[int, int, int] = SHAPE, cases: int = CASES) -> None:
    """Bodies of smooth tissue with grain in air, their labels, and both in every format."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = np.indices(shape, dtype=np.float32)
    middle = [(n - 1) / 2 for n in shape]
    body = sum(((grid[i] - middle[i]) / (0.45 * shape[i])) ** 2 for i in (0, 1)) < 1
    for number in range(cases):
        place = folder / f"case{number:02d}"
        if place.exists():
            continue
        rng = np.random.default_rng(number)
        coarse = rng.standard_normal([n // 8 for n in shape]).astype(np.float32)
        tissue = ndimage.zoom(coarse, 8, order=1) * 0.3 + rng.normal(0, 0.02, shape).astype(np.float32)
        image = np.where(body, np.clip(tissue, -0.99, 1), -1).astype(np.float16)
        label = np.where(body, np.digitize(tissue, (-0.2, 0.0, 0.2)) + 1, 0).astype(np.int16)
        for name, array in (("image", image), ("label", label)):
            path = folder / f"{number:02d}_{name}"
            stored = array.astype(np.float32) if name == "image" else array
            nib.save(nib.Nifti1Image(stored, np.eye(4)), path.with_suffix(".nii.gz"))  # type: ignore[no-untyped-call]
            if importlib.util.find_spec("zarr"):
                zarr: Any = importlib.import_module("zarr")
                zarr.create_array(path.with_suffix(".zarr"), data=array, chunks=_CHUNK, overwrite=True)
            if importlib.util.find_spec("blosc2"):
                blosc2: Any = importlib.import_module("blosc2")
                where = str(path.with_suffix(".b2nd"))
                blosc2.asarray(array, chunks=_CHUNK, blocks=(32, 32, 32), urlpath=where, mode="w")
        write_case(place, image=image, label=label, body=body, meta={"affine": np.eye(4).tolist()})


def stored(folder: Path) -> list[StoredCase]:
    """The volumes that `make` has left."""
    places = sorted(folder.glob("case*"))
    return [StoredCase(place.name.removeprefix("case"), "A", "train", place) for place in places]


def random_starts(folder: Path) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Case and place of one patch after another."""
    rng, cases = np.random.default_rng(0), stored(folder)
    while True:
        starts = [int(rng.integers(n - size + 1)) for n, size in zip(cases[0].shape, PATCH, strict=True)]
        yield int(rng.integers(len(cases))), tuple(slice(a, a + size) for a, size in zip(starts, PATCH, strict=True))


def from_arrays(open_array: Callable[[Path], Any], suffix: str, folder: Path) -> Iterator[object]:
    """Patches of image and label, float32 and int64, out of a format with slices."""
    for case, place in random_starts(folder):
        found: list[NDArray[Any]] = []
        for name, dtype in (("image", np.float32), ("label", np.int64)):
            array = open_array(folder / (f"{case:02d}_{name}{suffix}" if suffix else f"case{case:02d}/{name}.npy"))
            found.append(np.asarray(array[place]).astype(dtype))
        yield found


def medgan_patches(folder: Path, workers: int = 0) -> Iterator[object]:
    """`PatchDataset` as training uses it, without augmentation."""
    dataset = PatchDataset(stored(folder), pairing="single", patch_size=PATCH, batch_size=1, seed=0, num_steps=10**6)
    return iter(DataLoader(dataset, batch_size=None, num_workers=workers))


def monai_patches(kind: str, folder: Path) -> Iterator[object]:
    """MONAI's dataset over the ``.nii.gz`` with a random crop, its cache filled before."""
    from monai.data.dataset import CacheDataset, PersistentDataset
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import RandSpatialCropd
    from monai.transforms.io.dictionary import LoadImaged

    keys = ["image", "label"]
    rows = [{key: str(folder / f"{case.subject}_{key}.nii.gz") for key in keys} for case in stored(folder)]
    steps = Compose([
        LoadImaged(keys, ensure_channel_first=True), RandSpatialCropd(keys, PATCH, random_size=False)
    ])  # fmt: skip
    steps.set_random_state(0)
    if kind == "PersistentDataset":
        dataset: Any = PersistentDataset(rows, steps, cache_dir=folder / "persistent")
    else:
        dataset = CacheDataset(rows, steps, progress=False)
    for number in range(len(rows)):
        dataset[number]
    rng = np.random.default_rng(0)
    while True:
        yield dataset[int(rng.integers(len(rows)))]


def patches(kind: str, folder: Path) -> Iterator[object]:
    """An endless supply of one of `FORMATS`."""
    if kind == "medgan":
        return medgan_patches(folder)
    if kind.startswith("medgan, "):
        return medgan_patches(folder, int(kind.split()[1]))
    if kind == "npy":
        return from_arrays(lambda path: np.load(path, mmap_mode="r"), "", folder)
    if kind == "zarr":
        zarr: Any = importlib.import_module("zarr")
        return from_arrays(lambda path: zarr.open_array(path, mode="r"), ".zarr", folder)
    if kind == "blosc2":
        blosc2: Any = importlib.import_module("blosc2")
        blosc2.set_nthreads(1)
        return from_arrays(lambda path: blosc2.open(str(path), mode="r"), ".b2nd", folder)
    return monai_patches(kind, folder)


def measure(kind: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Patches per second over about `seconds`, after a first few, and the process's peak memory."""
    supply = patches(kind, folder)
    for _ in stored(folder):
        next(supply)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(supply)
        count += 1
    rate = count / (time.perf_counter() - begin)
    return {"format": kind, "patches_per_s": rate, "patches": count, "peak_gib": peak_gib(torch_device("cpu"))}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), *(SMALL if "small" in sys.argv[3:] else ()))
    else:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))))
