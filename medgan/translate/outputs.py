"""Where translations of files go: which input leaves what, what stands already, and whose share of many it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medgan.config import InputError
from medgan.data.volume import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Output:
    """What one input leaves.

    Attributes:
        source: a file, or a folder with one DICOM series.
        image: the translation, NIfTI.
        labels: beside it, what the segmentor reads off it, where there is one.
        series: the translation as a DICOM series, or None where that is not asked for.
    """

    source: Path
    image: Path
    labels: Path
    series: Path | None

    @property
    def is_unfinished(self) -> bool:
        """Whether an earlier command was stopped while it wrote: what stands is its own and is written over."""
        return self._mark.exists()

    def stands(self) -> bool:
        """Whether there is nothing left to do.

        Raises:
            InputError: a part stands that no unfinished command has left.
        """
        if self.is_unfinished:
            return False
        other = self.series.exists() if self.series else None
        if self.image.exists() and other is not False:
            return True
        if self.image.exists():
            raise InputError(f"{self.image}: stands already, without its series; move it away, or use --force")
        rest = [path for path in (self.labels, self.series) if path and path.exists()]
        if rest:
            raise InputError(f"{rest[0]}: stands already, without {self.image.name}; move it away, or use --force")
        return False

    @contextmanager
    def being_written(self) -> Iterator[None]:
        """While the block runs, and after it was stopped midway, the output is marked as unfinished."""
        try:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        except OSError as error:
            place, kind = self._mark.parent, type(error).__name__
            raise InputError(f"{place}: cannot be written ({kind}); check the folder and its space") from None
        yield
        self._mark.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.image.with_name(f".{stem(self.image)}.unfinished")


def plan_outputs(inputs: Sequence[Path], folder: Path, *, as_dicom: bool = False) -> list[Output]:
    """What each volume leaves in a folder, in the order given, files of a folder by name.

    Args:
        inputs: files, folders with one DICOM series, or folders with image files.
        folder: where everything goes.
        as_dicom: whether translations become DICOM series too, which takes inputs that are ones.

    Raises:
        InputError: no inputs, outputs that would fall onto inputs or each other, or a DICOM series asked for where the
            input is none.
    """
    sources = [source for given in inputs for source in _expand(given)]
    if not sources:
        raise InputError("translate: no volumes given; name files or folders")
    for source in sources:
        if as_dicom and source.exists() and not source.is_dir():
            raise InputError(f"{source}: no DICOM series to derive one from; leave --dicom out, or give series folders")
    outputs = []
    for source in sources:
        name = stem(source)
        series = folder / f"{name}_dicom" if as_dicom else None
        outputs.append(Output(source, folder / f"{name}.nii.gz", labels_path(folder / f"{name}.nii.gz"), series))
    _refuse_collisions(outputs)
    return outputs


def share(outputs: Sequence[Output], shard: tuple[int, int] | None) -> list[Output]:
    """Every n-th output, from the i-th, counted from 1, for a shard (i, n); all of them for None.

    Raises:
        InputError: i is not one of 1 to n.
    """
    index, count = shard or (1, 1)
    if not 1 <= index <= count:
        raise InputError(f"--shard {index}/{count}: no such share; count from 1/{count} to {count}/{count}")
    return list(outputs[index - 1 :: count])


def labels_path(image: Path) -> Path:
    """Where the labels lie that are read off a translation."""
    return image.with_name(f"{image.name.removesuffix('.nii.gz')}_segmentation.nii.gz")


def stem(path: Path) -> str:
    """The name of a volume: that of its folder, or of its file without what `IMAGE_SUFFIXES` lists."""
    name = path.resolve().name if path.is_dir() else path.name
    suffix = max((end for end in IMAGE_SUFFIXES if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _expand(given: Path) -> list[Path]:
    """A folder with image files as those (hidden ones apart); a file, or a folder of DICOM slices, as it is."""
    files = sorted(given.iterdir()) if given.is_dir() else []
    named = [file for file in files if not file.name.startswith(".")]
    return [file for file in named if file.name.lower().endswith(IMAGE_SUFFIXES)] or [given]


def _refuse_collisions(outputs: Sequence[Output]) -> None:
    """Nothing that is written may fall onto an input or onto another thing that is written."""
    taken = {output.source.resolve(): f"the input {output.source}" for output in outputs}
    for output in outputs:
        for written in filter(None, (output.image, output.labels, output.series)):
            if written.resolve() in taken:
                raise InputError(
                    f"{written}: the translation of {output.source} would fall onto {taken[written.resolve()]}; "
                    "write into another folder, or translate one folder at a time"
                )
            taken[written.resolve()] = f"that of {output.source}"
