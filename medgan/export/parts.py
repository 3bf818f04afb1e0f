"""The modules of medgan that a bundle needs, copied so that they run where medgan is not installed."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import medgan
from medgan.config import InputError

_ROOT = Path(medgan.__file__).parent
_IMPORT = re.compile(r"^(\s*)from medgan(\.[\w.]+)? import ", re.MULTILINE)


def copied_modules(start: Sequence[str]) -> dict[str, str]:
    """The sources of modules and of all that they import of medgan, by path: ``medgan/data/grid.py``.

    Their imports of medgan are made relative; nothing else is changed. Packages are left empty, unless something is
    imported from the package itself.

    Args:
        start: dotted names of modules, ``medgan.data.grid``.

    Raises:
        InputError: one of them is no module of medgan.
    """
    waiting, sources = list(start), dict[str, str]()
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if path is None:
            raise InputError(f"{name}: no module of medgan; export to torchscript or onnx instead")
        key = path.relative_to(_ROOT.parent).as_posix()
        if key in sources:
            continue
        source = path.read_text(encoding="utf-8")
        sources[key] = _relative(source, depth=len(Path(key).parts) - 1)
        waiting += _imported(ast.parse(source))
    for key in list(sources):
        for folder in list(Path(key).parents)[:-1]:
            sources.setdefault((folder / "__init__.py").as_posix(), f'"""Parts of `{".".join(folder.parts)}`."""\n')
    return dict(sorted(sources.items()))


def packages_of(sources: Iterable[str]) -> list[str]:
    """The packages that sources import beside Python's and medgan's own, by the names that pip knows."""
    names = {name for source in sources for name in _modules(ast.parse(source))} - sys.stdlib_module_names
    installed = packages_distributions()
    return sorted({installed[name][0] for name in names if name in installed}, key=str.lower)


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def _path(name: str) -> Path | None:
    """The file of a module or package of medgan, or None."""
    place = _ROOT.parent.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if name.startswith("medgan") and path.is_file()), None)


def _relative(source: str, depth: int) -> str:
    return _IMPORT.sub(lambda found: f"{found[1]}from {'.' * depth}{(found[2] or '.')[1:]} import ", source)


def _imported(tree: ast.AST) -> Iterator[str]:
    """The modules of medgan that a source imports when it runs: submodules by name, else what holds the name."""
    for node in _running(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medgan":
            module = str(node.module)
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if _path(inner) else module


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _running(node)
