"""Where the voxels of NRRD and MetaImage files lie: in the file itself, or in one beside it that the header names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgan.data.geometry import refusal
from medgan.data.inside import inside

Packing = Literal["none", "gzip", "zlib", "other"]

_HEADER_BYTES = 2**18  # that a header may have
_NRRD_FIELD = re.compile(rb"^data ?file: *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NRRD_ENCODING = re.compile(rb"^encoding: *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_NRRD_PACKING: dict[bytes, Packing] = {b"raw": "none", b"gzip": "gzip", b"gz": "gzip"}
_META_FIELD = re.compile(rb"ElementDataFile\s*[=:]\s*([^\r\n]*)")
_META_LINE = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*")
_AGAIN = "copy or export it again"


@dataclass(frozen=True)
class Body:
    """Where voxels lie.

    Attributes:
        path: of the file that holds them.
        start: the byte at which they begin.
        packing: how they are compressed; "other" where that, or the start, is not known.
    """

    path: Path
    start: int
    packing: Packing

    @property
    def held(self) -> int:
        """The bytes that there are."""
        return self.path.stat().st_size - self.start


def find_body(path: Path) -> Body:
    """Where the voxels of an NRRD or MetaImage file lie.

    Raises:
        InputError: it names a file outside its folder, several files, or one that is not there; or a number of bytes
            that the file does not have.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise refusal(path, f"cannot be read ({type(error).__name__})", "check that you may read it") from None
    if not head.startswith(b"NRRD"):
        header = _meta_header(head)
        fields = _check_meta(path, header)
        target = _named(path, _META_FIELD.findall(header))
        packing: Packing = "zlib" if fields.get("CompressedData", "").lower() in ("true", "1") else "none"
        is_plain = fields.get("HeaderSize", "0") == "0"
        start = head.find(b"\n", len(header)) + 1 if target == path else 0
        body = Body(target, start, packing if is_plain else "other")
        _check_bytes(path, fields, target.stat().st_size)
        return body
    header, blank, _ = head.partition(b"\n\n")
    target = _named(path, _NRRD_FIELD.findall(header))
    encoding = _NRRD_ENCODING.search(header)
    packing = _NRRD_PACKING.get(encoding[1].strip().lower() if encoding else b"", "other")
    start = len(header) + len(blank) if target == path else 0
    return Body(target, start, "other" if b"skip" in header.lower() else packing)


def _named(path: Path, names: list[bytes]) -> Path:
    """The file that a header names, or the header's own where it names none."""
    target = path
    for raw in names:
        name = raw.strip().decode("utf-8", "replace")
        if name.upper() == "LOCAL":
            continue
        if name.split(" ")[0].upper() == "LIST" or "%" in name:
            raise refusal(path, "its voxels lie in several files", "convert it to one file")
        target = inside(path.parent, name, named_by=path)
        if not target.is_file():
            raise refusal(path, f"its voxels lie in {name!r}, which is not beside it", "copy both files", "cut_short")
    return target


def _meta_header(head: bytes) -> bytes:
    """A MetaImage header up to the line that ends it: the one that tells where the voxels are."""
    found = _META_FIELD.search(head)
    return head[: found.end()] if found else b""


def _check_meta(path: Path, header: bytes) -> dict[str, str]:
    """The fields of a MetaImage header; refused without what ITK needs, which prints lines of its own about that."""
    lines = [_META_LINE.fullmatch(line) for line in header.decode("latin-1").splitlines()]
    fields = {line[1]: line[2] for line in lines if line}
    sizes = fields.get("DimSize", "").split()
    is_whole = (
        fields.get("NDims") == str(len(sizes))
        and all(re.fullmatch(r"\d{1,15}", size) for size in sizes)
        and re.fullmatch(r"MET_[A-Z_]+", fields.get("ElementType", ""))
        and "ElementDataFile" in fields
    )
    if not is_whole:
        raise refusal(path, "not a MetaImage file, or a damaged header (NDims, DimSize, ElementType)", _AGAIN)
    return fields


def _check_bytes(path: Path, fields: Mapping[str, str], held: int) -> None:
    """Refuse a MetaImage header that asks for more bytes than its file has."""
    for name in ("CompressedDataSize", "HeaderSize"):
        text = fields.get(name, "-1")
        if not re.fullmatch(r"-1|\d{1,15}", text) or int(text) > held:
            raise refusal(path, f"{name} = {text[:40]!r}, but its file has {held} bytes", "copy it again", "cut_short")
