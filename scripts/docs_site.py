"""What the documentation's site gets beside its pages, as hooks of MkDocs: formulas, the manual, the notebooks.

Formulas become MathML while the site is built, so that no page needs a script or a network to show one. The manual of a
configuration is read off the models, and notebooks are shown with the outputs that they hold.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)  # as pymdownx.arithmatex leaves them
MANUAL = "configuration.md"
PACKAGE = Path(__file__).resolve().parent.parent / "medgan"
ROOMS = {
    "recipes": "One paper, one class. An option's meaning, range and default: [configuration](../configuration.md).",
    "losses": "Functions of tensors that return scalars; [their equations](../mathematics.md).",
    "networks": "`spatial_dims` is the first argument, 2 or 3. Tables name what a configuration can choose.",
    "data": "Volumes and their place, intensities, cases, batches, and synthetic bodies.",
    "metrics": "Numbers of images and label maps; [their formulas](../evaluation.md).",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages that are made while the site is built, added to those that are written."""
    files.append(File.generated(config, MANUAL, content="\n".join(manual_page())))
    for name, page in api_pages():
        files.append(File.generated(config, f"api/{name}.md", content=page))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for made in notebook_files(Path(str(notebook.abs_src_path)), config):
            files.append(made)
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page with its formulas as MathML."""
    return FORMULA.sub(_formula, html)


def _formula(found: re.Match[str]) -> str:
    display = "block" if found["tag"] == "div" else "inline"
    mathml: str = convert(html.unescape(found["tex"]).strip(), display=display)
    return mathml


def api_pages() -> Iterator[tuple[str, str]]:
    """A page for each room, and one for the verbs and what they share: all modules that there are."""
    for room, about in ROOMS.items():
        modules = [f"medgan.{room}.{path.stem}" for path in sorted((PACKAGE / room).glob("[a-z]*.py"))]
        yield room, _reference(room.capitalize(), about, modules)
    verbs = [
        f"medgan.{path.stem}"
        for path in sorted(PACKAGE.iterdir())
        if path.name[0].isalpha() and path.stem not in (*ROOMS, "cli") and (path.suffix == ".py" or path.is_dir())
    ]
    about = "What the commands call. A verb's options are its section of a [configuration](../configuration.md)."
    yield "verbs", _reference("Verbs", about, verbs)


def _reference(title: str, about: str, modules: list[str]) -> str:
    return "\n\n".join([f"# {title}", about, *(f"::: {module}" for module in modules)])


def manual_page() -> Iterator[str]:
    """Every field of a configuration, a table for each section, in the order of the file."""
    from medgan.experiment import Experiment
    from medgan.manual import manual

    yield "# Configuration\n"
    yield "Every key of a configuration, as `medgan config` prints them; `medgan config RECIPE` shows one recipe alone."
    yield "A key that is left out has its default. A misspelt key is an error that names the right one.\n"
    heads = ("key", "meaning", "values", "default")
    begin = ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    yield from begin
    for line in manual(Experiment, {}):
        if line.kind:
            values = ", ".join(filter(None, (line.kind, line.unit)))
            yield f"| `{line.key}` | {_cell(line.text)} | {_cell(values)} | {_cell(line.default)} |"
        else:
            yield f"\n## {line.key}\n\n{html.escape(line.text)}\n"
            yield from begin


def _cell(text: str) -> str:
    return re.sub(r"([|\[\]{}*_<>])", r"\\\1", text)


def notebook_files(notebook: Path, config: MkDocsConfig) -> Iterator[File]:
    """A notebook's page, with a link to the notebook itself, and the pictures of its outputs."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(notebook))  # type: ignore[no-untyped-call]
    folder = f"{notebook.parent.name}/{notebook.stem}"
    for name, picture in resources["outputs"].items():
        text = text.replace(f"]({name})", f"]({notebook.stem}_{name})")
        yield File.generated(config, f"{folder}_{name}", content=picture)
    title, _, rest = text.partition("\n\n")
    text = f"{title}\n\n[The notebook itself]({notebook.name})\n\n{rest}"
    yield File.generated(config, f"{folder}.md", content=text)
