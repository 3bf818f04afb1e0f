"""One image of a patient laid onto the other."""

import numpy as np
import pytest

from medgan.config import InputError
from medgan.data.phantom import make_phantom
from medgan.data.registration import Registration, laid_onto, register
from medgan.data.volume import Volume


def volume(array, affine):
    return Volume(array, affine, None, array.shape, None)


def test_a_volume_shifted_by_whole_voxels_is_laid_back_exactly():
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    move = np.eye(4)
    move[:3, 3] = (-2.0, 3.0, 0.0)  # one voxel along x and along y
    laid = laid_onto(volume(array, affine), volume(array, affine), move, 1, -1.0)
    assert np.array_equal(laid.array[:-1, :-1], array[1:, 1:])
    assert (laid.array[-1] == -1).all()
    labels = laid_onto(volume(array, affine), volume(array.astype(np.int16), affine), move, 0, -1)
    assert labels.array.dtype == np.int16
    assert np.array_equal(labels.array, laid.array)


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_an_mr_that_was_turned_and_shifted_comes_back_onto_its_ct(kind):
    phantom = make_phantom(3, (48, 48, 24))
    turn, angle = np.eye(4), np.radians(6)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = (9.0, -6.0, 5.0)
    ct, mr = volume(phantom.ct.astype(np.float32), phantom.affine), volume(phantom.mr, turn @ phantom.affine)
    matrix = register(ct, mr, Registration(transform=kind, samples=0.5))
    corners = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-60, 60) for z in (-40, 40)], dtype=float)
    off_mm = np.linalg.norm((corners @ (matrix - turn).T)[:, :3], axis=1)
    before_mm = np.linalg.norm((corners @ (np.eye(4) - turn).T)[:, :3], axis=1)
    assert before_mm.min() > 5
    assert off_mm.max() < (2.0 if kind == "rigid" else 4.0)  # half a voxel in plane, and one


def test_a_sheared_grid_is_refused():
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    one = volume(np.zeros((8, 8, 8), np.float32), sheared)
    with pytest.raises(InputError, match="sheared"):
        register(one, one, Registration())
