"""How far from its place an organ looks: cubes of one intensity in another, moved and left where they were."""

import numpy as np
import pytest

from medgan.metrics.displacement import displacement_mm

SHAPE = (30, 30, 20)
SPACING = (4.0, 4.0, 6.0)


def cube(offset: tuple[int, int, int] = (0, 0, 0), size: int = 6) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(10 + o, 10 + o + size) for o in offset)] = True
    return mask


def shown(mask: np.ndarray, noise: float = 20.0) -> np.ndarray:
    return np.where(mask, 100.0, 50.0) + np.random.default_rng(0).normal(0, noise, SHAPE)


def test_an_organ_at_its_place_is_not_displaced() -> None:
    assert displacement_mm([cube()], cube(), shown(cube()), SPACING, 100.0) == 0
    assert displacement_mm([], cube(), shown(cube()), SPACING, 100.0) == 0


@pytest.mark.parametrize("offset", [(2, 0, 0), (0, -1, 0), (1, 1, 0), (0, 0, 1), (-2, 0, 1)])
def test_an_organ_elsewhere_is_as_far_as_it_was_moved(offset: tuple[int, int, int]) -> None:
    moved = float(np.linalg.norm(np.array(offset) * SPACING))
    assert displacement_mm([cube()], cube(), shown(cube(offset)), SPACING, 100.0) == pytest.approx(moved)


def test_the_farthest_piece_counts() -> None:
    left, right = cube(size=4), cube((10, 10, 0), size=4)
    image = shown(left | cube((12, 10, 0), size=4), noise=2.0)
    assert displacement_mm([left], left | right, image, SPACING, 100.0) == 0
    assert displacement_mm([left, right], left | right, image, SPACING, 100.0) == 8


def test_fine_grids_are_thinned_out() -> None:
    fine = tuple(mm / 2 for mm in SPACING)
    mask, moved = (np.kron(cube(offset), np.ones((2, 2, 2))) > 0 for offset in ((0, 0, 0), (2, 0, 0)))
    image = np.where(moved, 100.0, 50.0)
    assert displacement_mm([mask], mask, image, fine, 100.0) == pytest.approx(8, abs=2)
    assert displacement_mm([mask], mask, np.where(mask, 100.0, 50.0), fine, 100.0) == 0
