"""Translation from the menu of 3D Slicer, as one of its command line modules.

A module is a program that tells its parameters in XML when it is called with ``--xml``; Slicer makes a panel of them,
writes the chosen volumes to files, calls the program and reads back what it leaves. Slicer Execution Model,
https://www.slicer.org/wiki/Documentation/Nightly/Developers/SlicerExecutionModel.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from medgan.config import InputError
from medgan.rundir import Direction

NAME = "MedganTranslate"
_LAUNCHER = '''#!/usr/bin/env python
"""Hands the command line that 3D Slicer makes to the Python in which medgan is installed."""

import os
import subprocess
import sys

PYTHON = {python!r}
SLICERS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # would lead PYTHON astray

environment = {{name: value for name, value in os.environ.items() if name not in SLICERS_OWN}}
sys.exit(subprocess.call([PYTHON, "-m", "medgan", "slicer", *sys.argv[1:]], env=environment))
'''


def description() -> str:
    """The XML that 3D Slicer makes the module's panel of."""
    root = Element("executable")
    _texts(
        root,
        category="Synthesis",
        title="Translate a volume (medgan)",
        description="A volume in the other modality, on its own grid, by a run that medgan has trained. For research, "
        "not for diagnosis.",
        version=version("medgan"),
        license="Apache-2.0",
        contributor="The medgan authors",
    )
    volumes = _group(root, "Volumes", "What is translated, by what, and where it goes")
    _parameter(volumes, "directory", "run", "Run", "folder of the trained run", index=0)
    _parameter(volumes, "image", "input", "Input volume", "of the modality that the run has learnt", index=1)
    image = _parameter(volumes, "image", "output", "Translation", "on the input's grid", index=2, channel="output")
    labels = _parameter(
        volumes,
        "image",
        "segmentation",
        "Labels",
        "that the run's segmentor reads off the translation",
        channel="output",
    )
    labels.set("type", "label")
    for element in (image, labels):
        element.set("fileExtensions", ".nii.gz")
    more = _group(root, "More", "Direction and device")
    more.set("advanced", "true")
    _choice(more, "direction", "Direction", "auto: the only one, or the one into CT", ("auto", "AB", "BA"))
    _choice(more, "device", "Device", "auto: a GPU where there is one", ("auto", "cpu", "cuda"))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def install(folder: Path) -> list[Path]:
    """Write the module, a script and its description, into a folder; returns both.

    The folder then goes into Slicer's additional module paths. The script calls the Python that runs this function.

    Raises:
        InputError: one of the files stands already, or the folder cannot be written.
    """
    files = {
        folder / f"{NAME}.py": _LAUNCHER.format(python=sys.executable),
        folder / f"{NAME}.xml": description(),
    }
    for path in files:
        if path.exists():
            raise InputError(f"{path}: stands already; move it away, or name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        (folder / f"{NAME}.py").chmod(0o755)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({type(error).__name__}); check the folder") from None
    return list(files)


def translate_for_slicer(
    run: Path,
    source: Path,
    output: Path,
    *,
    segmentation: Path | None = None,
    direction: Direction | None = None,
    device: str = "auto",
) -> None:
    """Translate a volume that Slicer wrote into the files that Slicer reads, and tell it how far it is.

    Raises:
        InputError: no translator in the run, a volume that cannot be translated, labels asked for that nobody reads.
    """
    from medgan.data.volume import read_volume, write_volume
    from medgan.experiment import run_experiment
    from medgan.export.trained import load_trained
    from medgan.rundir import RunDir
    from medgan.translate import load_translator

    place = RunDir(run)
    options = run_experiment(place).translate
    _tell(0.0)
    way = load_trained(place, options.checkpoint).choose(direction)
    translator = load_translator(place, way, options=options, device=device)
    if segmentation is not None and translator.segmentor is None:
        raise InputError(f"{run}: reads no labels off {translator.target.name}; leave Labels empty")
    volume = read_volume(source)
    _tell(0.2)
    made = translator.translate(volume)
    _tell(0.9)
    write_volume(output, made.image, volume)
    if segmentation is not None and made.segmentation is not None:
        write_volume(segmentation, made.segmentation, volume)
    _tell(1.0)


def _tell(share: float) -> None:
    """Move Slicer's progress bar."""
    print(f"<filter-progress>{share:g}</filter-progress>", flush=True)


def _group(root: Element, label: str, told: str) -> Element:
    group = SubElement(root, "parameters")
    _texts(group, label=label, description=told)
    return group


def _parameter(
    group: Element, kind: str, name: str, label: str, told: str, *, index: int | None = None, channel: str = "input"
) -> Element:
    element = SubElement(group, kind)
    _texts(element, name=name, label=label, description=told, channel=channel)
    _texts(element, **({"longflag": name} if index is None else {"index": str(index)}))
    return element


def _choice(group: Element, name: str, label: str, told: str, values: tuple[str, ...]) -> None:
    element = SubElement(group, "string-enumeration")
    _texts(element, name=name, label=label, description=told, longflag=name, default=values[0])
    for value in values:
        SubElement(element, "element").text = value


def _texts(element: Element, **texts: str) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = text
