"""Where the voxels of NRRD and MetaImage files lie: in the file itself, or in one beside it that the header names."""

from __future__ import annotations

import re
from pathlib import Path

from medgan.data.geometry import refusal
from medgan.data.inside import inside

_HEADER_BYTES = 2**18  # that a header may have
_NRRD_FIELD = re.compile(rb"^data ?file: *([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_META_FIELD = re.compile(rb"ElementDataFile\s*[=:]\s*([^\r\n]*)")
_META_LINE = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*")
_AGAIN = "copy or export it again"


def voxel_file(path: Path) -> Path:
    """The file that holds the voxels of an NRRD or MetaImage file: itself, or the one beside it that its header names.

    Raises:
        InputError: it names a file outside its folder, several files, or one that is not there; or a number of bytes
            that the file does not have.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise refusal(path, f"cannot be read ({type(error).__name__})", "check that you may read it") from None
    is_nrrd = head.startswith(b"NRRD")
    names = _NRRD_FIELD.findall(head.partition(b"\n\n")[0]) if is_nrrd else _META_FIELD.findall(_meta_header(head))
    target = path
    for raw in names:
        name = raw.strip().decode("utf-8", "replace")
        if not is_nrrd and name.upper() == "LOCAL":
            continue
        if name.split(" ")[0].upper() == "LIST" or "%" in name:
            raise refusal(path, "its voxels lie in several files", "convert it to one file")
        target = inside(path.parent, name, named_by=path)
        if not target.is_file():
            raise refusal(path, f"its voxels lie in {name!r}, which is not beside it", "copy both files", "cut_short")
    if not is_nrrd:
        _check_meta(path, _meta_header(head), target.stat().st_size)
    return target


def _meta_header(head: bytes) -> bytes:
    """A MetaImage header up to the line that ends it: the one that tells where the voxels are."""
    found = _META_FIELD.search(head)
    return head[: found.end()] if found else b""


def _check_meta(path: Path, header: bytes, held: int) -> None:
    """Refuse a MetaImage header without what ITK needs (it prints lines of its own about that), or one that asks for
    more bytes than are held."""
    lines = [_META_LINE.fullmatch(line) for line in header.decode("latin-1").splitlines()]
    fields = {line[1]: line[2] for line in lines if line}
    for name in ("CompressedDataSize", "HeaderSize"):
        text = fields.get(name, "-1")
        if not re.fullmatch(r"-1|\d{1,15}", text) or int(text) > held:
            raise refusal(path, f"{name} = {text[:40]!r}, but its file has {held} bytes", "copy it again", "cut_short")
    sizes = fields.get("DimSize", "").split()
    is_whole = (
        fields.get("NDims") == str(len(sizes))
        and all(re.fullmatch(r"\d{1,15}", size) for size in sizes)
        and re.fullmatch(r"MET_[A-Z_]+", fields.get("ElementType", ""))
        and "ElementDataFile" in fields
    )
    if not is_whole:
        raise refusal(path, "not a MetaImage file, or a damaged header (NDims, DimSize, ElementType)", _AGAIN)
