"""The command line: quick help, one line and exit code 1 for the user's mistakes, 2 and a traceback for bugs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

import medgan
from medgan.cli import guarded, run
from medgan.config import InputError

ROOT = Path(__file__).resolve().parent.parent
VERBS = (
    "cases",
    "check",
    "plan",
    "preprocess",
    "train",
    "translate",
    "sample",
    "evaluate",
    "report",
    "export",
    "slicer",
    "phantom",
    "config",
)


def _study(folder: Path) -> Path:
    values = {
        "data": {
            "table": "phantoms/cases.csv",
            "A": {"name": "CT", "modality": "ct"},
            "B": {"name": "MR", "modality": "mr"},
        },
        "recipe": {
            "name": "cyclegan",
            "generator_net": {"name": "unet", "channels": 4, "levels": 1},
            "discriminator_net": {"name": "patchgan", "channels": 4, "layers": 1},
        },
        "train": {"num_steps": 2, "patch_size": [16, 16, 16], "precision": "float32"},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("medgan: ")
    return captured.err.strip()


def test_help_loads_no_heavy_package() -> None:
    code = "import sys, medgan, medgan.cli; print(sorted(set(sys.modules) & {'torch', 'monai', 'numpy', 'pydantic'}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_verb_is_a_command_with_a_module_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    for verb in VERBS:
        assert verb in told
        assert run([verb, "--help"]) == 0
    assert {path.stem for path in (ROOT / "medgan" / "cli").glob("*.py")} - {"__init__", "guard", "options"} == set(
        VERBS
    )
    rooms = {path.stem for path in (ROOT / "medgan").iterdir()}
    assert set(VERBS) - {"phantom"} <= rooms
    assert run([]) == 0


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"medgan {medgan.__version__}\n"


def test_public_names_are_there_and_others_are_not() -> None:
    assert set(dir(medgan)) == {"InputError", "__version__", "load_translator"}
    assert callable(medgan.load_translator)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medgan.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "x.yaml"], "Missing argument 'RUN'; see medgan train --help"),
        (["train", "--bogus"], "No such option: --bogus"),
        (["train", "absent.yaml", "run"], "absent.yaml: no such file"),
        (["translate", "absent"], "absent: not a run"),
        (["translate", "absent", "--direction", "ab"], "absent: not a run"),
        (["evaluate"], "Missing argument 'RUN...'"),
        (["evaluate", "absent"], "absent: not a run"),
        (["evaluate", "x", "--mask", "x"], "--mask goes with --reference"),
        (["evaluate", "x", "--reference", "x"], "--reference or several runs without --output"),
        (["evaluate", "x", "y"], "--reference or several runs without --output"),
        (["evaluate", "x", "--output", "y"], "one run writes into itself"),
        (["evaluate", "x", "--reference", "y", "--output", "z", "--set", "a.b=c"], "--set goes with runs"),
        (["evaluate", "x", "--reference", "y", "--output", "z", "--preset", "synthrad"], "--preset.presets"),
        (["evaluate", "x", "--direction", "ab"], "--direction ab: unknown; known: AB, BA"),
        (["report", "absent"], "absent: not a run"),
        (["config", "seg_cyclgan"], "unknown recipe 'seg_cyclgan'; did you mean 'seg_cyclegan'?"),
        (["phantom", "x", "-n", "0"], "Invalid value for '-n'"),
        (["check", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in _refusal(capsys, *arguments)


def test_a_misspelt_key_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = _refusal(capsys, "train", str(_study(tmp_path)), str(tmp_path / "run"), "--set", "train.nmu_steps=1")
    assert line == "medgan: train.nmu_steps: unknown key; did you mean 'num_steps'?"
    assert not (tmp_path / "run").exists()


def test_a_bug_shows_its_traceback_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: {}["key"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "KeyError: 'key'" in told
    assert "this is a bug" in told


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a: b; c"), 1, "medgan: a: b; c\n"),
        (MemoryError(), 1, "medgan: out of memory; lower translate.memory_gb, or, in a new run folder, train."),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "medgan: runs/x: Permission denied; "),
        (OSError(28, "No space left on device"), 1, "medgan: disk: No space left on device; "),
        (KeyboardInterrupt(), 130, "medgan: interrupted; the same command goes on"),
    ],
)
def test_what_the_user_can_mend_is_no_bug(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    assert guarded(lambda: _raise(error)) == code
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1


def test_config_explains_every_field_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from medgan.experiment import Experiment
    from medgan.manual import manual

    assert run(["config", "seg_cyclegan"]) == 0
    told = capsys.readouterr().out
    assert "…" not in told
    words = "".join(told.split())
    for line in manual(Experiment, {"recipe": "seg_cyclegan"}):
        assert line.text, f"{line.key} has no meaning"
        assert f" {line.key} " in told, line.key
        for word in line.text.split():
            assert word in words
    assert " recipe.lambda_cycle " in told
    assert "recipe.generator_net: unet" in told
    assert "pix2pix:" not in told


def test_config_without_a_name_lists_the_recipes_by_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == 0
    told = capsys.readouterr().out
    assert "recipe: cyclegan" in told
    assert "recipe: pix2pix" in told
    assert "recipe.lambda_cycle" not in told
    assert "train.num_steps" in told


def test_the_schema_is_json_that_knows_the_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"data", "recipe", "train"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_check_reads_voxels_on_demand_and_writes_mended_copies_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    array = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    array[0, 0, 0] = np.nan
    (tmp_path / "data").mkdir()
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.set_qform(image.affine, 1)
    nibabel.save(image, tmp_path / "data" / "a.nii.gz")
    assert run(["check", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "headers only" in out
    assert "0 warnings" in out
    command = ["check", f"{tmp_path}/da*/*.nii.gz", "--deep", "--fix", str(tmp_path / "mended"), "--workers", "1"]
    assert run(command) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "NaN or infinite voxels" in out
    assert "a.nii.gz: 1 of 125 voxels were not finite: now" in out
    assert run(["check", str(tmp_path / "mended"), "--deep"]) == 0
    assert "0 warnings" in capsys.readouterr().out


def test_check_exits_1_on_errors_and_writes_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = nibabel.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.eye(4))
    (tmp_path / "data").mkdir()
    nibabel.save(good, tmp_path / "data" / "good.nii.gz")
    assert run(["check", str(tmp_path / "data"), "--output", str(tmp_path / "check.json")]) == 0
    (tmp_path / "data" / "bad.nii.gz").write_bytes(b"no volume")
    assert run(["check", str(tmp_path / "data"), "--output", str(tmp_path / "check.json")]) == 1
    assert json.loads((tmp_path / "check.json").read_text())["counts"]["error"] == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_whole_way_from_phantoms_to_the_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["phantom", "phantoms", "-n", "1", "--test", "1", "--shape", "24", "24", "16"]) == 0
    study = _study(tmp_path).name
    assert run(["check", study]) == 0
    capsys.readouterr()
    assert "run `medgan preprocess` first" in _refusal(capsys, "train", study, "run")
    assert run(["preprocess", study, "run"]) == 0
    assert run(["train", study, "run", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert "train.num_steps: 2 -> 3" in _refusal(capsys, "train", study, "run", "--set", "train.num_steps=3")
    assert run(["translate", "run", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert "--direction" in _refusal(capsys, "translate", "run", "phantoms/images/pair-01_mr.nii.gz", "--output", "out")
    assert "--output" in _refusal(capsys, "translate", "run", "phantoms/images/pair-01_mr.nii.gz")
    inputs = ["translate", "run", "phantoms/images/pair-01_mr.nii.gz", "--output", "out", "--direction", "BA"]
    assert run([*inputs, "--device", "cpu"]) == 0
    translated = nibabel.load(tmp_path / "out" / "pair-01_mr.nii.gz")
    assert translated.shape == (24, 24, 16)
    assert translated.get_data_dtype() == np.int16
    assert run(["evaluate", "run"]) == 0
    assert "MR to CT" in capsys.readouterr().out
    for image in ("out/pair-01_mr.nii.gz", "phantoms/images/pair-01_ct.nii.gz"):
        folder = tmp_path / "compare" / image.partition("/")[0]
        folder.mkdir(parents=True)
        shutil.copy(image, folder / "pair-01.nii.gz")
    folders = ["compare/out", "--reference", "compare/phantoms", "--output", "compare/scores"]
    assert run(["evaluate", *folders]) == 0
    assert (tmp_path / "compare" / "scores" / "cases.csv").is_file()
    assert run(["report", "run"]) == 0
    assert (tmp_path / "run" / "report" / "index.html").stat().st_size > 1000


def _weights(run: Path) -> dict[str, bytes]:
    networks = torch.load(run / "train" / "checkpoints" / "last.pt", weights_only=True)["networks"]
    return {name: value.numpy().tobytes() for name, value in networks.items() if isinstance(value, torch.Tensor)}


def test_the_train_command_killed_in_mid_run_and_given_again_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["phantom", "phantoms", "-n", "2", "--test", "0", "--shape", "24", "24", "16"]) == 0
    values = yaml.safe_load(_study(tmp_path).read_text(encoding="utf-8"))
    values["data"]["classes"] = dict(
        enumerate(["background", "fat", "muscle", "liver", "bone", "marrow", "gas", "blood"])
    )
    values["recipe"] |= {"name": "seg_cyclegan", "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}}
    values["train"] |= {"num_steps": 20, "checkpoint_every": 4, "log_every": 4, "validate_every": 8}
    Path("study.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert run(["preprocess", "study.yaml", "whole"]) == 0
    shutil.copytree("whole", "killed")

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "medgan", "train", "study.yaml"]
    subprocess.run([*command, "whole"], check=True, capture_output=True, env=environment, timeout=120)
    checkpoint = Path("killed/train/checkpoints/last.pt")
    with subprocess.Popen(
        [*command, "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as one:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and one.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        one.kill()  # SIGKILL
    assert one.returncode == -signal.SIGKILL
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 20
    subprocess.run([*command, "killed"], check=True, capture_output=True, env=environment, timeout=120)
    assert _weights(Path("killed")) == _weights(Path("whole"))
    losses = [Path(name, "train", "losses.jsonl").read_text() for name in ("killed", "whole")]
    assert losses[0] == losses[1]


def test_python_m_medgan_is_medgan() -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "medgan", "translate", "absent"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("medgan: absent: not a run")
