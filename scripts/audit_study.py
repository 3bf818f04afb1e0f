"""How well the audit's score tells translations with a planted fault from sound ones, on synthetic bodies; a part of
translation_study.py.

Bodies of seeds that no run was trained on are translated from MR to CT once and read by the run's segmentors; images
and labels are kept. Limits are learnt on the first bodies, faults are planted in the translations of others, in HU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from audit_faults import FAULTS, ORGANS, Fault, Organ, plant
from numpy.typing import NDArray

from medgan.checkpoint import find_checkpoint
from medgan.data.phantom import TISSUES, Phantom, make_phantom
from medgan.data.volume import Volume, from_nibabel
from medgan.metrics.anatomy import OrganReading, read_organs
from medgan.metrics.limits import Limits, case_score, judge, learn_limits
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, VolumeTranslator, load_translator
from medgan.translate.auditor import TOLERANCE
from medgan.translate.reader import VolumeReader, load_reader

SEED = 45  # the measures were chosen on bodies of seed 44
SHAPE = (48, 48, 24)
LEARNT_ON = 24  # bodies
MOST = 50  # bodies with faults
_HU_RANGE = 2500.0
_RESAMPLES = 2000
_OPTIONS = TranslateOptions(precision="float32", features=False, cycle=False)

Case = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # translation in HU, labels of the MR, labels of the translation


class Bodies:
    """Bodies seen by MR, their translations with or without a fault, and what the segmentors read; read once, kept."""

    def __init__(self, run: RunDir, work: Path, seed: int = SEED) -> None:
        weights = hashlib.sha256(find_checkpoint(run).read_bytes()).hexdigest()[:12]
        self.run, self.work, self.seed = run, work / f"audit_{weights}_{seed}", seed
        self.work.mkdir(parents=True, exist_ok=True)
        self._loaded: tuple[VolumeTranslator, VolumeReader, VolumeReader] | None = None

    def sound(self, number: int) -> Case:
        """As translated."""
        path = self.work / f"{number:03d}.npz"
        if not path.exists():
            translator, reads_mr, reads_ct = self._networks()
            volume = _mr(self.body(number))
            image = translator.translate(volume).image
            given, made = reads_mr.read(volume, volume.array), reads_ct.read(volume, image)
            np.savez_compressed(path, image=image, given=given, made=made)
        with np.load(path) as kept:
            return kept["image"], kept["given"], kept["made"]

    def faulty(self, number: int, fault: Fault) -> Case:
        """With a fault in the translation."""
        image, given, _ = self.sound(number)
        path = self.work / f"{number:03d}_{fault}.npz"
        if not path.exists():
            body = self.body(number)
            rng = np.random.default_rng((self.seed, number, FAULTS.index(fault)))
            planted = plant(image, body.labels, fault, organ_of(number), _spacing_mm(body), rng)
            made = self._networks()[2].read(_mr(body), planted)
            np.savez_compressed(path, image=planted, made=made)
        with np.load(path) as kept:
            return kept["image"], given, kept["made"]

    def body(self, number: int) -> Phantom:
        """The truth."""
        return make_phantom((self.seed, number), SHAPE)

    def _networks(self) -> tuple[VolumeTranslator, VolumeReader, VolumeReader]:
        if self._loaded is None:
            plain = _OPTIONS.model_copy(update={"segmentation": False})
            translator = load_translator(self.run, "BA", options=plain, device="cpu")
            mr, ct = (
                load_reader(self.run, side, options=_OPTIONS, device="cpu")
                for side in (translator.source, translator.target)
            )
            self._loaded = translator, mr, ct
        return self._loaded


def organ_of(number: int) -> Organ:
    """Which organ of a body a fault is planted in: each in turn."""
    return ORGANS[number % len(ORGANS)]


def measure_audit(run: RunDir, work: Path, count: int) -> dict[str, Any]:
    """Scores of `count` bodies with each fault and of twice as many sound ones, and what they come to."""
    if not 2 <= count <= MOST:
        raise ValueError(f"{count} bodies with faults; ask for 2 to {MOST}")
    bodies = Bodies(run, work)
    spacing = _spacing_mm(bodies.body(0))
    limits = learn_limits([_organs(bodies.sound(number), spacing) for number in range(LEARNT_ON)], _HU_RANGE)
    rows: list[dict[str, Any]] = []
    for number in range(LEARNT_ON, LEARNT_ON + count):
        rows.append(_row(number, "sound", bodies.sound(number), spacing, limits))
        for fault in FAULTS:
            rows.append(_row(number, fault, bodies.faulty(number, fault), spacing, limits))
        rows.append(_row(number + MOST, "sound", bodies.sound(number + MOST), spacing, limits))
        print(*(f"{row['kind']} {row['score']:.1f}" for row in rows[-6:]), flush=True)
    figures = [_figures(rows, fault, limits) for fault in FAULTS]
    seeds = f"({SEED}, n), n from 0, {LEARNT_ON}, {LEARNT_ON + MOST}"
    return {
        "seeds": seeds,
        "limits": LEARNT_ON,
        "look": limits.look,
        "fail": limits.fail,
        "figures": figures,
        "rows": rows,
    }


def auroc(faulty: Sequence[float], sound: Sequence[float]) -> float:
    """The share of pairs in which the faulty one scores higher; ties count half."""
    one, other = np.asarray(faulty)[:, None], np.asarray(sound)[None]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def _figures(rows: Sequence[Mapping[str, Any]], fault: str, limits: Limits) -> dict[str, Any]:
    """AUROC with the 95 % interval of a bootstrap over bodies, by organ too, and verdicts."""
    sound = {row["number"]: row["score"] for row in rows if row["kind"] == "sound"}
    faulty = {row["number"]: row["score"] for row in rows if row["kind"] == fault}
    rng, numbers, drawn = np.random.default_rng(0), list(sound), []
    for _ in range(_RESAMPLES):
        some = [numbers[index] for index in rng.integers(len(numbers), size=len(numbers))]
        with_fault = [faulty[number] for number in some if number in faulty]
        if with_fault:
            drawn.append(auroc(with_fault, [sound[number] for number in some]))
    low, high = np.percentile(drawn, (2.5, 97.5))
    organs = {
        organ: [row["score"] for row in rows if row["kind"] == fault and row["organ"] == organ] for organ in ORGANS
    }
    verdicts = [limits.verdict(score) for score in faulty.values()]
    return {
        "fault": fault,
        "count": len(faulty),
        "sound": len(sound),
        "auroc": auroc(list(faulty.values()), list(sound.values())),
        "low": float(low),
        "high": float(high),
        "organs": {organ: auroc(found, list(sound.values())) for organ, found in organs.items() if found},
        "verdicts": {verdict: verdicts.count(verdict) for verdict in ("pass", "look", "fail")},
    }


def _row(number: int, kind: str, case: Case, spacing_mm: Sequence[float], limits: Limits) -> dict[str, Any]:
    verdicts = judge(_organs(case, spacing_mm), limits.usual)
    score = case_score(verdicts)
    worst = verdicts[0]
    return {
        "number": number,
        "kind": kind,
        "organ": organ_of(number),
        "score": score,
        "verdict": limits.verdict(score),
        "worst": f"{TISSUES[worst.reading.label]}, {worst.measure}",
    }


def _organs(case: Case, spacing_mm: Sequence[float]) -> list[OrganReading]:
    image, given, made = case
    labels = [label for label in TISSUES if label]
    return read_organs(given, made, image, labels, spacing_mm, tolerance=TOLERANCE * _HU_RANGE)


def _spacing_mm(body: Phantom) -> list[float]:
    return [float(mm) for mm in np.diag(body.affine)[:3]]


def _mr(body: Phantom) -> Volume:
    return from_nibabel(nib.Nifti1Image(body.mr, body.affine))  # type: ignore[no-untyped-call]
