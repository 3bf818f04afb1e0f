"""Whether translations have seams, what whole volumes cost, MONAI's inferer beside it, and whether audits find faults.

python3 scripts/translation_study.py RUN ...                  all parts, over the test cases of trained runs
python3 scripts/translation_study.py RUN ... --only seams     one part; what the others have left stays

The first run is one of synthetic bodies: bodies of the sizes in --sizes are made, kept in --work and translated by it.
The last run translates between CT and MR, both ways: the series in --data go through it.
Writes translation.json and translation.md into --output.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audit_study import MOST, measure_audit
from numpy.typing import NDArray
from torch import Tensor
from translation_costs import CPU, METHODS, OPTIONS, Method, measure_costs, monai
from translation_dicom import measure_dicom
from translation_geometry import measure_geometry
from translation_page import write_page

from medgan.checkpoint import find_checkpoint, read_checkpoint
from medgan.data.grid import triple
from medgan.data.store import open_store, read_json, write_json
from medgan.metrics.seams import border_jumps, difference_rms
from medgan.metrics.segmentation import dice
from medgan.networks.cuts import Size
from medgan.networks.windows import Evaluator, filled_up, frozen_for
from medgan.rundir import RunDir, environment
from medgan.translate import load_translator

PARTS = ("seams", "segmentors", "costs", "audit", "geometry", "dicom")
_STRIDE = 8  # a multiple of the networks'; MONAI's windows, too, move by whole steps of it


def moved(method: Method, window: Size, windows: float) -> Method:
    """A method whose windows begin this many windows earlier, as background is put before the image."""
    before = [max(1, round(length * windows / _STRIDE)) * _STRIDE for length in window]

    def run(image: Tensor) -> Tensor:
        pads = [pad for extra in reversed(before) for pad in (extra, 0)]
        out = method(torch.nn.functional.pad(image, pads, value=-1.0))
        x, y, z = before
        return out[:, :, x:, y:, z:]

    return run


def held_out(run: RunDir, domain: str, most: int) -> Iterator[tuple[str, Tensor, Tensor, NDArray[Any] | None]]:
    """Name, prepared image (1, 1, X, Y, Z), body and label of a run's first test cases in one domain."""
    tested = [case for case in open_store(run.preprocess) if case.domain == domain and case.split == "test"]
    for case in tested[:most]:
        image = torch.from_numpy(np.array(case.image, dtype=np.float32))
        body = torch.from_numpy(np.array(case.body, dtype=bool))
        label = None if case.label is None else np.array(case.label)
        yield case.subject, image[None, None], body[None, None], label


@torch.inference_mode()
def measure_seams(run: RunDir, window: Size, most: int) -> list[dict[str, Any]]:
    """Per test case and method, MR to CT: what moving the windows changes, and how far it is from the whole volume's.

    The whole volume's is the network in one piece: for medgan's methods with the statistics that they freeze, for the
    others under its own. Differences are root mean squares in HU, in the body.
    """
    translator = load_translator(run, "BA", device="cpu", options=OPTIONS)
    low, high = translator.intensity.ends
    patch, network = translator.patch_size or window, translator.generator
    state = read_checkpoint(find_checkpoint(run))
    choice = state["recipe"]["generator_net"]
    about = {"run": _name(run), "steps": state["step"], "generator": choice["name"], "norm": choice["norm"]}
    rows: list[dict[str, Any]] = []
    for subject, given, body, _ in held_out(run, "B", most):
        image, where = filled_up(given, patch)[0], filled_up(body, patch, False)[0]
        mask = where[0, 0].numpy()
        results: dict[str, tuple[Tensor, Tensor, Tensor, Sequence[Sequence[int]], Tensor]] = {}
        frozen = frozen_for(network, image, patch, device=CPU, bf16=False, where=where)
        whole = frozen(image).masked_fill(~where, -1.0)
        for name, sweep in (("medgan", True), ("medgan, windows", False)):
            evaluator = Evaluator(frozen, channels=1, device=CPU, sweep=sweep)
            made, again = (
                evaluator(image, memory_gb=OPTIONS.memory_gb, window=window, where=where, is_shifted=is_shifted)
                for is_shifted in (False, True)
            )
            results[name] = made.values, made.values, again.values, made.borders, whole
        whole = network(image)
        for name, overlap, mode in (
            ("MONAI, overlap 0.5", 0.5, "gaussian"),
            ("MONAI, overlap 0.25", 0.25, "gaussian"),
            ("windows side by side", 0.0, "constant"),
        ):
            method, step = monai(network, window, overlap, mode), [int(side * (1 - overlap)) for side in window]
            borders = [range(length, n, length) for length, n in zip(step, image.shape[2:], strict=True)]
            ways = (method, moved(method, window, 1.0), moved(method, window, 0.5))
            plain, first, second = (way(image) for way in ways)  # background before both that are compared
            results[name] = plain, first, second, borders, whole
        for name, (plain, first, second, starts, reference) in results.items():
            own, one, other, truth = (values[0, 0].numpy() for values in (plain, first, second, reference))
            jumps = border_jumps(own, starts, mask)
            row = about | {"subject": subject, "shape": list(given.shape[2:]), "method": name}
            row["shift_rms_hu"] = difference_rms(one, other, mask) * (high - low) / 2
            row["whole_rms_hu"] = difference_rms(own, truth, mask) * (high - low) / 2
            row["jump_ratio"] = jumps[0] / jumps[1] if jumps else None
            rows.append(row)
            print(*(f"{value:.4g}" if isinstance(value, float) else value for value in row.values()), flush=True)
    return rows


