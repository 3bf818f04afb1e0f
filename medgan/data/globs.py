"""Files of a glob, and what its wildcards stand for: that tells patients apart."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from medgan.config import InputError

_SUFFIX = re.compile(r"\.(nii(\.gz)?|nrrd|nhdr|mha|mhd)$", re.IGNORECASE)


def matches(root: Path, pattern: str) -> dict[Path, tuple[str, ...]]:
    """The files (or DICOM folders) of a glob, each with what its wildcards stand for."""
    whole = os.path.normpath(root / Path(pattern).expanduser())
    expression = re.compile(_expression(whole))
    found: dict[Path, tuple[str, ...]] = {}
    for name in sorted(glob.glob(whole, recursive=True)):  # noqa: PTH207 (leaves hidden files out, Path.glob does not)
        match = expression.fullmatch(name)
        if match is None:
            raise InputError(f"{pattern}: glob not understood; end it in a file's name, such as '**/*.nii.gz'")
        parts = match.groups(default="")
        found[Path(name)] = tuple(_SUFFIX.sub("", part.strip("/\\")).replace(os.sep, "_") for part in parts)
    return found


def _expression(pattern: str) -> str:
    """A glob as a regular expression: a group for each folder whose name has wildcards, for the folders that ``**``
    stands for, and for each run of wildcards in the last name."""
    separator = re.escape(os.sep)
    *folders, last = Path(pattern).parts
    expression = ""
    for folder in folders:
        if folder == "**":
            expression += f"(?:(.*){separator})?"
        elif folder == Path(pattern).anchor:
            expression += re.escape(folder)
        else:
            inner = "".join(_wildcards(folder))
            expression += (f"({inner})" if glob.has_magic(folder) else inner) + separator
    return expression + "".join(f"({part})" if index % 2 else part for index, part in enumerate(_wildcards(last)))


def _wildcards(name: str) -> list[str]:
    """One name of a glob as regular expressions: literal, wildcards, literal, ... in turns."""
    meanings = {"*": "[^/\\\\]*", "?": "[^/\\\\]", "[!": "[^"}
    return [
        re.sub(r"\*|\?|\[!", lambda found: meanings[found[0]], part) if index % 2 else re.escape(part)
        for index, part in enumerate(re.split(r"((?:\*|\?|\[[^\]]+\])+)", name))
    ]


def subjects(images: Mapping[Path, tuple[str, ...]], place: str) -> dict[Path, str]:
    """The patient of each image: the first wildcard of its glob that tells images apart."""
    columns = list(zip(*images.values(), strict=True))
    if not columns:  # no wildcard: one file
        return {path: _SUFFIX.sub("", path.name) for path in images}
    column = next((values for values in columns if len(set(values)) > 1), columns[0])
    if len(set(column)) < len(images):
        twice = Counter(column).most_common(1)[0][0]
        raise InputError(f"{place}: '{twice}' has several images; narrow the glob, or list the patients in data.table")
    return dict(zip(images, column, strict=True))
