"""Batches of patches."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medgan.config import InputError
from medgan.data.datasets import PatchDataset
from medgan.data.phantom import make_phantom
from medgan.data.store import StoredCase, write_case
from medgan.data.transforms import Augment


def store(folder, domain, subject, image, label, body=None):
    path = folder / domain / subject
    body = np.ones(image.shape, bool) if body is None else body
    write_case(path, image=image, label=label, body=body, meta={"affine": np.eye(4).tolist()})
    return StoredCase(subject, domain, "train", path)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    stored = []
    for n in range(3):
        phantom = make_phantom(n, (24, 24, 12))
        for domain, image in (("A", phantom.ct / 1250.0), ("B", phantom.mr / 500.0 - 1)):
            label = None if domain == "B" and n == 0 else phantom.labels
            body = phantom.labels > 0
            stored.append(store(folder, domain, f"{n}", np.clip(image, -1, 1), label, body))
    return stored


def dataset(cases, **changes):
    options = {"pairing": "unpaired", "patch_size": (12, 12, 8), "batch_size": 2, "seed": 3, "num_steps": 20}
    return PatchDataset(cases, **{**options, **changes})


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_batches_have_the_shapes_types_and_ranges_of_the_contract(cases):
    batch = dataset(cases, augment=Augment(flip_axes=(0,)))[0]
    assert set(batch) >= {"A", "B", "label_A"}
    for domain in "AB":
        assert batch[domain].shape == (2, 1, 12, 12, 8)
        assert batch[domain].dtype == torch.float32
        assert batch[domain].abs().max() <= 1
    assert batch["label_A"].shape == (2, 1, 12, 12, 8)
    assert batch["label_A"].dtype == torch.int64


def test_a_batch_depends_on_seed_and_step_alone(cases):
    one = dataset(cases, augment=Augment(), label_focus=0.5)
    two = dataset(cases, augment=Augment(), label_focus=0.5)
    late = one[11]
    assert [equal(one[step], two[step]) for step in (11, 3, 0)] == [True] * 3
    assert equal(one[11], late)
    assert not equal(one[11], one[12])
    assert not equal(late, dataset(cases, augment=Augment(), label_focus=0.5, seed=4)[11])


def test_worker_processes_change_nothing(cases):
    alone = dataset(cases, num_steps=3)
    loaded = list(DataLoader(alone, batch_size=None, num_workers=1))
    assert len(loaded) == 3
    assert all(equal(batch, alone[step]) for step, batch in enumerate(loaded))


@pytest.mark.parametrize("pairing", ["unpaired", "paired", "single"])
def test_what_is_augmented_later_is_the_same(cases, pairing):
    options = {"pairing": pairing, "augment": Augment(flip_axes=(0,), gamma=0.2, noise=0.05)}
    at_once, later = (dataset(cases, augment_later=put_off, **options) for put_off in (False, True))
    for step in (0, 7):
        raw = later[step]
        assert not torch.equal(raw["A"], at_once[step]["A"])
        assert equal(later.augmented(raw), at_once[step])
        assert equal(at_once.augmented(at_once[step]), at_once[step])


def test_two_ranks_see_together_what_one_sees(cases):
    one = dataset(cases, batch_size=2)[5]
    ranks = [dataset(cases, batch_size=1, rank=rank, world_size=2)[5] for rank in range(2)]
    assert torch.equal(torch.cat([batch["A"] for batch in ranks]), one["A"])
    assert torch.equal(torch.cat([batch["B"] for batch in ranks]), one["B"])


def test_every_case_comes_once_before_any_comes_twice(tmp_path):
    cases = [store(tmp_path, d, str(n), np.full((8, 8, 8), n / 4), None) for d in "AB" for n in range(4)]
    patches = dataset(cases, patch_size=(4, 4, 4), batch_size=4)
    orders = {tuple(patches[step]["A"][:, 0, 0, 0, 0].tolist()) for step in range(6)}
    assert all(sorted(order) == [0, 0.25, 0.5, 0.75] for order in orders)
    assert len(orders) > 1
    assert any(not torch.equal(patches[step]["A"], patches[step]["B"]) for step in range(6))


def test_focus_centres_patches_on_labels_however_rare(tmp_path):
    label = np.zeros((40, 40, 40), dtype=np.int16)
    label[:30, :30, :30] = 1
    label[30, 31, 32] = 2  # one voxel in 64000
    cases = [store(tmp_path, "A", "one", np.zeros(label.shape), label)]
    patches = dataset(cases, pairing="single", patch_size=(8, 8, 8), batch_size=50, label_focus=1.0)
    seen = [bool((patch == 2).any()) for patch in patches[0]["label_A"]]
    assert 0.3 < np.mean(seen) < 0.7
    centred = [patch for patch in patches[0]["label_A"][:, 0] if (patch == 2).any()]
    assert all(patch[4, 4, 4] == 2 for patch in centred)
    patches = dataset(cases, pairing="single", patch_size=(8, 8, 8), batch_size=50, label_focus=0.0)
    assert sum(bool((patch == 2).any()) for patch in patches[0]["label_A"]) < 5


def test_patch_b_lies_where_patch_a_lies_relative_to_the_body(tmp_path):
    def ramp(n):  # the value tells the relative position along the first axis
        return np.broadcast_to(np.linspace(0, 1, n)[:, None, None], (n, 8, 8))

    body = np.zeros((60, 8, 8), dtype=bool)
    body[20:] = True
    image = np.zeros((60, 8, 8))
    image[20:] = ramp(40)
    cases = [store(tmp_path, "A", "a", ramp(80), None), store(tmp_path, "B", "b", image, None, body)]

    def gap(jitter):
        batch = dataset(cases, patch_size=(2, 8, 8), batch_size=60, position_jitter=jitter)[0]
        return (batch["A"].mean((1, 2, 3, 4)) - batch["B"].mean((1, 2, 3, 4))).abs().max()

    assert gap(0.0) < 0.06
    assert gap(0.2) < 0.26
    assert gap(None) > 0.4


def test_a_small_volume_is_padded_with_background(tmp_path):
    label = np.ones((4, 30, 8), dtype=np.int16)
    cases = [store(tmp_path, "A", "one", np.zeros(label.shape), label)]
    batch = dataset(cases, pairing="single", patch_size=(8, 8, 8))[0]
    assert (batch["A"][:, :, 2:6] == 0).all()
    assert (batch["A"][:, :, :2] == -1).all()
    assert (batch["A"][:, :, 6:] == -1).all()
    assert (batch["label_A"][:, :, 6:] == 0).all()
    assert (batch["label_A"][:, :, 2:6] == 1).all()


def test_missing_labels_are_minus_one_in_a_labelled_batch_and_absent_in_another(cases):
    some = dataset(cases, batch_size=3)[0]  # subject 0 of B has no labels
    unlabelled = (some["label_B"].flatten(1) == -1).all(dim=1)
    assert unlabelled.sum() == 1
    none = dataset([case for case in cases if case.domain == "A" or not case.labelled])[0]
    assert "label_B" not in none
    assert "label_A" in none


def test_pairs_are_the_same_patch_moved_alike(tmp_path):
    cases = []
    for n in range(2):
        image = np.random.default_rng(n).uniform(-1, 1, (20, 20, 12))
        cases += [store(tmp_path, domain, str(n), image, None) for domain in "AB"]
    cases.append(store(tmp_path, "A", "alone", image, None))
    augment = Augment(flip_axes=(0, 1), affine_probability=1.0, noise=0.1, gamma=0.3)
    patches = dataset(cases, pairing="paired", augment=augment)
    assert len(patches.cases["A"]) == 2
    for step in range(4):
        assert torch.equal(patches[step]["A"], patches[step]["B"])


def test_pairs_on_different_grids_are_refused(tmp_path):
    cases = [
        store(tmp_path, "A", "one", np.zeros((8, 8, 8)), None),
        store(tmp_path, "B", "one", np.zeros((9, 8, 8)), None),
    ]
    with pytest.raises(InputError, match=r"subject one: .*different grids"):
        dataset(cases, pairing="paired")
    with pytest.raises(InputError, match="no subject has an image in both"):
        dataset(cases[:1], pairing="paired")


def test_single_needs_no_other_domain_and_unpaired_does(cases):
    only_A = [case for case in cases if case.domain == "A"]
    assert set(dataset(only_A, pairing="single")[0]) == {"A", "label_A"}
    assert set(dataset(cases, pairing="single")[0]) == {"A", "label_A"}
    with pytest.raises(InputError, match="domain B: no cases"):
        dataset(only_A)


def test_a_patch_one_voxel_thick_is_a_slice(cases):
    batch = dataset(cases, patch_size=(12, 10, 1), augment=Augment(flip_axes=(1,)))[0]
    assert batch["A"].shape == batch["label_A"].shape == (2, 1, 12, 10)
    with pytest.raises(InputError, match="flip_axes"):
        dataset(cases, patch_size=(12, 10, 1), augment=Augment(flip_axes=(2,)))


def test_reading_ends_after_the_last_step(cases):
    assert len(list(dataset(cases, num_steps=2))) == 2
