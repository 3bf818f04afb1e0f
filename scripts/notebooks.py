"""Run the notebooks of the documentation and keep their outputs, which the site shows.

python3 scripts/notebooks.py [NAME ...]            all of them, or some
python3 scripts/notebooks.py --check [NAME ...]    run them, write nothing
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from environment import ROOT

FOLDER = ROOT / "docs" / "notebooks"


def main(words: list[str]) -> int:
    """Execute in an empty folder; write back the outputs without times and progress bars."""
    names = [word for word in words if word != "--check"]
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        started = time.monotonic()
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        if "--check" not in words:
            keep(notebook, path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1000:.0f} kB")
    return 0


def keep(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write an executed notebook; what it wrote on stderr, and when, does not stay."""
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr" and not _is_bar(output)]
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def _is_bar(output: nbformat.NotebookNode) -> bool:
    """Whether an output is rich's progress bar, or its word that it would rather be a widget."""
    text = str(output.get("data", {}).get("text/plain", ""))
    return "ipywidgets" in text or (not text.strip() and "text/html" in output.get("data", {}))


def execute(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Run every cell in a kernel of its own, which is spoken to through files, not through the network."""
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(Path(folder) / "kernel"))
    NotebookClient(notebook, km=kernel, timeout=120, resources={"metadata": {"path": folder}}).execute()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
