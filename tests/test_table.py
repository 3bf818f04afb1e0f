"""The table under a CT's patient."""

import numpy as np

from medgan.data.table import without_plates


def test_a_plate_that_touches_the_body_goes_and_the_body_stays():
    x, y = np.mgrid[:80, :60]
    trunk = (x - 40) ** 2 / 30**2 + (y - 35) ** 2 / 20**2 <= 1
    plate = (y >= 10) & (y < 16) & (x > 4) & (x < 76)  # 6 mm, under the back
    mask = np.repeat((trunk | plate)[..., None], 3, axis=2)
    left = without_plates(mask, (1.0, 1.0, 3.0), 10.0)
    far_plate = np.repeat((plate & ((x < 20) | (x > 60)))[..., None], 3, axis=2)
    assert not left[far_plate].any()
    assert left[np.repeat(trunk[..., None], 3, axis=2)].mean() > 0.995
    assert (left <= mask).all()
    sagittal = without_plates(np.moveaxis(mask, 2, 0), (3.0, 1.0, 1.0), 10.0, axial_axis=0)
    assert np.array_equal(np.moveaxis(sagittal, 0, 2), left)


def test_a_body_thinner_than_a_table_stays_whole():
    finger = np.zeros((20, 20, 4), bool)
    finger[8:12, 8:12] = True
    assert np.array_equal(without_plates(finger, (1, 1, 1), 10.0), finger)
