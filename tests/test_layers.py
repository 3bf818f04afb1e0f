"""The floors of the house: imports run down only. Read off the sources, nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = (
    {"config"},
    {"rundir", "lock", "manual", "schema", "networks", "losses", "data", "metrics", "mosaic", "pictures", "device"},
    {"distances"},
    {"recipes", "cases", "check", "preprocess", "evaluate"},
    {"checkpoint", "report"},
    {"train", "translate", "sample"},
    {"plan", "export"},
    {"experiment"},
    {"slicer"},
    {"cli"},
    {"__main__", "__init__"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILE_MODULES = {
    "os",
    "io",
    "pathlib",
    "shutil",
    "glob",
    "tempfile",
    "json",
    "yaml",
    "csv",
    "pickle",
    "nibabel",
    "SimpleITK",
}


def _sources() -> list[Path]:
    return sorted((ROOT / "medgan").rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def _room(module: str) -> str:
    return module.split(".")[1]


def _imports(path: Path) -> Iterator[str]:
    """Every module that a source imports, wherever the import stands; ``from medgan.x import y`` names both."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _inner_imports() -> dict[str, set[str]]:
    modules = {_name(path): path for path in _sources()}
    return {name: {found for found in _imports(path) if found in modules} for name, path in modules.items()}


def test_every_module_has_a_floor() -> None:
    assert {_room(name) for name in _inner_imports()} <= set(FLOOR_OF)


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_imports_run_down_only(path: Path) -> None:
    room = _room(_name(path))
    for found in _imports(path):
        if found.split(".")[0] != "medgan" or found == "medgan":
            continue
        other = _room(found)
        assert other == room or FLOOR_OF.get(other, len(FLOORS)) < FLOOR_OF[room], f"{room} imports {other}"


def test_no_module_imports_itself_by_a_detour() -> None:
    imports = {name: found - {name} for name, found in _inner_imports().items()}
    while free := [name for name, found in imports.items() if not found & imports.keys()]:
        for name in free:
            del imports[name]
    assert not imports, f"in a circle: {sorted(imports)}"


@pytest.mark.parametrize(
    "path", [p for p in _sources() if _room(_name(p)) in ("networks", "losses", "recipes")], ids=_name
)
def test_networks_losses_and_recipes_know_no_files(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {found.split(".")[0] for found in _imports(path)} & FILE_MODULES
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "Path", "read_yaml", "write_yaml"}


def test_no_room_is_a_drawer_for_anything() -> None:
    assert not {path.stem for path in _sources()} & {"utils", "util", "helpers", "common", "misc"}


def test_pipelines_and_scripts_are_imported_by_nobody() -> None:
    for path in _sources():
        assert not {found.split(".")[0] for found in _imports(path)} & {"pipelines", "scripts", "tests"}