@torch.inference_mode()
def measure_segmentors(run: RunDir, most: int) -> list[dict[str, Any]]:
    """Per test case and method: mean Dice of the CT's segmentor on real CT, and the labels that a move changes."""
    translator = load_translator(run, "BA", device="cpu", options=OPTIONS)
    segmentor, patch = translator.segmentor, translator.patch_size
    rows: list[dict[str, Any]] = []
    for subject, given, body, label in held_out(run, "A", most):
        if segmentor is None or patch is None or label is None:
            continue
        (image, place), where = filled_up(given, patch), filled_up(body, patch, False)[0]
        frozen = frozen_for(segmentor, image, patch, device=CPU, bf16=False, where=where)
        evaluator, blended = Evaluator(frozen, channels=1, device=CPU), monai(segmentor, patch, 0.25)
        outputs = {
            "medgan, statistics frozen": [
                evaluator(image, memory_gb=OPTIONS.memory_gb, window=patch, is_shifted=is_shifted).values
                for is_shifted in (False, False, True)
            ],
            "MONAI, overlap 0.25": [blended(image), *(moved(blended, patch, share)(image) for share in (1.0, 0.5))],
            "whole volume, its own statistics": [segmentor(image)],
        }
        classes = [int(value) for value in np.unique(label) if value > 0]
        for name, values in outputs.items():
            first, *others = (out[:, :, *place].argmax(1)[0].numpy() for out in values)
            row: dict[str, Any] = {"run": _name(run), "subject": subject, "method": name}
            row["dice"] = statistics.fmean(dice(first == value, label == value) for value in classes)
            one, other = others or (None, None)
            changed = None if one is None else float((one != other)[body[0, 0].numpy()].mean())
            rows.append(row | {"changed_share": changed})
            print(*rows[-1].values(), flush=True)
    return rows


def _name(run: RunDir) -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def _of_others(before: Mapping[str, Any], part: str, runs: Sequence[RunDir]) -> list[dict[str, Any]]:
    """The rows that a part has of other runs than these, as they were measured before."""
    names = [_name(run) for run in runs]
    return [row for row in before.get(part, {}).get("rows", []) if row["run"] not in names]


def main() -> None:
    """Measure the parts that are asked for, and write JSON and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="trained runs, the first one of synthetic bodies")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--window", type=int, nargs=3, default=(40, 40, 24), help="voxels, of all that use windows")
    parser.add_argument("--sizes", nargs="+", default=["256x256x128", "512x512x400"], help="of the bodies made")
    parser.add_argument("--work", type=Path, default=Path("runs/translation"), help="where these bodies are kept")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="of the part costs")
    parser.add_argument("--headers", type=int, default=200, help="drawn, for the part geometry")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="with the series of the part dicom")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed; medians are told")
    parser.add_argument("--cases", type=int, default=4, help="of each run, for the parts seams and segmentors")
    parser.add_argument("--bodies", type=int, default=MOST, help="with each fault; twice as many sound ones")
    arguments = parser.parse_args()
    runs, window = [RunDir(path) for path in arguments.runs], triple(arguments.window)
    numbers = arguments.output / "translation.json"
    before = read_json(numbers) if numbers.exists() else {}
    study: dict[str, Any] = {}
    if "seams" in arguments.only:
        rows = [row for run in runs for row in measure_seams(run, window, arguments.cases)]
        study["seams"] = {"window": window, "rows": [*_of_others(before, "seams", runs), *rows]}
    if "segmentors" in arguments.only:
        rows = [row for run in runs for row in measure_segmentors(run, arguments.cases)]
        study["segmentors"] = {"rows": [*_of_others(before, "segmentors", runs), *rows]}
    if "costs" in arguments.only:
        sizes = [triple(size.split("x")) for size in arguments.sizes]
        rows = measure_costs(runs[0].path, arguments.work, sizes, arguments.repeats, arguments.methods)
        study["costs"] = {"run": _name(runs[0]), "rows": rows}
    if "geometry" in arguments.only:
        study["geometry"] = measure_geometry(arguments.headers)
    if "dicom" in arguments.only:
        study["dicom"] = {"run": _name(runs[-1]), **measure_dicom(runs[-1], arguments.data)}
    if "audit" in arguments.only:
        study["audit"] = {"run": _name(runs[0]), **measure_audit(runs[0], arguments.work, arguments.bodies)}
    for part in arguments.only:
        study[part]["environment"] = environment(0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    study = {**(read_json(numbers) if numbers.exists() else {}), **study}  # as other parts have left it meanwhile
    write_json(numbers, study)
    write_page(arguments.output / "translation.md", study)


if __name__ == "__main__":
    main()
