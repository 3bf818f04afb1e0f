"""Seams on paper: steps where windows meet, and what a second run says."""

import numpy as np
import pytest

from medgan.metrics.seams import SeamScore, border_jumps, difference_rms

EVERYWHERE = np.ones((4, 1, 1), dtype=bool)


def line(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


def test_a_step_at_a_border_stands_out_from_the_steps_inside() -> None:
    assert border_jumps(line(0, 1, 6, 7), [[2], [], []], EVERYWHERE) == (5.0, 1.0)
    assert border_jumps(line(0, 1, 2, 3), [[2], [], []], EVERYWHERE) == (1.0, 1.0)
    assert border_jumps(line(0, 1, 6, 3), [[1, 2], [], []], EVERYWHERE) == (3.0, 3.0)


def test_without_borders_or_neighbours_in_the_mask_there_is_nothing_to_tell() -> None:
    assert border_jumps(line(0, 1, 6, 7), [[], [], []], EVERYWHERE) is None
    mask = EVERYWHERE.copy()
    mask[2] = False
    assert border_jumps(line(0, 1, 6, 7), [[2], [], []], mask) is None


def test_only_pairs_in_the_mask_count() -> None:
    mask = EVERYWHERE.copy()
    mask[3] = False
    assert border_jumps(line(0, 1, 6, 100), [[2], [], []], mask) == (5.0, 1.0)


def test_an_axis_of_distant_slices_is_compared_with_itself() -> None:
    x, _, z = np.meshgrid(np.arange(4.0), np.arange(4.0), np.arange(4.0), indexing="ij")
    ramp = x + 10 * z
    everywhere = np.ones_like(ramp, dtype=bool)
    assert border_jumps(ramp, [[], [], [2]], everywhere) == (10.0, 10.0)
    assert border_jumps(ramp, [[2], [], [2]], everywhere) == (5.5, 5.5)


def test_the_ratio_is_one_without_seams_and_missing_without_borders() -> None:
    assert SeamScore(2, 5.0, 5.0, None).jump_ratio == 1.0
    assert SeamScore(2, 5.0, 2.0, None).jump_ratio == 2.5
    assert SeamScore(1, None, None, 0.0).jump_ratio is None
    assert SeamScore(2, 5.0, 0.0, None).jump_ratio is None


def test_the_difference_of_two_runs_is_a_root_mean_square_in_the_mask() -> None:
    mask = EVERYWHERE.copy()
    mask[3] = False
    assert difference_rms(line(1, 2, 3, 4), line(1, 5, -1, 99), mask) == pytest.approx((25 / 3) ** 0.5)
    assert np.isnan(difference_rms(line(1), line(2), np.zeros((1, 1, 1), dtype=bool)))
