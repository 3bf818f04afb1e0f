"""What is around the package: completion, versions, containers, workflows."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = {"files", "post", "environment", "runscript", "test", "labels", "help", "setup", "startscript", "arguments"}


def _completed(words: str) -> str:
    environment = {"_MEDGAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from medgan.cli import main; main()"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return told.stdout


def test_the_shell_completes_verbs_and_options() -> None:
    assert set(_completed("medgan tr").split()) == {"train", "translate"}
    assert "--direction" in _completed("medgan translate --dir")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_completion_can_be_installed(tmp_path: Path) -> None:
    script = tmp_path / "medgan"
    script.write_text(f"#!{sys.executable}\nfrom medgan.cli import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = (
        "set -e; medgan --install-completion; medgan --show-completion; :"  # bash stays the parent, which is asked for
    )
    command = ["bash", "-c", words]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "complete" in told.stdout
    assert "medgan" in (tmp_path / ".bashrc").read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    heads = re.findall(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == version


def test_what_is_needed_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_normal(pin.partition("==")[0]) for pin in pins if "==" in pin}
    needed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {_normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in needed} - {"medgan"}
    assert not names - pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_dockerfile_is_clean() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("no hadolint for this platform")
    file = ROOT / "container" / "Dockerfile"
    told = subprocess.run([linter, str(file)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_what_the_dockerfile_copies_is_there() -> None:
    text = (ROOT / "container" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    kept = (ROOT / "container" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}\n" in kept, name


def test_the_apptainer_recipe_holds_together() -> None:
    text = (ROOT / "container" / "medgan.def").read_text(encoding="utf-8")
    head, *parts = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert re.search(r"^Bootstrap: docker\nFrom: python:3\.\d+-slim$", head, re.MULTILINE)
    assert {"files", "post", "runscript", "test"} <= set(sections) <= SECTIONS
    for line in filter(None, map(str.strip, sections["files"].splitlines())):
        assert (ROOT / line.split()[0]).exists(), line
    for name in ("post", "environment", "runscript", "test"):
        checked = subprocess.run(["sh", "-n"], input=sections[name], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, (name, checked.stderr)


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_is_valid_and_calls_what_is_there(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    steps = [step for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values() for step in job["steps"]]
    for script in re.findall(r"\S+\.(?:py|sh)\b|\.ci/run", json.dumps([step.get("run", "") for step in steps])):
        assert (ROOT / script.strip('"')).exists(), script


def test_the_matrix_is_the_pythons_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == promised


def test_a_hook_before_a_commit_runs_what_is_there() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = [hook["entry"].split() for hook in hooks[0]["hooks"]]
    assert all(entry[0] == ".venv/bin/python" for entry in entries)
    for word in (word for entry in entries for word in entry if "/" in word and not word.startswith(".venv")):
        assert (ROOT / word).exists(), word
