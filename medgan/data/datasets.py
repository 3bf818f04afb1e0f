"""Patches of stored cases. Batch n is a function of the seed and n alone, whatever was read before it, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medgan.config import InputError
from medgan.data.source import Pairing
from medgan.data.store import StoredCase
from medgan.data.transforms import Augment

Sample = tuple[Tensor, Tensor | None]
UNLABELLED = -1
SEED = "seed_"  # and a domain: what a sample's augmentation is drawn with


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Whole batches, one per training step: ``{"A", "B", "label_A", "label_B"}``.

    Images are (B, 1, *S) float32 in [-1, 1], labels (B, 1, *S) int64 with -1 where nothing is known; the key of a label
    is absent when no sample of the batch has one. An axis on which the patch has one voxel is dropped, so that a patch
    of (256, 256, 1) trains a 2D network. Sample k is number ``step * batch_size * world_size + rank * batch_size + i``
    of one endless sequence fixed by the seed: any number of ranks sees the same samples in the same steps when
    ``batch_size * world_size`` is the same. Use it with ``DataLoader(dataset, batch_size=None)``.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        *,
        pairing: Pairing,
        patch_size: tuple[int, int, int],
        batch_size: int,
        seed: int,
        num_steps: int,
        rank: int = 0,
        world_size: int = 1,
        label_focus: float = 0.0,
        position_jitter: float | None = None,
        augment: Augment | None = None,
        augment_later: bool = False,
        background: float = -1.0,
    ) -> None:
        """
        Args:
            cases: those to learn from; the caller picks the split.
            pairing: "unpaired": a patch of some A and of some B; "paired": the same patch of one subject's A and B,
                moved alike, intensities left alone; "single": A only.
            patch_size: voxels; volumes smaller than that are padded with `background`, their labels with 0.
            batch_size: samples of this rank in a step.
            seed: of everything random here.
            num_steps: length of the dataset.
            rank: of this process.
            world_size: number of processes.
            label_focus: share of patches centred on a voxel of a label value above 0, the value drawn uniformly from
                those that the case holds; the other centres lie anywhere in the body's bounding box.
            position_jitter: in "unpaired", how far A and B may lie apart, each as a position relative to its body's
                bounding box and as a fraction of it; A and B take turns at random in choosing the place. None draws
                both places independently.
            augment: applied to every patch.
            augment_later: not here, but by `augmented`, to whole batches that have come where they are wanted.
            background: what lies outside a volume.

        Raises:
            InputError: a domain without cases, no subject with both images, or grids of a pair that differ.
        """
        self.pairing = pairing
        self.patch_size = np.array(patch_size)
        self.batch_size = batch_size
        self.seed = seed
        self.num_steps = num_steps
        self.rank = rank
        self.world_size = world_size
        self.label_focus = label_focus
        self.position_jitter = position_jitter
        self.augment, self.augment_later = augment, augment_later
        self.background = background
        self._kept_axes = [axis for axis, n in enumerate(patch_size) if n > 1]
        self.cases = {domain: [case for case in cases if case.domain == domain] for domain in "AB"}
        if pairing == "paired":
            self.cases["A"], self.cases["B"] = _pairs(self.cases["A"], self.cases["B"])
        self.domains = "A" if pairing == "single" else "AB"
        for domain in self.domains:
            if not self.cases[domain]:
                raise InputError(f"domain {domain}: no cases to learn from; give it images or another split")
        if augment and any(axis >= len(self._kept_axes) for axis in augment.flip_axes):
            raise InputError(
                f"augment.flip_axes: {augment.flip_axes}: the patch has axes 0 to {len(self._kept_axes) - 1}"
            )

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of {self.num_steps}")
        first = (step * self.world_size + self.rank) * self.batch_size
        drawn = [self._drawn(first + i) for i in range(self.batch_size)]
        if not self.augment_later:
            return _batch([self._augmented(*one) for one in drawn])
        batch = _batch([samples for samples, _ in drawn])
        for domain in self.domains:
            batch[f"{SEED}{domain}"] = torch.tensor([seeds[domain] for _, seeds in drawn])
        return batch

    def augmented(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with what was put off, by the same draws: images and labels wherever they lie."""
        if not self.augment_later:
            return batch
        seeds = {domain: batch[f"{SEED}{domain}"].tolist() for domain in self.domains}
        done = []
        for i in range(self.batch_size):
            labels = {domain: batch.get(f"label_{domain}") for domain in self.domains}
            samples: dict[str, Sample] = {
                domain: (batch[domain][i], None if label is None else label[i]) for domain, label in labels.items()
            }
            done.append(self._augmented(samples, {domain: seeds[domain][i] for domain in self.domains}))
        return _batch(done)

    def sample(self, k: int) -> dict[str, Sample]:
        """Sample k of the endless sequence: image (1, *S) and label (1, *S) or None, per domain."""
        return self._augmented(*self._drawn(k))

    def _drawn(self, k: int) -> tuple[dict[str, Sample], dict[str, int]]:
        """Sample k as it was cut, and the seeds of its augmentation."""
        rng = np.random.default_rng((self.seed, k))
        augment_seed = {domain: int(rng.integers(2**31)) for domain in "AB"}
        paired = self.pairing == "paired"
        cases = {domain: self._case(domain, k, 0 if paired else n) for n, domain in enumerate(self.domains)}
        leader = self._leader(cases, rng)
        centre = self._centre(cases[leader], rng)
        samples: dict[str, Sample] = {}
        for domain, case in cases.items():
            place = centre if paired or domain == leader else self._follow(centre, cases[leader], case, rng)
            samples[domain] = self._patch(case, place)
        return samples, augment_seed

    def _augmented(self, samples: dict[str, Sample], seeds: dict[str, int]) -> dict[str, Sample]:
        """Pairs are moved alike and keep their intensities."""
        if self.augment is None:
            return samples
        if self.pairing == "paired":
            return {domain: self.augment.spatial(*sample, seeds["A"]) for domain, sample in samples.items()}
        return {domain: self.augment(*sample, seeds[domain]) for domain, sample in samples.items()}

    def _case(self, domain: str, k: int, stream: int) -> StoredCase:
        """Every case once before any comes again, in a new order each time round."""
        cases = self.cases[domain]
        lap, place = divmod(k, len(cases))
        order = np.random.default_rng((self.seed, lap, stream, 1)).permutation(len(cases))
        return cases[int(order[place])]

    def _leader(self, cases: dict[str, StoredCase], rng: np.random.Generator) -> str:
        """Whose labels or body choose the place: A or B at random, a labelled one if labels are to be looked at."""
        able = [domain for domain in cases if cases[domain].focus] if self.label_focus else []
        able = able or list(cases)
        return able[int(rng.random() * len(able))]

    def _centre(self, case: StoredCase, rng: np.random.Generator) -> NDArray[np.float64]:
        """A voxel to centre a patch on."""
        focus, anywhere, pick = rng.random(), rng.random(3), rng.random(2)
        if focus < self.label_focus and case.focus:
            voxels = list(case.focus.values())[int(pick[0] * len(case.focus))]
            return np.asarray(voxels[int(pick[1] * len(voxels))], dtype=np.float64)
        low, high = case.body_box
        return np.asarray(low + anywhere * (high - low), dtype=np.float64)

    def _follow(
        self, centre: NDArray[np.float64], case: StoredCase, other: StoredCase, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """The place in `other` that lies in its body as `centre` lies in that of `case`, give or take the jitter."""
        if self.position_jitter is None:
            return self._centre(other, rng)
        low, high = case.body_box
        jitter = rng.uniform(-self.position_jitter, self.position_jitter, 3)
        relative = np.clip((centre - low) / (high - low) + jitter, 0, 1)
        low, high = other.body_box
        return np.asarray(low + relative * (high - low), dtype=np.float64)

    def _patch(self, case: StoredCase, centre: NDArray[np.float64]) -> Sample:
        """The patch nearest to `centre` that lies within the volume, as far as the volume is large enough."""
        shape, size = np.array(case.shape), self.patch_size
        room = shape - size
        start = np.where(room < 0, room // 2, np.clip(np.floor(centre) - size // 2, 0, np.maximum(room, 0))).astype(int)
        image = self._cut(case.image, start, self.background, torch.float32)
        label = case.label
        return image, None if label is None else self._cut(label, start, 0, torch.int64)

    def _cut(self, array: NDArray[Any], start: NDArray[np.int_], fill: float, dtype: torch.dtype) -> Tensor:
        low = np.maximum(start, 0)
        high = np.minimum(start + self.patch_size, array.shape)
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        patch = torch.from_numpy(np.array(array[source])).to(dtype)  # off the map first: torch converts faster
        if patch.shape != tuple(self.patch_size):
            inner, patch = patch, torch.full(tuple(self.patch_size), fill, dtype=dtype)
            patch[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = inner
        return patch.reshape(1, *self.patch_size[self._kept_axes])


def _batch(samples: Sequence[dict[str, Sample]]) -> dict[str, Tensor]:
    """Samples side by side; a label of none is told as unlabelled where another has one."""
    batch: dict[str, Tensor] = {}
    for domain in samples[0]:
        images, labels = zip(*(sample[domain] for sample in samples), strict=True)
        batch[domain] = _stacked(images)
        if any(label is not None for label in labels):
            known = [_unlabelled(images[0]) if label is None else label for label in labels]
            batch[f"label_{domain}"] = _stacked(known)
    return batch


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """One more axis in front; a single tensor is not copied for it."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def _unlabelled(image: Tensor) -> Tensor:
    return torch.full(image.shape, UNLABELLED, dtype=torch.int64)


def _pairs(cases_A: list[StoredCase], cases_B: list[StoredCase]) -> tuple[list[StoredCase], list[StoredCase]]:
    """The cases of subjects that have both, in step."""
    of_subject = {case.subject: case for case in cases_B}
    pairs = [(case, of_subject[case.subject]) for case in cases_A if case.subject in of_subject]
    if not pairs:
        raise InputError("paired training: no subject has an image in both domains; use an unpaired recipe")
    for case, other in pairs:
        same = case.shape == other.shape and np.allclose(case.meta["affine"], other.meta["affine"], atol=1e-2)
        if not same:
            place = f"paired training: subject {case.subject}"
            raise InputError(f"{place}: its two images lie on different grids; resample one onto the other")
    return [case for case, _ in pairs], [other for _, other in pairs]
