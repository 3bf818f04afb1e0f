"""The wheel as others get it: built, checked, installed into an empty environment, used away from the checkout.

    python3 scripts/wheel_check.py                 in a folder that is deleted at the end
    python3 scripts/wheel_check.py --keep dist     the wheel and the source archive stay in dist/
    python3 scripts/wheel_check.py --page          and docs/results/packaging.md and packaging.json from what came out

Needs `build` and `twine` in the Python that runs it; a few minutes, most of them the installation of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "packaging.md"
STUDY = """\
data:
  table: phantoms/cases.csv
  A: {name: CT, modality: ct}
  B: {name: MR, modality: mr}
recipe:
  name: cyclegan
  generator_net: {name: unet, channels: 4, levels: 1}
  discriminator_net: {name: patchgan, channels: 4, layers: 1}
train: {num_steps: 2, patch_size: [16, 16, 16]}
"""
COMMANDS = (
    "--version",
    "phantom phantoms -n 2 --test 1 --shape 32 32 16",
    "check phantoms/images",
    "preprocess study.yaml runs/x",
    "train study.yaml runs/x",
    "translate runs/x",
    "evaluate runs/x",
    "report runs/x",
    "translate runs/x phantoms/truth --direction AB --output synthetic_mr",
)
LEFT = ("runs/x/train/losses.jsonl", "runs/x/evaluate/cases.csv", "runs/x/report/index.html", "synthetic_mr/*.nii.gz")


def main() -> int:
    """Build, check, install, use; returns 1 at the first thing that fails, after it was told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder for the wheel and the source archive")
    parser.add_argument("--page", action="store_true", help="write docs/results/packaging.md and packaging.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medgan-wheel-") as folder:
        record = checked(Path(folder))
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for built in (Path(folder) / "dist").iterdir():
                shutil.copy2(built, options.keep)
    print(f"{record['wheel']['name']}: {len(record['commands'])} commands ran away from the checkout")
    if options.page:
        write_page(record)
    return 0


def checked(folder: Path) -> dict[str, Any]:
    """What came out; exits where a step fails."""
    dist, work, environment = folder / "dist", folder / "work", folder / "venv"
    work.mkdir()
    step([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], folder)
    files = sorted(str(path) for path in dist.iterdir())
    step([sys.executable, "-W", "error", "-m", "twine", "check", "--strict", *files], folder)
    wheel = next(dist.glob("*.whl"))
    venv.create(environment, with_pip=True)
    bin_folder = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    step([python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)], folder)
    listed = step([python, "-m", "pip", "list", "--format", "json"], folder, quiet=True)[0]
    step([python, "-m", "pip", "check"], folder)
    (work / "study.yaml").write_text(STUDY, encoding="utf-8")
    commands = []
    for command in COMMANDS:
        _, seconds = step([str(bin_folder / "medgan"), *command.split()], work)
        commands.append({"command": f"medgan {command}", "seconds": round(seconds, 1)})
    missing = [pattern for pattern in LEFT if not list(work.glob(pattern))]
    if missing:
        raise SystemExit(f"not written: {', '.join(missing)}")
    packages = {entry["name"]: entry["version"] for entry in json.loads(listed)}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "wheel": {"name": wheel.name, "kilobytes": round(wheel.stat().st_size / 1000)},
        "archive": {"kilobytes": round(next(dist.glob("*.tar.gz")).stat().st_size / 1000)},
        "packages": packages,
        "commands": commands,
    }


def step(command: list[str], folder: Path, *, quiet: bool = False) -> tuple[str, float]:
    """Run a command in a folder, without this checkout on its path; returns what it printed, and its seconds."""
    print(f"== {' '.join(Path(word).name if os.sep in word else word for word in command)}", flush=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    started = time.monotonic()
    told = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(f"{told.stdout}{told.stderr}\nexit code {told.returncode}")
    if not quiet and told.stdout.strip():
        print(told.stdout.rstrip().splitlines()[-1])
    return told.stdout, time.monotonic() - started


def write_page(record: dict[str, Any]) -> None:
    """What was built and ran, with the versions."""
    packages = record["packages"]
    lines = [
        "# Packaging",
        "",
        f"`python3 scripts/wheel_check.py --page`: {record['system']}, Python {record['python']}, "
        f"torch {packages['torch']}, MONAI {packages['monai']}.",
        "",
        f"`python -m build` made `{record['wheel']['name']}`, {record['wheel']['kilobytes']} kB, and a source archive",
        f"of {record['archive']['kilobytes']} kB. `twine check --strict` and `pip check` found nothing to mend. The",
        f"wheel was installed with `constraints.txt` into an empty environment ({len(packages)} packages in all).",
        "These commands ran there one after the other, in an empty folder away from the checkout. Seconds are those",
        "of a shared machine: they say that the commands ran, not how fast they can be.",
        "",
        "| command | seconds |",
        "|---|---:|",
        *(f"| `{entry['command']}` | {entry['seconds']} |" for entry in record["commands"]),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
