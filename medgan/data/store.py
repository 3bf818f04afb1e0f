"""Preprocessed cases on disk, read patch by patch.

```
preprocess/domains.json           what is known of each domain
           cases.json             the cases of the study: subject, domain, split, folder, original image
           A/<case>/image.npy     (X, Y, Z) float16 in [-1, 1]
                    label.npy     (X, Y, Z) int16, where there is one
                    body.npy      (X, Y, Z) bool
                    focus.npy     (N, 4) int32: label value and voxel, some of each value above 0
                    case.json     affine, spacing, the way back, the intensity map, ...
           B/<case>/...
```
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.config import InputError
from medgan.data.transforms import bounding_box

FOCUS_VOXELS = 256  # per label value


@dataclass(frozen=True)
class StoredCase:
    """One case of a store. Arrays are opened when they are asked for, and mapped, not read.

    Attributes:
        subject: the patient.
        domain: "A" or "B".
        split: "train", "validation" or "test".
        folder: where its files lie.
        original: the image that it was made from; None where the store does not tell.
    """

    subject: str
    domain: str
    split: str
    folder: Path
    original: Path | None = None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What `write_case` was told of this case, and ``shape``, ``labelled`` and ``body_box``."""
        return dict(read_json(self.folder / "case.json"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (X, Y, Z)."""
        x, y, z = self.meta["shape"]
        return x, y, z

    @property
    def body_box(self) -> NDArray[np.int64]:
        """First voxel of the body, and one past its last, (2, 3)."""
        return np.array(self.meta["body_box"])

    @property
    def labelled(self) -> bool:
        """Whether there is a label map."""
        return bool(self.meta["labelled"])

    @property
    def image(self) -> NDArray[np.float16]:
        """(X, Y, Z) float16 in [-1, 1], mapped from disk."""
        return self._map("image")

    @property
    def label(self) -> NDArray[np.int16] | None:
        """(X, Y, Z) int16 mapped from disk, -1 where unlabelled; None without a label map."""
        return self._map("label") if self.labelled else None

    @property
    def body(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool, mapped from disk."""
        return self._map("body")

    @cached_property
    def focus(self) -> dict[int, NDArray[np.int32]]:
        """Up to `FOCUS_VOXELS` voxels (N, 3) of each label value above 0, chosen once and for all."""
        if not self.labelled:
            return {}
        rows = np.load(self.folder / "focus.npy")
        return {int(value): rows[rows[:, 0] == value, 1:] for value in np.unique(rows[:, 0])}

    def _map(self, name: str) -> NDArray[Any]:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")  # type: ignore[no-any-return]


def write_case(
    folder: Path,
    *,
    image: NDArray[Any],
    label: NDArray[Any] | None,
    body: NDArray[np.bool_],
    meta: Mapping[str, Any],
) -> None:
    """Write a case, whole or not at all; a case that stood there before is replaced.

    Args:
        folder: of this case alone.
        image: (X, Y, Z) in [-1, 1]; kept as float16, 0.6 HU of a window of 2500 HU at worst.
        label: (X, Y, Z) integers that fit int16, -1 where unlabelled; None without labels.
        body: (X, Y, Z).
        meta: kept beside, must fit into JSON.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    box = np.array(bounding_box(body)).T.tolist() if body.any() else [[0, 0, 0], list(body.shape)]
    facts = {"shape": list(image.shape), "labelled": label is not None, "body_box": box}
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        np.save(partial / "image.npy", np.ascontiguousarray(image, dtype=np.float16))
        np.save(partial / "body.npy", np.ascontiguousarray(body, dtype=np.bool_))
        if label is not None:
            np.save(partial / "label.npy", np.ascontiguousarray(label, dtype=np.int16))
            np.save(partial / "focus.npy", _focus(label))
        write_json(partial / "case.json", {**meta, **facts})
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _focus(label: NDArray[Any]) -> NDArray[np.int32]:
    rows = [np.zeros((0, 4), dtype=np.int32)]
    for value in np.unique(label[label > 0]):
        voxels = np.flatnonzero(label == value)
        if len(voxels) > FOCUS_VOXELS:
            voxels = np.random.default_rng(int(value)).choice(voxels, FOCUS_VOXELS, replace=False)
        place = np.stack(np.unravel_index(np.sort(voxels), label.shape), axis=1)
        rows.append(np.column_stack([np.full(len(place), value), place]).astype(np.int32))
    return np.concatenate(rows)


def write_index(folder: Path, cases: Iterable[StoredCase], domains: Mapping[str, Any]) -> None:
    """Declare the store complete: these cases, whose folders lie below `folder`, and what is known of their domains.

    Paths in ``cases.json`` start at `folder`.
    """
    write_json(folder / "domains.json", domains)
    rows = [
        {
            "subject": case.subject,
            "domain": case.domain,
            "split": case.split,
            "folder": case.folder.relative_to(folder).as_posix(),
            "original": None if case.original is None else relative_path(case.original, folder),
        }
        for case in cases
    ]
    write_json(folder / "cases.json", rows)


def open_store(folder: Path) -> list[StoredCase]:
    """The cases of a complete store, in the order of the case table.

    Raises:
        InputError: no complete store there.
    """
    if not (folder / "cases.json").is_file():
        raise InputError(f"{folder}: holds no preprocessed cases; run `medgan preprocess` first")
    rows = read_json(folder / "cases.json")
    return [
        StoredCase(
            row["subject"],
            row["domain"],
            row["split"],
            folder / row["folder"],
            folder / row["original"] if row.get("original") else None,
        )
        for row in rows
    ]


def read_domains(folder: Path) -> dict[str, Any]:
    """What is known of the domains "A" and "B" of a complete store.

    Raises:
        InputError: no complete store there.
    """
    if not (folder / "domains.json").is_file():
        raise InputError(f"{folder}: holds no preprocessed cases; run `medgan preprocess` first")
    return dict(read_json(folder / "domains.json"))


def relative_path(path: Path, start: Path) -> str:
    """`path` as written in a file of the folder `start`, with forward slashes."""
    # ".." leads out of a linked folder's real place: links must be followed on both sides, but not the file's own
    return Path(os.path.relpath(path.parent.resolve() / path.name, start.resolve())).as_posix()


def read_json(path: Path) -> Any:
    """The contents of a JSON file of a store.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); run `medgan preprocess` again") from None


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
