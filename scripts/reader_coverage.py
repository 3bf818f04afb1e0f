"""The readers under a coverage-guided fuzzer: inputs that reach new code are kept and damaged further.

    pip install 'medgan[fuzz]'
    python scripts/reader_coverage.py --seconds 60                 each format for so long, to docs/results/reliability
    python scripts/reader_coverage.py --seconds 60 --only dicom    one format; the others' numbers stay

Atheris (libFuzzer for Python) watches the branches of medgan's readers, nibabel, pydicom and gzip. It ends at whatever
is raised and no refusal, at 5 s for one input, and at 1 GiB of memory. ITK and numpy are not watched, but run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reliability_page import RESULTS, write_section

FORMATS = ("nifti1", "nifti1_gz", "nifti2", "nrrd", "nhdr", "dicom")
SEED = 1
_COLUMNS = {
    "format": "format",
    "seconds": "seconds",
    "inputs": "inputs",
    "began": "branches of the seed",
    "branches": "branches",
    "kept": "inputs kept",
    "end": "fault",
}
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)")
_FIRST = re.compile(r"#\d+\s+INITED\s+cov: (\d+)")


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Run libFuzzer on one format in this process, which it ends; what it finds goes to stderr."""
    import atheris

    with atheris.instrument_imports(include=["medgan", "nibabel", "pydicom", "gzip"]):
        from reader_mutations import make_seeds

        from medgan.config import InputError
        from medgan.data.volume import read_header, read_volume

    with tempfile.TemporaryDirectory() as folder:
        seed = next(one for one in make_seeds(Path(folder)) if one.name == name)

    place = Path(tempfile.mkdtemp(dir=corpus.parent))

    def once(content: bytes) -> None:
        path = seed.write(place, content)
        for read in (read_header, read_volume):
            try:
                read(path)
            except InputError as error:
                if "\n" in str(error):
                    raise RuntimeError(f"several lines: {error}") from error

    limits = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=8192", f"-seed={SEED}", f"-max_total_time={seconds}"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus.parent}/", str(corpus)], once)
    atheris.Fuzz()


def run(name: str, seconds: int) -> dict[str, Any]:
    """One format in a process of its own: how many inputs, branches and kept inputs, and how it ended."""
    from reader_mutations import make_seeds  # not above: what is loaded before the fuzzer is not watched

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        seed = next(one for one in make_seeds(Path(folder)) if one.name == name)
        (corpus / "seed").write_bytes(next(iter(seed.files.values())))
        command = [sys.executable, __file__, "--target", name, "--corpus", str(corpus), "--seconds", str(seconds)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    last, first = _DONE.search(done.stderr), _FIRST.search(done.stderr)
    if last is None or done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "Error" in line]
        return {"format": name, "end": (lines or [f"exit code {done.returncode}"])[0][:200]}
    inputs, branches, _, kept = map(int, last.groups())
    began = int(first[1]) if first else 0
    return {"format": name, "inputs": inputs, "began": began, "branches": branches, "kept": kept, "end": "none"}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", choices=FORMATS, help="one format; the numbers of the others stay")
    parser.add_argument("--target", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.target:
        fuzz(options.target, options.corpus, options.seconds)
        return
    known = _known() if options.only else {}
    for name in [options.only] if options.only else FORMATS:
        known[name] = {**run(name, options.seconds), "seconds": options.seconds}
        print(known[name], flush=True)
        _write([known[one] for one in FORMATS if one in known])


def _known() -> dict[str, dict[str, Any]]:
    """The numbers that stand, by format."""
    file = RESULTS / "reliability" / "readers_coverage.json"
    if not file.is_file():
        return {}
    return {one["format"]: one for one in json.loads(file.read_text(encoding="utf-8"))["numbers"]["formats"]}


def _write(found: Sequence[Mapping[str, Any]]) -> None:
    total = sum(one.get("inputs", 0) for one in found)
    rows = [[one.get(key, "") for key in _COLUMNS] for one in found]
    write_section(
        "readers_coverage",
        order=11,
        title="Readers under a coverage-guided fuzzer",
        command=f"scripts/reader_coverage.py --seconds {max(one['seconds'] for one in found)}",
        blocks=[
            "Atheris damages the same sound volumes and keeps what reaches new branches of medgan's readers, nibabel "
            f"and pydicom: {total} inputs. *Fault* is what it stops at: anything "
            "raised that is no one-line refusal, the end of the process, 5 s for one input, or 1 GiB.",
            {"columns": list(_COLUMNS.values()), "rows": rows},
        ],
        numbers={"formats": found},
        packages=("medgan", "atheris", "nibabel", "simpleitk", "pydicom"),
    )


if __name__ == "__main__":
    main()
