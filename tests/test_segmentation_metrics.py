"""Dice, HD95, surface Dice and volumes on shapes that one can draw on paper."""

import math

import numpy as np
import pytest
import torch

from medgan.metrics.segmentation import dice, segmentation_score
from medgan.metrics.surfaces import hd95_mm, surface_dice


def cube(first: tuple[int, int, int], side: int, shape: tuple[int, int, int] = (20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, start + side) for start in first)] = True
    return mask


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    axes = [np.arange(-30, 31) * mm for mm in spacing_mm]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2


def test_cubes_that_share_half_have_dice_one_half() -> None:
    assert dice(cube((2, 2, 2), 4), cube((4, 2, 2), 4)) == 0.5
    assert dice(cube((2, 2, 2), 4), cube((2, 2, 2), 4)) == 1
    assert dice(cube((2, 2, 2), 4), cube((10, 2, 2), 4)) == 0


def test_a_cube_shifted_by_k_voxels_is_k_voxels_away_in_mm() -> None:
    a = cube((5, 5, 5), 6)
    for axis, mm in enumerate((1.0, 2.0, 3.5)):
        b = np.roll(a, 2, axis=axis)
        assert hd95_mm(a, b, (1.0, 2.0, 3.5)) == pytest.approx(2 * mm)
    assert hd95_mm(a, a, (1, 1, 1)) == 0


def test_two_voxels_are_as_far_apart_as_their_centres() -> None:
    a, b = np.zeros((10, 10, 10), dtype=bool), np.zeros((10, 10, 10), dtype=bool)
    a[1, 1, 1] = b[4, 5, 1] = True
    assert hd95_mm(a, b, (1, 1, 1)) == pytest.approx(5)  # 3, 4, 5


def test_concentric_balls_are_their_radii_apart() -> None:
    spacing_mm = (0.5, 0.5, 0.5)
    assert hd95_mm(ball(12, spacing_mm), ball(8, spacing_mm), spacing_mm) == pytest.approx(4, abs=0.5)


def test_hd95_is_symmetric_and_takes_the_worse_direction() -> None:
    a = cube((2, 2, 2), 4)
    b = a | cube((14, 14, 14), 4)
    assert hd95_mm(a, b, (1, 1, 1)) == hd95_mm(b, a, (1, 1, 1)) > 10


def test_hd95_agrees_with_monai() -> None:
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    rng = np.random.default_rng(0)
    a = np.zeros((14, 15, 16), dtype=bool)
    a[3:11, 3:11, 3:11] = rng.random((8, 8, 8)) < 0.8
    b = np.roll(a, (1, 2, 0), axis=(0, 1, 2))
    theirs = compute_hausdorff_distance(
        torch.from_numpy(a[None, None]), torch.from_numpy(b[None, None]), percentile=95, spacing=(1.0, 1.5, 2.0)
    )
    assert hd95_mm(a, b, (1, 1.5, 2)) == pytest.approx(float(theirs))


def test_organs_at_the_border_of_the_image_have_a_surface_there() -> None:
    whole = np.ones((6, 6, 6), dtype=bool)
    assert hd95_mm(whole, whole, (1, 1, 1)) == 0
    assert hd95_mm(cube((0, 0, 0), 3, (6, 6, 6)), cube((0, 0, 0), 3, (6, 6, 6)), (1, 1, 1)) == 0


def test_empty_masks_have_no_dice_and_no_distance() -> None:
    nothing = np.zeros((4, 4, 4), dtype=bool)
    something = cube((1, 1, 1), 2, (4, 4, 4))
    assert math.isnan(dice(nothing, nothing))
    assert dice(nothing, something) == dice(something, nothing) == 0
    assert math.isnan(hd95_mm(nothing, something, (1, 1, 1)))


def test_missed_and_spurious_organs_are_counted_and_cost_the_diagonal() -> None:
    reference = np.where(cube((2, 2, 2), 4), 1, 0) + np.where(cube((12, 12, 12), 4), 2, 0)
    prediction = np.where(cube((2, 2, 2), 4), 1, 0) + np.where(cube((12, 2, 2), 4), 3, 0)
    score = segmentation_score(prediction, reference, [1, 2, 3, 4], (1, 1, 2))
    diagonal = math.sqrt(20**2 + 20**2 + 40**2)
    assert [organ.presence for organ in score.organs] == ["both", "missed", "spurious", "absent"]
    assert (score.missed, score.spurious, score.penalty_mm) == (1, 1, pytest.approx(diagonal))
    assert [organ.dice for organ in score.organs[:3]] == [1, 0, 0]
    assert score.dice == pytest.approx(1 / 3)
    assert score.hd95_mm == pytest.approx(2 * diagonal / 3)
    assert score.hd95_found_mm == 0
    assert math.isnan(score.organs[3].dice)


