"""What there is to check: files, folders, DICOM series and zips below what is given, and what their names say."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.check.findings import Finding, finding
from medgan.data.cases import Case, Modality, Side
from medgan.data.names import named_modality, words
from medgan.data.slices import may_be_dicom
from medgan.data.volume import IMAGE_SUFFIXES

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
        if any(may_be_dicom(file) for file in files):
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
            what = "the glob matches nothing" if is_glob else "no volume below this folder"
            findings.append(finding("nothing", one, what))
        items |= {path: Item(path, is_label_name(path), path_modality(path)) for path in found if path not in items}
    return list(items.values()), findings


def case_items(cases: Sequence[Case], modalities: Mapping[Side, Modality]) -> list[Item]:
    """Images and label maps of cases, each label map once although two images may share it; without a given modality
    of its domain an image's name tells it."""
    items, seen = [], set()
    for case in cases:
        known = modalities.get(case.domain) or path_modality(case.image)
        items.append(Item(case.image, False, known, case))
        if case.label is not None and case.label not in seen:
            seen.add(case.label)
            items.append(Item(case.label, True, None, case))
    return items


def path_modality(path: Path) -> Modality | None:
    """The modality that a path names: its own name before those of the folders above."""
    return named_modality(_stem(path), *(parent.name for parent in path.parents[:_PARENTS]))


def is_label_name(path: Path) -> bool:
    """Whether a file's name, or that of its folder, says that it is a label map."""
    return bool((words(_stem(path)) | words(path.parent.name)) & _LABEL_WORDS)


def namesakes(label: Path, images: Iterable[Path]) -> list[Path]:
    """The images that a label map may belong to: in its folder, those whose name is its own without the words for
    labels; else all of its folder."""
    beside = [image for image in images if image.parent == label.parent]
    name = words(_stem(label)) - _LABEL_WORDS
    return [image for image in beside if words(_stem(image)) == name] or beside


def _stem(path: Path) -> str:
    name = path.name.lower()
    return next((name.removesuffix(end) for end in IMAGE_SUFFIXES if name.endswith(end)), name)
