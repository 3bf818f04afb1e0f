"""The working grid and the way back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan.config import InputError
from medgan.data.grid import GridMap


@st.composite
def grids(draw):
    """A shape and an affine with any axis order, flips, anisotropy, shear and obliqueness."""
    shape = tuple(draw(st.integers(4, 9)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rotation, _ = np.linalg.qr(np.eye(3) + draw(st.sampled_from([0.0, 0.2])) * rng.standard_normal((3, 3)))
    shear = np.eye(3)
    shear[0, 2] = draw(st.sampled_from([0.0, 0.3]))
    matrix = rotation @ shear @ np.diag(rng.uniform(0.5, 4.0, 3) * rng.choice([-1, 1], 3))
    affine = np.eye(4)
    affine[:3, :3] = matrix[:, draw(st.permutations(range(3)))]
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return shape, affine


def world(shape, affine):
    """RAS position of every voxel, (3, X, Y, Z)."""
    index = np.stack([*np.indices(shape), np.ones(shape)])
    return np.einsum("ij,jxyz->ixyz", affine, index)[:3]


@settings(max_examples=40, deadline=None)
@given(grids(), st.sampled_from(["RAS", "LPS", "SPR"]))
def test_turning_and_cropping_lose_nothing(grid, orientation):
    shape, affine = grid
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    plan = GridMap.plan(shape, affine, orientation=orientation)
    assert np.array_equal(plan.to_input(plan.to_working(array, 0), 0, fill=0), array)
    assert np.array_equal(plan.to_input(plan.to_working(array, 1), 1, fill=0), array.astype(np.float32))
    start = [n // 3 for n in plan.working_shape]
    cropped = plan.crop(start, [n - s for n, s in zip(plan.working_shape, start, strict=True)])
    back = cropped.to_input(cropped.to_working(array, 0), 0, fill=-3000)
    kept = back != -3000
    assert kept.sum() == np.prod(cropped.working_shape)
    assert np.array_equal(back[kept], array[kept])


@settings(max_examples=40, deadline=None)
@given(grids(), st.booleans())
def test_working_affine_points_at_the_same_places(grid, crop):
    shape, affine = grid
    plan = GridMap.plan(shape, affine)
    if crop:
        plan = plan.crop((1, 1, 1), [n - 2 for n in plan.working_shape])
    working = plan.affine(affine)
    for axis, here in enumerate(world(shape, affine)):
        there = plan.to_working(here, 1)
        assert np.allclose(there, world(plan.working_shape, working)[axis], atol=1e-3)
    # The working axes are the input's own, turned: the oblique stays oblique, and nothing is squared up.
    turned = np.linalg.inv(affine[:3, :3]) @ working[:3, :3]
    assert np.allclose(np.sort(np.abs(turned), axis=0), [[0] * 3, [0] * 3, [1] * 3], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(grids(), st.tuples(*[st.floats(0.6, 3.0)] * 3))
def test_resampling_puts_every_value_where_its_affine_says(grid, spacing_mm):
    shape, affine = grid
    plan = GridMap.plan(shape, affine, spacing_mm=spacing_mm)
    working = plan.affine(affine)
    assert np.allclose(np.linalg.norm(working[:3, :3], axis=0), spacing_mm)
    coarsest = max(*spacing_mm, *np.linalg.norm(affine[:3, :3], axis=0))
    for axis, here in enumerate(world(shape, affine)):
        error = np.abs(plan.to_working(here, 1) - world(plan.working_shape, working)[axis])
        assert error.max() <= 1.5 * coarsest  # the outermost voxels repeat the border
    constant = plan.to_working(np.full(shape, 7.0), 1)
    assert np.allclose(constant, 7.0)
    assert np.allclose(plan.to_input(constant, 1, fill=0.0), 7.0)


def test_a_ramp_survives_resampling_and_the_way_back():
    x = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 6, 6))
    for spacing_mm in (0.5, 2.0, 2.7):
        plan = GridMap.plan((40, 6, 6), np.eye(4), spacing_mm=(spacing_mm, 1.0, 1.0))
        working = plan.to_working(x, 1)
        place = plan.affine(np.eye(4))
        expected = place[0, 0] * np.arange(plan.working_shape[0]) + place[0, 3]
        assert np.abs(working[4:-4, 0, 0] - expected[4:-4]).max() < 0.25
        assert np.abs(plan.to_input(working, 1, fill=0.0) - x)[8:-8].max() < 0.5


def test_growing_voxels_average_instead_of_skipping():
    stripes = np.broadcast_to((np.arange(40) % 2).astype(float)[:, None, None], (40, 2, 2))
    coarse = GridMap.plan((40, 2, 2), np.eye(4), spacing_mm=(4.0, 1.0, 1.0)).to_working(stripes, 1)
    assert np.allclose(coarse[1:-1], 0.5, atol=0.02)


def test_labels_keep_their_values_and_their_type():
    labels = np.random.default_rng(0).integers(-1, 7, (9, 8, 7)).astype(np.int16)
    plan = GridMap.plan((9, 8, 7), np.diag([1.0, 2.0, 3.0, 1.0]), spacing_mm=(1.5, 1.5, 1.5))
    working = plan.to_working(labels, 0)
    back = plan.to_input(working, 0, fill=-1)
    assert working.dtype == back.dtype == np.int16
    assert set(np.unique(working)) <= set(range(-1, 7))


def test_labels_survive_a_finer_grid_unchanged():
    labels = np.random.default_rng(0).integers(0, 7, (9, 8, 7)).astype(np.uint8)
    plan = GridMap.plan((9, 8, 7), np.diag([3.0, 3.0, 3.0, 1.0]), spacing_mm=(1.0, 1.0, 1.0))
    assert np.array_equal(plan.to_input(plan.to_working(labels, 0), 0, fill=0), labels)


def test_outside_the_crop_lies_the_fill_also_between_grids():
    plan = GridMap.plan((20, 20, 20), np.eye(4), spacing_mm=(2.0, 2.0, 2.0)).crop((2, 2, 2), (5, 5, 5))
    back = plan.to_input(np.ones((5, 5, 5), dtype=np.float32), 1, fill=-1000.0)
    assert set(np.unique(back)) == {-1000.0, 1.0}
    assert (back == 1).sum() == 10**3
    assert (back[4:14, 4:14, 4:14] == 1).all()


def test_a_map_survives_json():
    plan = GridMap.plan((9, 8, 7), np.diag([-1.0, 2.0, 3.0, 1.0]), spacing_mm=(2.0, 2.0, 2.0)).crop(
        (1, 1, 1), (2, 3, 4)
    )
    assert GridMap.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_an_array_of_another_shape_is_refused():
    plan = GridMap.plan((4, 4, 4), np.eye(4))
    with pytest.raises(InputError, match="not on the grid"):
        plan.to_working(np.zeros((4, 4, 5)), 1)
