"""The project's own environment: made once, installed again only when the pins change."""

import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import environment

    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "STAMP", venv / "stamp")
    return environment


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, environment: ModuleType) -> list[list[str]]:
    run: list[list[str]] = []

    def record(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        run.append(command)
        if command[1:3] == ["-m", "venv"]:
            environment.PYTHON.parent.mkdir(parents=True)
            environment.PYTHON.touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", record)
    return run


def test_the_first_call_makes_and_installs_and_the_second_does_nothing(
    environment: ModuleType, commands: list[list[str]]
) -> None:
    environment.make()
    assert [command[1:4] for command in commands] == [["-m", "venv", str(environment.VENV)], ["-m", "pip", "install"]]
    assert "constraints.txt" in commands[1]
    environment.make()
    assert len(commands) == 2


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_pins_are_installed_into_the_same_environment(
    environment: ModuleType, commands: list[list[str]], name: str
) -> None:
    environment.make()
    (environment.ROOT / name).write_text("changed")
    environment.make()
    assert [command[1:3] for command in commands[2:]] == [["-m", "pip"]]


def test_a_failed_installation_is_tried_again(
    environment: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.make()
    environment.STAMP.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
        with pytest.raises(SystemExit, match="cannot be installed"):
            environment.make()
    assert not environment.STAMP.exists()
    environment.make()
    assert environment.STAMP.exists()


def test_outside_the_environment_the_script_is_run_again_inside_with_its_arguments(
    environment: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/test.py", "--slow"])
    with pytest.raises(SystemExit) as left:
        environment.enter()
    assert left.value.code == 0
    assert commands[-1] == [str(environment.PYTHON), "scripts/test.py", "--slow"]
    monkeypatch.setattr(sys, "prefix", str(environment.VENV))
    environment.enter()


def test_every_dependency_is_pinned() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, (x for x in lines if not x.startswith("#")))}
    extras = chain.from_iterable(project["optional-dependencies"].values())
    for wanted in map(Requirement, [*project["dependencies"], *extras]):
        if wanted.name == project["name"]:
            continue  # an extra that holds others
        (pin,) = pins[canonicalize_name(wanted.name)].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), wanted
