"""Body masks, preparing, augmenting."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medgan.config import InputError
from medgan.data.phantom import make_phantom
from medgan.data.transforms import Augment, body_mask, otsu_threshold, prepare
from medgan.data.volume import Volume


def volume(array, affine=None, name="image.nii.gz"):
    affine = np.eye(4) if affine is None else affine
    return Volume(array=array, affine=affine, header=None, disk_shape=array.shape, path=Path(name))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(("modality", "threshold"), [("ct", -300.0), ("mr", None)])
def test_the_body_of_a_phantom_is_found_with_its_lungs(modality, threshold):
    phantom = make_phantom(3)
    mask = body_mask(getattr(phantom, modality), threshold)
    assert dice(mask, phantom.labels > 0) > 0.95
    lungs = phantom.labels == 6
    assert mask[lungs].mean() > 0.98


def test_a_thin_table_and_a_speck_are_no_body_but_two_legs_are():
    image = np.full((40, 40, 6), -1000.0)
    image[5:15, 10:20] = image[22:32, 10:20] = 50  # two legs
    image[:, 30] = 100  # the table
    image[36:39, 2:5] = 50  # a speck
    mask = body_mask(image, -300)
    assert mask[10, 15, 3]
    assert mask[27, 15, 3]
    assert not mask[:, 30].any()
    assert not mask[35:, :6].any()


def test_not_a_number_is_outside_the_body():
    image = np.full((20, 20, 4), 100.0)
    image[:6] = np.nan
    mask = body_mask(image, 0.0)
    assert not mask[:6].any()
    assert mask[10, 10, 2]


def test_otsu_parts_two_heaps():
    image = np.concatenate([np.full(100, 10.0), np.full(60, 300.0), np.full(40, 900.0)])
    assert 10 < otsu_threshold(image) < 300


def test_otsu_finds_the_body_where_there_is_little_background():
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.rayleigh(15, 300), rng.normal(330, 40, 2000), rng.normal(950, 80, 2500)])
    assert 60 < otsu_threshold(image) < 200


def test_an_image_of_one_value_has_a_threshold_and_no_body():
    assert not body_mask(np.full((5, 5, 5), 3.0), None).any()


def test_prepare_turns_and_crops_image_and_label_alike():
    array = np.zeros((30, 20, 10), dtype=np.int16)
    array[10:20, 5:15, 2:8] = 100
    label = (array > 0).astype(np.uint8)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    got = prepare(volume(array, affine), volume(label, affine), threshold=50, crop_margin_mm=2.0)
    assert got.image.shape == got.label.shape == got.body.shape == (14, 14, 8)
    assert got.body.sum() >= 0.95 * label.sum()
    assert np.array_equal(got.label > 0, got.image == 100)
    first = got.affine @ [2, 2, 1, 1]  # first voxel of the box, right axis now
    assert np.allclose(first, affine @ [19, 5, 2, 1])
    back = got.undo.to_input(got.label, 0, fill=0)
    assert np.array_equal(back, label)


def test_prepare_fills_what_is_not_a_number():
    array = np.full((10, 10, 4), 100.0, dtype=np.float32)
    array[0, 0, 0], array[9, 9, 3] = np.nan, np.inf
    got = prepare(volume(array), threshold=0.0, background=-1000.0)
    assert got.image[0, 0, 0] == got.image[9, 9, 3] == -1000
    assert got.image[5, 5, 2] == 100


def test_prepare_says_where_there_is_no_body():
    with pytest.raises(InputError, match=r"image.nii.gz: no body.*body_threshold"):
        prepare(volume(np.zeros((5, 5, 5))), threshold=100.0)


def test_prepare_refuses_labels_that_lie_elsewhere():
    array = np.full((8, 8, 8), 100.0)
    moved = np.eye(4)
    moved[0, 3] = 3.0
    with pytest.raises(InputError, match=r"label.nii: lies 3 mm off"):
        prepare(volume(array), volume(array, moved, "label.nii"), threshold=0.0)
    with pytest.raises(InputError, match=r"label.nii: .*voxels"):
        prepare(volume(array), volume(array[:7], name="label.nii"), threshold=0.0)


def patch():
    phantom = make_phantom(0, (24, 24, 16))
    image = torch.from_numpy(phantom.ct / 1250.0 - 0.2).float().clamp(-1, 1)[None]
    return image, torch.from_numpy(phantom.labels.astype(np.int64))[None]


def test_equal_seeds_augment_equally_and_others_do_not():
    image, label = patch()
    augment = Augment(flip_axes=(0,), affine_probability=1.0, gamma=0.2, noise=0.05)
    one, one_label = augment(image, label, 7)
    two, two_label = augment(image, label, 7)
    other, _ = augment(image, label, 8)
    assert torch.equal(one, two)
    assert torch.equal(one_label, two_label)
    assert not torch.equal(one, other)
    assert type(one) is torch.Tensor
    assert one.shape == image.shape
    assert one_label.dtype == torch.int64
    assert one.abs().max() <= 1


def test_image_and_label_move_alike():
    _, label = patch()
    augment = Augment(flip_axes=(0, 1, 2), affine_probability=1.0, rotate_degrees=(0, 0, 30), scale=0.2)
    body = (label > 0).float()
    for seed in range(4):
        image, moved = augment(body, label, seed)
        alone, none = augment.spatial(body, None, seed)
        assert none is None
        assert torch.equal(alone, image)
        assert ((image > 0.5) != (moved > 0)).float().mean() < 0.01
        assert ((moved > 0) != (label > 0)).float().mean() > 0.02


def test_patches_of_slices_are_augmented_too():
    image, label = (part[..., 8] for part in patch())
    moved, moved_label = Augment(affine_probability=1.0, flip_axes=(0,))(image, label, 0)
    assert moved.shape == image.shape == moved_label.shape


def test_no_augmentation_asked_changes_nothing():
    image, label = patch()
    moved, moved_label = Augment(affine_probability=0.0)(image, label, 0)
    assert torch.equal(moved, image)
    assert torch.equal(moved_label, label)


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError):
        Augment(flip_axes=(3,))


def test_a_dark_way_from_the_skin_into_the_body_does_not_drain_it() -> None:
    image = np.full((24, 24, 3), 100.0, dtype=np.float32)
    image[:2] = image[-2:] = image[:, :2] = image[:, -2:] = 0
    image[8:16, 8:16] = 0  # gas inside
    image[11:13, 2:8] = 0  # and a dark bone from the skin to it
    assert not body_mask(image, 50, closing=0)[12, 12, 1]
    body = body_mask(image, 50, closing=2)
    assert body[2:-2, 4:-4].all()
    assert not body[0].any()
