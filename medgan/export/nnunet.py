"""Translations with the labels of their sources as a raw dataset of nnU-Net v2.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", 2021;
https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from medgan.config import InputError
from medgan.data.cases import Case
from medgan.data.transforms import check_same_grid
from medgan.data.volume import read_volume, write_volume
from medgan.export import new_folder
from medgan.export.card import model_card
from medgan.export.options import ExportOptions
from medgan.export.trained import load_trained
from medgan.rundir import Direction, RunDir
from medgan.translate import TranslateOptions, VolumeTranslator, load_translator

_FOLDS = 5
_UNLABELLED = -1


def export_nnunet(
    run: RunDir,
    output: Path,
    cases: Sequence[Case],
    *,
    dataset: int,
    with_real: bool = False,
    direction: Direction | None = None,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    translating: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    classes: Mapping[int, str] | None = None,
    device: str = "auto",
) -> Path:
    """Write ``OUTPUT/Dataset<number>_<source>as<target>/``, whole or not at all; returns it.

    ``imagesTr`` and ``labelsTr`` hold the translations of all labelled source images that are not held out, and with
    `with_real` also the labelled images of the target domain. ``imagesTs`` and ``labelsTs`` hold the held-out labelled
    images of the target domain, which no network has seen: what the segmentation is to be judged on.
    ``splits_final.json`` keeps all images of a patient in one fold. Images are numbered; no file names a patient.

    Args:
        run: a trained run.
        output: nnU-Net's ``nnUNet_raw``, or any folder.
        cases: of the study.
        dataset: nnU-Net's number, 1 to 999.
        with_real: mix real images of the target domain into the training.
        direction: None: into CT, else A to B.
        options: what its authors say of the model.
        translating: as the run translates.
        classes: value to name; value 0 is the background.
        device: of the translation.

    Raises:
        InputError: no labelled source images, no classes, a dataset that stands, a volume that cannot be translated.
    """
    if not 1 <= dataset <= 999:
        raise InputError(f"--dataset {dataset}: not a number of a dataset; give 1 to 999")
    if not classes:
        raise InputError("export: the study names no data.classes, so there are no labels to learn from")
    plain = translating.model_copy(update={"segmentation": False})
    trained = load_trained(run, translating.checkpoint)
    way = trained.choose(direction)
    chosen = _chosen(cases, way, with_real=with_real)
    source, target = (trained.domains[side] for side in way)
    place = output / f"Dataset{dataset:03d}_{_plain(source.name)}as{_plain(target.name)}"
    translator = load_translator(run, way, device=device, options=plain)
    with new_folder(place) as folder:
        writer = _Writer(folder, translator, len(classes))
        for item in track(chosen, description="export nnunet", console=Console(file=sys.stderr)):
            writer.write(item)
        training = [item for item in chosen if item.part == "Tr"]
        channel = "CT" if target.modality == "ct" else target.name
        told = _dataset_json(channel, classes, len(training), writer.has_unlabelled, options)
        _write_json(folder / "dataset.json", told)
        _write_json(folder / "splits_final.json", _folds(training))
        card = model_card(trained, options, classes, _use(place.name, dataset, chosen))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return place


@dataclass(frozen=True)
class _Item:
    """One image of the dataset: where it comes from, its number, and whether it is translated."""

    case: Case
    patient: int
    part: str
    is_translated: bool

    @property
    def name(self) -> str:
        return f"case{self.patient:04d}_{'translated' if self.is_translated else 'real'}"


def _chosen(cases: Sequence[Case], way: Direction, *, with_real: bool) -> list[_Item]:
    """The images of the dataset.

    Raises:
        InputError: no source image has labels.
    """
    numbers = {subject: number for number, subject in enumerate(sorted({case.subject for case in cases}), start=1)}
    labelled = [case for case in cases if case.label is not None]
    translated = [case for case in labelled if case.domain == way[0] and case.split != "test"]
    if not translated:
        raise InputError(
            f"export: no image of domain {way[0]} that is not held out has labels; name labels in the table"
        )
    real = [case for case in labelled if case.domain == way[1] and (case.split == "test" or with_real)]
    items = [_Item(case, numbers[case.subject], "Tr", True) for case in translated]
    return items + [_Item(case, numbers[case.subject], "Ts" if case.split == "test" else "Tr", False) for case in real]


class _Writer:
    """Writes images and labels in nnU-Net's places, and notes whether any voxel is unlabelled."""

    def __init__(self, folder: Path, translator: VolumeTranslator, num_classes: int) -> None:
        self.folder, self.translator, self.num_classes = folder, translator, num_classes
        self.has_unlabelled = False

    def write(self, item: _Item) -> None:
        assert item.case.label is not None
        volume, label = read_volume(item.case.image), read_volume(item.case.label, dtype=np.int16)
        check_same_grid(volume, label)
        image = self.translator.translate(volume).image if item.is_translated else volume.array
        write_volume(self.folder / f"images{item.part}" / f"{item.name}_0000.nii.gz", image, volume)
        labels = self._labels(label.array, item.case.label)
        write_volume(self.folder / f"labels{item.part}" / f"{item.name}.nii.gz", labels, volume)

    def _labels(self, array: NDArray[Any], path: Path) -> NDArray[Any]:
        """Unlabelled voxels as nnU-Net's ignore label, the value after the last class."""
        strange = sorted({int(value) for value in np.unique(array)} - {*range(self.num_classes), _UNLABELLED})
        if strange:
            raise InputError(f"{path}: label value {strange[0]} is no class; name it in data.classes or relabel")
        self.has_unlabelled |= bool((array == _UNLABELLED).any())
        return np.where(array == _UNLABELLED, self.num_classes, array).astype(np.uint8)


def _dataset_json(
    channel: str, classes: Mapping[int, str], count: int, has_unlabelled: bool, options: ExportOptions
) -> dict[str, Any]:
    labels = {"background" if value == 0 else name: value for value, name in sorted(classes.items())}
    return {
        "channel_names": {"0": channel},
        "labels": labels | ({"ignore": len(classes)} if has_unlabelled else {}),
        "numTraining": count,
        "file_ending": ".nii.gz",
        "description": "translations by medgan with the labels of their sources",
        "reference": options.data_source,
        "licence": options.license,
    }


def _folds(items: Sequence[_Item]) -> list[dict[str, list[str]]]:
    """Five folds, or as many as there are patients, none of whom is in two."""
    patients = sorted({item.patient for item in items})
    count = min(_FOLDS, len(patients))
    held = [set(patients[fold::count]) for fold in range(count)] if count > 1 else []
    return [
        {
            "train": sorted(item.name for item in items if item.patient not in out),
            "val": sorted(item.name for item in items if item.patient in out),
        }
        for out in held
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name) or "image"


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _use(name: str, dataset: int, items: Sequence[_Item]) -> str:
    training = [item for item in items if item.part == "Tr"]
    made = sum(item.is_translated for item in training)
    real, held = len(training) - made, len(items) - len(training)
    return f"""
## Use

A raw dataset of nnU-Net v2. To learn from: {made} translations with the labels of their sources, {real} real images.
To be judged on, in `imagesTs` and `labelsTs`: {held} held-out real images. Numbers in names of files are patients.

```bash
export nnUNet_raw=...            # the folder that holds {name}
nnUNetv2_plan_and_preprocess -d {dataset} --verify_dataset_integrity
cp splits_final.json $nnUNet_preprocessed/{name}/    # all images of a patient in one fold
nnUNetv2_train {dataset} 3d_fullres 0
```

A figure on translations says how well their labels are read off them, not how well real images will be segmented: judge
on `imagesTs`.
"""
