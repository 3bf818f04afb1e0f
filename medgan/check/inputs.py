"""What there is to check: files, folders, DICOM series and zips below what is given, and what their names say."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.check.findings import Finding, finding
from medgan.data.cases import Case, Modality
from medgan.data.volume import IMAGE_SUFFIXES

_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys(("ct", "cbct", "hu"), "ct"),
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "pd", "pdw", "dwi", "adc", "swi", "mprage"), "mr"),
}
_LABEL_WORDS = {
    *("label", "labels", "seg", "segmentation", "segmentations", "mask", "masks", "tissue", "tissues", "roi", "rois"),
    *("gt", "dseg", "parcellation", "structures", "labelmap"),
}
_PARENTS = 2  # folders above a file whose names may tell its modality


@dataclass(frozen=True)
class Item:
    """One volume to look at.

    Attributes:
        path: a file, or a folder of DICOM slices.
        is_label: whether it is a label map.
        modality: what it should be; None when nothing says.
        case: whose it is; None for what lies in a folder.
    """

    path: Path
    is_label: bool
    modality: Modality | None
    case: Case | None = None


def volumes_below(path: Path) -> list[Path]:
    """`path` itself if it is a file, else the volumes below the folder: files by their suffix, and folders that hold
    DICOM slices. Hidden files are left alone, links to folders are not followed."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, _, names in os.walk(path):
        files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        found += [file for file in files if file.name.lower().endswith((*IMAGE_SUFFIXES, ".zip"))]
        if any(is_dicom(file) for file in files):
            found.append(Path(folder))
    return sorted(found)


def expand(inputs: Iterable[Path]) -> tuple[list[Item], list[Finding]]:
    """The volumes of files, folders and globs, each once; what holds none is a finding."""
    items: dict[Path, Item] = {}
    findings = []
    for one in inputs:
        is_glob = not one.exists() and glob.has_magic(str(one))
        roots = sorted(map(Path, glob.glob(str(one), recursive=True))) if is_glob else [one]  # noqa: PTH207 (absolute)
        found = [path for root in roots for path in volumes_below(root)]
        if not found:
            is_glob = not one.exists()
            findings.append(
                finding("nothing", one, "the glob matches nothing" if is_glob else "no volume below this folder")
            )
        items |= {path: Item(path, is_label_name(path), named_modality(path)) for path in found if path not in items}
    return list(items.values()), findings


def case_items(cases: Sequence[Case], modalities: dict[str, Modality]) -> list[Item]:
    """Images and label maps of cases; without a given modality of its domain an image's name tells it."""
    items = []
    for case in cases:
        known = modalities.get(case.domain) or named_modality(case.image)
        items.append(Item(case.image, False, known, case))
        if case.label is not None:
            items.append(Item(case.label, True, None, case))
    return items


def is_dicom(file: Path) -> bool:
    """Whether a file says that it is DICOM, behind its preamble."""
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def named_modality(path: Path) -> Modality | None:
    """The modality that a path names: its own name before those of the folders above; None where two are named."""
    for part in (_stem(path), *(parent.name for parent in path.parents[:_PARENTS])):
        found = {_MODALITIES[word] for word in _words(part) if word in _MODALITIES}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def is_label_name(path: Path) -> bool:
    """Whether a file's name, or that of its folder, says that it is a label map."""
    return bool((_words(_stem(path)) | _words(path.parent.name)) & _LABEL_WORDS)


def namesakes(label: Path, images: Iterable[Path]) -> list[Path]:
    """The images that a label map may belong to: in its folder, those whose name is its own without the words for
    labels; else all of its folder."""
    beside = [image for image in images if image.parent == label.parent]
    words = _words(_stem(label)) - _LABEL_WORDS
    return [image for image in beside if _words(_stem(image)) == words] or beside


def _stem(path: Path) -> str:
    name = path.name.lower()
    return next((name.removesuffix(end) for end in IMAGE_SUFFIXES if name.endswith(end)), name)


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}
