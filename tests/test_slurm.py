"""The job scripts, with stand-ins for SLURM's commands: what is asked of them, and when a job queues again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts" / "slurm"
SRUN = """#!/bin/bash
echo "srun $*" >> called
trap 'echo saved >> called; exit 0' USR1  # as `medgan train` does, and srun passes signals on
echo started > started
for n in $(seq 200); do sleep 0.05; [ -e end ] && exit "$(cat end)"; done
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with stand-ins for SLURM's commands, which note how they are called."""
    for name, text in (
        ("srun", SRUN),
        ("scontrol", '#!/bin/bash\necho "scontrol $*" >> called\n'),
        ("medgan", '#!/bin/bash\necho "medgan $*" >> called\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def job(cluster: Path, script: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    facts = {"PATH": f"{cluster}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **variables}
    return subprocess.Popen(["bash", str(SCRIPTS / script), *arguments], cwd=cluster, env=facts)


def test_a_job_whose_time_is_up_lets_the_training_save_and_queues_again(cluster: Path) -> None:
    process = job(cluster, "train.sh", "study.yaml", "run", "--set", "train.workers=4")
    while not (cluster / "started").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 0
    asked = "srun --kill-on-bad-exit=1 medgan train study.yaml run --set train.workers=4"
    assert (cluster / "called").read_text().splitlines() == [asked, "saved", "scontrol requeue 7"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_training_that_ends_or_fails_ends_its_job(cluster: Path, code: int) -> None:
    (cluster / "end").write_text(str(code))
    assert job(cluster, "train.sh", "study.yaml", "run").wait(10) == code
    assert "scontrol" not in (cluster / "called").read_text()


def test_a_job_that_is_pre_empted_waits_for_its_training(cluster: Path) -> None:
    process = job(cluster, "train.sh", "study.yaml", "run")
    while not (cluster / "started").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    (cluster / "end").write_text("0")
    assert process.wait(10) == 0
    assert "scontrol" not in (cluster / "called").read_text(), "SLURM queues it again by itself"


def test_each_task_of_an_array_takes_its_share(cluster: Path) -> None:
    process = job(
        cluster, "translate_array.sh", "run", "volumes", "out", "--direction", "BA",
        SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_MAX="16",
    )  # fmt: skip
    assert process.wait(10) == 0
    called = (cluster / "called").read_text()
    assert called == "medgan translate run volumes --output out --shard 3/16 --direction BA\n"
