"""The lookup table on maps that are known beforehand, and the masks that it is scored in."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.metrics.lookup import LookupTable
from medgan.metrics.masks import bone, common_body, ct_body, erode_in_plane, mr_body


def test_a_per_voxel_map_is_learnt_exactly() -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 60, size=(10, 10, 10)) * 25.0 + 12
    truth = -3 * source + 7
    table = LookupTable.fit([source], [truth], [np.ones(source.shape, dtype=bool)])
    assert np.abs(table.apply(source) - truth).max() < 1e-3


def test_the_mean_and_the_median_of_a_bin_differ_as_they_should() -> None:
    source, mask = np.full((5,), 100.0), np.ones(5, dtype=bool)
    target = np.array([0.0, 0.0, 0.0, 0.0, 50.0])
    assert LookupTable.fit([source], [target], [mask]).apply(source)[0] == 10
    assert LookupTable.fit([source], [target], [mask], statistic="median").apply(source)[0] == 0


def test_bins_are_pooled_over_pairs_and_only_inside_the_masks() -> None:
    source = np.full((4,), 10.0)
    targets = [np.array([1.0, 1.0, 99.0, 99.0]), np.array([4.0, 99.0, 99.0, 99.0])]
    masks = [np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])]
    table = LookupTable.fit([source, source], targets, masks)
    assert table.apply(np.array([10.0]))[0] == 2


def test_empty_bins_lie_between_their_neighbours_and_ends_go_on() -> None:
    source, target = np.array([0.5, 4.5]), np.array([10.0, 50.0])
    table = LookupTable.fit([source], [target], [np.ones(2, dtype=bool)], low=0, high=5, bins=5)
    assert table.values.tolist() == [10, 20, 30, 40, 50]
    assert table.apply(np.array([-100.0, 2.5, 1e6, np.nan])).tolist() == [10, 30, 50, 10]


def test_nothing_to_fit_on_is_refused() -> None:
    image = np.zeros((3, 3))
    with pytest.raises(ValueError, match="masks are empty"):
        LookupTable.fit([image], [image], [image > 0])
    with pytest.raises(ValueError, match="range 5 to 5 is empty"):
        LookupTable.fit([image], [image], [image == 0], low=5, high=5)


def body() -> tuple[np.ndarray, np.ndarray]:
    """A cylinder with an air hole; on MR its muscle has 400, on CT 40 HU with a table line below."""
    x, y = np.mgrid[:32, :32]
    disk = (x - 16) ** 2 + (y - 16) ** 2 <= 100
    inside = np.repeat((disk & ~((x - 16) ** 2 + (y - 16) ** 2 <= 4))[..., None], 8, axis=2)
    mr, ct = np.where(inside, 400.0, 5.0), np.where(inside, 40.0, -1000.0)
    ct[30, :, :] = 200
    return mr, ct


def test_holes_are_body_and_the_table_is_not() -> None:
    mr, ct = body()
    assert mr_body(mr)[16, 16, 4]
    assert ct_body(ct)[16, 16, 4]
    assert not ct_body(ct)[30].any()


def test_slices_without_signal_are_left_out() -> None:
    mr, ct = body()
    mr[..., 5:] = 0
    common = common_body(mr, ct, (1, 1, 1))
    assert common[..., 3].any()
    assert not common[..., 5:].any()


def test_the_rim_is_eroded_in_plane_by_mm() -> None:
    mask = np.zeros((20, 20, 4), dtype=bool)
    mask[5:15, 5:15] = True
    assert erode_in_plane(mask, (2, 2, 3), 2).sum() == 8 * 8 * 4
    assert erode_in_plane(mask, (1, 1, 3), 2).sum() == 6 * 6 * 4
    assert erode_in_plane(mask, (1, 1, 3), 0) is mask


def test_bone_is_what_stays_dense_after_smoothing() -> None:
    ct = np.full((16, 16, 4), 40.0)
    ct[4:10, 4:10] = 900
    ct[13, 13, 2] = 400  # a voxel of noise
    found = bone(ct, (1, 1, 1))
    assert found[6, 6, 1]
    assert not found[13, 13, 2]
    assert ndimage.label(found)[1] == 1
