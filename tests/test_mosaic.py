"""Batches of images as one picture: where each lies, and which way up."""

import torch

from medgan.mosaic import columns_for, cuts, mosaic, side_by_side


def test_images_fill_rows_from_the_left_and_the_last_row_is_filled_with_black() -> None:
    images = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0)])
    picture = mosaic(images, columns=2, scale=1)
    assert picture.shape == (8, 8)
    assert [picture[1, 1], picture[1, 5], picture[5, 1], picture[5, 5]] == [0, 128, 255, 0]


def test_colour_stays_colour() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert mosaic(red, 1, scale=2).shape == (12, 12, 3)
    assert tuple(mosaic(red, 1)[9, 9]) == (255, 0, 0)


def test_a_film_lies_out_frame_by_frame() -> None:
    film = torch.stack([torch.full((2, 3), value) for value in (-1.0, 0.0, 1.0)])[None, None]
    flat = cuts(film, is_upright=True)
    assert flat.shape == (1, 1, 2, 12)
    assert flat[0, 0, 0, [0, 4, 8]].tolist() == [-1.0, 0.0, 1.0]


def test_a_picture_is_not_turned_and_a_patch_of_a_patient_is() -> None:
    image = torch.full((1, 1, 4, 4), -1.0)
    image[0, 0, 0, 0] = 1.0
    assert cuts(image, is_upright=True)[0, 0, 0, 0] == 1.0
    assert cuts(image, is_upright=False)[0, 0, 3, 3] == 1.0


def test_columns_of_different_heights_stand_beside_each_other() -> None:
    small, large = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 4, 4)
    assert side_by_side([small, large], scale=1).shape == (2 * 6, 2 * 6)


def test_a_grid_is_about_square_and_a_film_has_a_row_of_its_own() -> None:
    assert columns_for(36, 32) == 6
    assert columns_for(36, 8 * 64) == 1
