"""Organs read off a source and off its translation: cubes that are lost, doubled, moved or of another tissue."""

import math
from typing import Any

import numpy as np
import pytest

from medgan.metrics.anatomy import OrganReading, read_organs

SHAPE = (30, 30, 20)
SPACING = (2.0, 2.0, 2.5)  # 10 mm3: a hundred voxels are a millilitre


def cube(x: int = 5, *, size: int = 8, label: int = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.int16)
    labels[x : x + size, 10 : 10 + size, 6 : 6 + size] = label
    return labels


def read(source: np.ndarray, translation: np.ndarray, image: Any = None, **options: Any) -> OrganReading:
    shown = np.where(source > 0, 100.0, -50.0) if image is None else image
    (reading,) = read_organs(source, translation, shown, [1, 2], SPACING, tolerance=50.0, **options)
    return reading


def test_what_is_the_same_has_nothing_to_show() -> None:
    reading = read(cube(), cube())
    assert (reading.label, reading.dice, reading.shift_mm, reading.missing, reading.extra) == (1, 1, 0, 0, 0)
    assert reading.volume_ml == pytest.approx(5.12)
    assert (reading.volume_change_ml, reading.volume_change_percent, reading.spot_percent) == (0, 0, 0)
    assert (reading.intensity_low, reading.intensity, reading.intensity_high) == (100, 100, 100)
    assert reading.slice in (9, 10)  # its middle is 9.5


def test_an_erased_cube_is_missing() -> None:
    reading = read(cube(), np.zeros(SHAPE))
    assert (reading.dice, reading.missing, reading.extra) == (0, 1, 0)
    assert reading.volume_change_percent == -100
    assert math.isnan(reading.shift_mm)
    assert reading.spot_percent == pytest.approx(100 * 8**3 / 10**2 / 8)  # of a cube of 10 x 10 x 8 voxels


def test_a_cube_from_nowhere_is_extra() -> None:
    reading = read(np.zeros(SHAPE), cube(), np.zeros(SHAPE))
    assert (reading.dice, reading.missing, reading.extra) == (0, 0, 1)
    assert math.isnan(reading.volume_change_percent)
    assert math.isnan(reading.intensity)
    assert reading.volume_change_ml == pytest.approx(5.12)


def test_a_doubled_cube_has_twice_the_volume_and_one_extra_piece() -> None:
    reading = read(cube(), cube() + cube(18))
    assert reading.dice == pytest.approx(2 / 3)
    assert (reading.missing, reading.extra) == (0, 1)
    assert reading.volume_change_percent == pytest.approx(100)
    assert reading.shift_mm == pytest.approx(13 * 2.0 / 2)


def test_a_cube_moved_by_two_voxels_is_moved_by_four_millimetres() -> None:
    reading = read(cube(), cube(7))
    assert reading.shift_mm == pytest.approx(4)
    assert reading.dice == pytest.approx(6 / 8)
    assert (reading.missing, reading.extra, reading.volume_change_ml) == (0, 0, 0)


def test_specks_are_no_pieces() -> None:
    speck = np.zeros(SHAPE, np.int16)
    speck[24:28, 24:28, 15:19] = 1  # 0.64 ml
    assert read(cube(), cube() + speck).extra == 0
    assert read(cube(), cube() + speck, piece_ml=0.5).extra == 1
    assert read(cube() + speck, cube(), piece_ml=0.5).missing == 1


def test_intensities_are_those_of_the_translation_where_the_source_has_the_organ() -> None:
    source = cube() + cube(18)
    image = np.where(source > 0, 100.0, -50.0)
    image[18:26][source[18:26] > 0] = 400.0
    reading = read(source, np.zeros(SHAPE), image)
    assert (reading.intensity_low, reading.intensity, reading.intensity_high) == (100, 250, 400)


@pytest.mark.parametrize(
    ("voxels", "shown", "low", "high"),
    [(10, 130.0, 0.0, 30.0), (5, 130.0, 0.0, 15.0), (10, 80.0, -20.0, 0.0), (10, 900.0, 0.0, 50.0)],
)
def test_another_tissue_inside_an_organ_is_a_spot(voxels: int, shown: float, low: float, high: float) -> None:
    source = np.zeros(SHAPE, np.int16)
    source[2:28, 2:28, 2:18] = 1
    image = np.where(source > 0, 100.0, -50.0)
    image[10 : 10 + voxels, 8:18, 6:14] = shown  # up to a cube of 20 mm; the tolerance is 50
    reading = read(source, source, image)
    assert (reading.spot_low, reading.spot_high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_the_worst_cut_is_where_the_two_disagree_most() -> None:
    changed = cube()
    changed[:, :, 11] = 0
    assert read(cube(), changed).slice == 11
    turned = read_organs(
        *(np.moveaxis(a, 2, 0) for a in (cube(), changed, cube())), [1], SPACING, tolerance=50.0, slice_axis=0
    )
    assert turned[0].slice == 11


def test_what_is_unlabelled_is_not_compared() -> None:
    source = cube()
    source[:, :, 15:] = -1
    extra = cube()
    extra[15:24, 10:18, 15:20] = 1
    assert read(source, extra).dice == 1


def test_organs_in_neither_are_left_out_and_grids_must_agree() -> None:
    assert read_organs(cube(), cube(), cube(), [2], SPACING, tolerance=1.0) == []
    with pytest.raises(ValueError, match="differ; give one grid"):
        read_organs(cube(), cube()[1:], cube(), [1], SPACING, tolerance=1.0)