def test_missing_an_organ_never_improves_the_score() -> None:
    reference = np.where(cube((2, 2, 2), 4), 1, 0) + np.where(cube((12, 12, 12), 4), 2, 0)
    poor = np.where(cube((2, 2, 2), 4), 1, 0) + np.where(cube((8, 8, 8), 4), 2, 0)
    missed = np.where(cube((2, 2, 2), 4), 1, 0)
    spacing_mm = (1, 1, 1)
    with_poor = segmentation_score(poor, reference, [1, 2], spacing_mm)
    without = segmentation_score(missed, reference, [1, 2], spacing_mm)
    assert without.hd95_mm > with_poor.hd95_mm
    assert without.hd95_found_mm < with_poor.hd95_found_mm  # the trap


def test_unlabelled_voxels_and_those_outside_the_mask_do_not_count() -> None:
    reference = np.where(cube((2, 2, 2), 4), 1, 0)
    reference[10:] = -1
    prediction = np.where(cube((2, 2, 2), 4), 1, 0)
    prediction[12:14] = 1
    assert segmentation_score(prediction, reference, [1], (1, 1, 1)).dice == 1
    prediction[:, 12:14] = 1
    mask = np.zeros(reference.shape, dtype=bool)
    mask[:, :10] = True
    assert segmentation_score(prediction, reference, [1], (1, 1, 1)).dice < 1
    assert segmentation_score(prediction, reference, [1], (1, 1, 1), mask).dice == 1


def test_maps_without_any_organ_have_no_mean() -> None:
    nothing = np.zeros((4, 4, 4), dtype=int)
    score = segmentation_score(nothing, nothing, [1, 2], (1, 1, 1))
    assert math.isnan(score.dice)
    assert math.isnan(score.hd95_mm)
    assert (score.missed, score.spurious) == (0, 0)


def test_a_slab_that_is_moved_within_the_tolerance_keeps_its_surface_dice() -> None:
    a = cube((5, 5, 5), 6)
    b = np.roll(a, 2, axis=2)
    assert surface_dice(a, b, (1, 1, 1.5), 3.0) == 1
    assert surface_dice(a, a, (1, 1, 1.5), 0.0) == 1


def test_surface_dice_weighs_faces_by_their_area() -> None:
    a = np.zeros((4, 5, 12), dtype=bool)
    a[1:3, 1:4, 2:6] = True  # 2 x 3 x 4 voxels of 1 x 1 x 5 mm
    b = a.copy()
    b[1:3, 1:4, 6] = True  # one layer more: its 6 voxels are 5 mm beyond
    sides, end = 2 * (2 + 3) * 5, 6  # mm2 of each layer's sides, of one end
    total = (4 * sides + 2 * end) + (5 * sides + 2 * end)
    # two voxels wide, each layer is all surface, so that of a nothing is far from b
    assert surface_dice(a, b, (1, 1, 5), 4.9) == pytest.approx((total - sides - end) / total)
    assert surface_dice(a, b, (1, 1, 5), 5.0) == 1


