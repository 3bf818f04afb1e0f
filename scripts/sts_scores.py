"""What is measured on synthetic CT of the soft-tissue sarcoma patients, for every method alike.

All of it is taken in the common body (`medgan.metrics.masks.common_body`), but for one MAE over the MR body.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sts_cases import read_subjects, relabel

from medgan.data.volume import read_volume
from medgan.evaluate.scoring import CONSTANT
from medgan.metrics.image import mae
from medgan.metrics.lookup import LookupTable, Statistic
from medgan.metrics.masks import Mask, bone, common_body, mr_body, smoothed
from medgan.metrics.segmentation import dice
from medgan.metrics.statistics import summarize

TISSUES = {1: "fat", 2: "soft tissue", 3: "bone"}
MAE_METRICS = ["MAE common body", "MAE dense bone", *(f"MAE {name}" for name in TISSUES.values()), "MAE MR body"]
MERGE = {4: 2}  # tumour reads as soft tissue: CT without contrast agent does not tell them apart
READER_HU = (-200.0, -30.0, 180.0)  # where fat, soft tissue and bone begin on smoothed CT
AIR_HU = -1000.0
LOOKUPS: dict[str, Statistic] = {"lookup table, mean per bin": "mean", "lookup table, median per bin": "median"}


@dataclass(frozen=True)
class Patient:
    """One patient seen by both scanners, on one grid.

    Attributes:
        subject: public name.
        mr: (X, Y, Z) T1, scaled so that fat is near 1000.
        ct_hu: (X, Y, Z), the truth.
        tissue: (X, Y, Z) labels, 0 or a key of `TISSUES`.
        spacing_mm: voxel size.
        affine: (4, 4) voxel to RAS mm.
    """

    subject: str
    mr: NDArray[Any]
    ct_hu: NDArray[Any]
    tissue: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    @cached_property
    def common(self) -> Mask:
        """The common body, where nearly everything is scored."""
        return common_body(self.mr, self.ct_hu, self.spacing_mm)

    @cached_property
    def mr_body(self) -> Mask:
        """The body on MR alone; its rim carries the error of the registration."""
        return mr_body(self.mr)

    @cached_property
    def dense_bone(self) -> Mask:
        """Where the true CT, smoothed, is above 180 HU in the common body."""
        return self.common & bone(self.ct_hu, self.spacing_mm)


@dataclass(frozen=True)
class Prediction:
    """What a method makes of a patient's MR.

    Attributes:
        ct_hu: (X, Y, Z) synthetic CT.
        over_mr_body: the same for the MAE over the MR body, where the method makes a difference; None: `ct_hu`.
        segmentation: (X, Y, Z) labels that the method's own CT segmentor reads off `ct_hu`; None: it has none.
    """

    ct_hu: NDArray[Any]
    over_mr_body: NDArray[Any] | None = None
    segmentation: NDArray[Any] | None = None


Method = Callable[[Patient], Prediction]


def read_patients(data: Path, role: str) -> list[Patient]:
    """The paired patients of a role in subjects.csv, tumour labelled as soft tissue."""
    patients = []
    for row in read_subjects(data):
        if row["role"] == role:
            folder = data / row["subject"]
            ct = read_volume(folder / row["ct"], dtype=np.float32)
            mr = read_volume(folder / row["t1"], dtype=np.float32).array
            tissue = relabel(read_volume(folder / row["tissue"]).array, MERGE)
            patients.append(Patient(row["subject"], mr, ct.array, tissue, ct.spacing_mm, ct.affine))
    return patients


def lookup_method(fitted: Sequence[Patient], statistic: Statistic, bins: int = 60) -> Method:
    """A lookup table from T1 to HU, fitted in the common body; a second one over the MR body is scored there."""
    mr, ct = [patient.mr for patient in fitted], [patient.ct_hu for patient in fitted]
    inner = LookupTable.fit(mr, ct, [patient.common for patient in fitted], bins=bins, statistic=statistic)
    outer = LookupTable.fit(mr, ct, [patient.mr_body for patient in fitted], bins=bins, statistic=statistic)
    return lambda patient: Prediction(inner.apply(patient.mr), over_mr_body=outer.apply(patient.mr))


def baseline_methods(fitted: Sequence[Patient]) -> dict[str, Method]:
    """What needs no network: the median HU everywhere, and `LOOKUPS`."""
    constant = {CONSTANT: lookup_method(fitted, "median", bins=1)}
    return constant | {name: lookup_method(fitted, statistic) for name, statistic in LOOKUPS.items()}


def truth_method(patient: Patient) -> Prediction:
    """The real CT: what a reader of HU values can reach at best."""
    return Prediction(patient.ct_hu)


def files_method(folder: Path) -> Method:
    """Synthetic CT from ``folder/<subject>.nii.gz``, with ``<subject>_segmentation.nii.gz`` where it stands."""

    def predict(patient: Patient) -> Prediction:
        labels = folder / f"{patient.subject}_segmentation.nii.gz"
        return Prediction(
            read_volume(folder / f"{patient.subject}.nii.gz", dtype=np.float32).array,
            segmentation=read_volume(labels).array if labels.exists() else None,
        )

    return predict


def read_tissue(ct_hu: NDArray[Any], spacing_mm: Sequence[float]) -> NDArray[np.intp]:
    """Tissue by fixed thresholds on smoothed CT, the same for every method: 0 air, then the keys of `TISSUES`.

    The labels were cut from CT in much this way. Of -30, -20, -10 and 0 HU between fat and soft tissue, -30 agrees best
    with the labels of the `train_mr` patients on their real CT (mean Dice 0.966 and 0.979, bone 0.858: marrow that is
    not dense belongs to the label but not to the reading).
    """
    return np.digitize(smoothed(ct_hu, spacing_mm, 0.98), READER_HU)


def score(prediction: Prediction, patient: Patient) -> dict[str, float]:
    """All numbers of one patient: MAE in HU and Dice by name; NaN where a tissue is absent or nothing was read.

    ``MAE common body``, ``MAE dense bone``, ``MAE <tissue>``, ``MAE MR body``; ``Dice bone > 180 HU`` of the smoothed
    synthetic CT against the smoothed real one; ``Dice read <tissue>`` of `read_tissue` and ``Dice S <tissue>`` of the
    method's own segmentor, both against the tissue labels.
    """
    inside = patient.common
    regions = {"common body": inside, "dense bone": patient.dense_bone}
    regions |= {name: inside & (patient.tissue == value) for value, name in TISSUES.items()}
    scores = {f"MAE {name}": _mae(prediction.ct_hu, patient.ct_hu, where) for name, where in regions.items()}
    outer = prediction.ct_hu if prediction.over_mr_body is None else prediction.over_mr_body
    scores["MAE MR body"] = _mae(outer, patient.ct_hu, patient.mr_body)
    scores["Dice bone > 180 HU"] = dice(inside & bone(prediction.ct_hu, patient.spacing_mm), patient.dense_bone)
    maps = {"read": read_tissue(prediction.ct_hu, patient.spacing_mm), "S": prediction.segmentation}
    for who, labels in maps.items():
        for value, name in TISSUES.items():
            truth = inside & (patient.tissue == value)
            scores[f"Dice {who} {name}"] = math.nan if labels is None else dice(inside & (labels == value), truth)
    return scores


def _mae(image: NDArray[Any], truth: NDArray[Any], where: Mask) -> float:
    return mae(image, truth, where) if where.any() else math.nan


def score_methods(methods: Mapping[str, Method], patients: Sequence[Patient]) -> dict[str, dict[str, Any]]:
    """By method and metric: mean over the patients, its 95 % bootstrap interval, count, and each patient's value."""
    table = {}
    for name, method in methods.items():
        each = {patient.subject: score(method(patient), patient) for patient in patients}
        metrics = next(iter(each.values()))
        table[name] = {metric: _entry({who: values[metric] for who, values in each.items()}) for metric in metrics}
    return table


def compare(table: Mapping[str, Mapping[str, Any]], method: str, rival: str, metric: str) -> dict[str, Any]:
    """The mean over patients of what `method` has more than `rival`, with its interval, and its share of the rival."""
    ours, theirs = table[method][metric]["patients"], table[rival][metric]["patients"]
    both = [who for who in ours if ours[who] is not None and theirs[who] is not None]
    entry = _entry({who: ours[who] - theirs[who] for who in both})
    base = float(np.mean([theirs[who] for who in both])) if both else math.nan
    share = entry["mean"] / base if entry["mean"] is not None and base else None
    return {"method": method, "rival": rival, "metric": metric, "share": share, **entry}


def _entry(values: Mapping[str, float]) -> dict[str, Any]:
    summary = summarize(list(values.values()))
    return {
        "mean": _told(summary.mean),
        "interval": [_told(summary.low), _told(summary.high)],
        "count": summary.count,
        "patients": {subject: _told(value) for subject, value in values.items()},
    }


def _told(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