def test_surface_dice_agrees_with_a_search_over_all_pairs_of_surface_voxels() -> None:
    rng = np.random.default_rng(0)
    spacing_mm = np.array([1.0, 1.5, 3.0])
    a, b = (rng.random((7, 6, 5)) < share for share in (0.2, 0.25))

    def surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faces = {}
        for voxel in np.argwhere(mask):
            for axis in range(3):
                for step in (-1, 1):
                    other = voxel.copy()
                    other[axis] += step
                    inside = (other >= 0).all() and (other < mask.shape).all() and mask[tuple(other)]
                    area = 0 if inside else spacing_mm.prod() / spacing_mm[axis]
                    faces[tuple(voxel)] = faces.get(tuple(voxel), 0) + area
        kept = [(place, area) for place, area in faces.items() if area]
        return np.array([place for place, _ in kept]) * spacing_mm, np.array([area for _, area in kept])

    (at_a, area_a), (at_b, area_b) = surface(a), surface(b)
    apart = np.linalg.norm(at_a[:, None] - at_b[None], axis=-1)
    for tolerance_mm in (0.5, 1.0, 1.6, 3.1):
        near = area_a[apart.min(axis=1) <= tolerance_mm].sum() + area_b[apart.min(axis=0) <= tolerance_mm].sum()
        assert surface_dice(a, b, spacing_mm, tolerance_mm) == pytest.approx(near / (area_a.sum() + area_b.sum()))
    worst = max(np.percentile(apart.min(axis=1), 95), np.percentile(apart.min(axis=0), 95))
    assert hd95_mm(a, b, spacing_mm) == pytest.approx(worst)


def test_surfaces_are_lines_in_2d() -> None:
    a, b = np.zeros((12, 12), dtype=bool), np.zeros((12, 12), dtype=bool)
    a[2:6, 2:6], b[2:6, 3:7] = True, True
    assert dice(a, b) == 0.75
    assert hd95_mm(a, b, (1, 2)) == pytest.approx(2)
    assert surface_dice(a, b, (1, 2), 2.0) == 1
    assert 0 < surface_dice(a, b, (1, 2), 0.5) < 1


def test_surface_dice_of_one_empty_mask_is_0_and_of_two_nothing() -> None:
    nothing, something = np.zeros((6, 6, 6), dtype=bool), cube((1, 1, 1), 3, (6, 6, 6))
    assert surface_dice(nothing, something, (1, 1, 1), 100) == surface_dice(something, nothing, (1, 1, 1), 100) == 0
    assert math.isnan(surface_dice(nothing, nothing, (1, 1, 1), 1))


def test_balls_have_their_volume_in_ml_and_differ_by_what_they_differ() -> None:
    spacing_mm = (1.0, 0.8, 1.25)
    large, small = ball(20, spacing_mm), ball(15, spacing_mm)
    (organ,) = segmentation_score(large.astype(int), small.astype(int), [1], spacing_mm).organs
    assert organ.volume_ml == pytest.approx(4 / 3 * math.pi * 2**3, rel=0.01)
    assert organ.reference_volume_ml == pytest.approx(4 / 3 * math.pi * 1.5**3, rel=0.01)
    assert organ.volume_difference_ml == pytest.approx(organ.volume_ml - organ.reference_volume_ml)
    assert organ.volume_difference_percent == pytest.approx(100 * ((20 / 15) ** 3 - 1), rel=0.02)


def test_volumes_of_missed_spurious_and_absent_organs_are_told_apart() -> None:
    reference = np.where(cube((2, 2, 2), 10), 1, 0)
    prediction = np.where(cube((2, 2, 2), 10), 2, 0)
    missed, spurious, absent = segmentation_score(prediction, reference, [1, 2, 3], (1, 1, 1)).organs
    assert (missed.volume_difference_ml, missed.volume_difference_percent, missed.surface_dice) == (-1, -100, 0)
    assert (spurious.volume_difference_ml, spurious.surface_dice) == (1, 0)
    assert math.isnan(spurious.volume_difference_percent)
    assert math.isnan(absent.volume_ml)
    assert math.isnan(absent.surface_dice)
    assert math.isnan(absent.volume_difference_percent)


def test_surface_dice_has_its_mean_with_and_without_missed_organs() -> None:
    reference = np.where(cube((2, 2, 2), 4), 1, 0) + np.where(cube((12, 12, 12), 4), 2, 0)
    score = segmentation_score(np.where(reference == 1, 1, 0), reference, [1, 2], (1, 1, 1), tolerance_mm=1)
    assert (score.surface_dice, score.surface_dice_found) == (0.5, 1)
    moved = np.roll(np.where(reference == 1, 1, 0), 2, axis=0)
    strict, lax = (segmentation_score(moved, reference, [1], (1, 1, 1), tolerance_mm=mm) for mm in (1, 2))
    assert strict.surface_dice < lax.surface_dice == 1


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        segmentation_score(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), [1], (1, 1, 1))
    with pytest.raises(ValueError, match="differ in shape"):
        dice(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
