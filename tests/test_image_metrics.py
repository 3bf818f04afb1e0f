"""MAE, bias, PSNR and SSIM against what can be worked out on paper, and SSIM against scikit-image."""

import math

import numpy as np
import pytest
import torch

from medgan.metrics.image import bias, mae, psnr, ssim

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(12, 11, 9)).astype(np.float32)


def test_a_shift_is_its_own_error() -> None:
    assert mae(IMAGE + 3, IMAGE) == pytest.approx(3, rel=1e-6)
    assert bias(IMAGE - 3, IMAGE) == pytest.approx(-3, rel=1e-6)
    assert psnr(IMAGE + 3, IMAGE, 300) == pytest.approx(40, rel=1e-6)  # 20 log10(300 / 3)


def test_scaling_both_images_scales_the_error_and_leaves_psnr_and_ssim() -> None:
    other = IMAGE + RNG.normal(size=IMAGE.shape)
    assert mae(5 * other, 5 * IMAGE) == pytest.approx(5 * mae(other, IMAGE))
    assert psnr(5 * other, 5 * IMAGE, 5 * 4) == pytest.approx(psnr(other, IMAGE, 4))
    assert ssim(5 * other, 5 * IMAGE, 5 * 4) == pytest.approx(ssim(other, IMAGE, 4))


def test_equal_images_are_perfect() -> None:
    assert mae(IMAGE, IMAGE) == 0
    assert psnr(IMAGE, IMAGE, 1) == math.inf
    assert ssim(IMAGE, IMAGE, 1) == pytest.approx(1)


def test_only_what_lies_in_the_mask_counts() -> None:
    other, mask = IMAGE.copy(), np.zeros(IMAGE.shape, dtype=bool)
    mask[:6] = True
    other[:6] += 2
    other[6:] = np.nan
    assert mae(other, IMAGE, mask) == pytest.approx(2, rel=1e-6)
    assert bias(other, IMAGE, mask) == pytest.approx(2, rel=1e-6)
    assert psnr(other, IMAGE, 200, mask) == pytest.approx(40, rel=1e-6)
    assert math.isfinite(ssim(other, IMAGE, 4, mask))


def test_ssim_of_two_constants_is_its_luminance_term() -> None:
    a, b, c1 = 3.0, 5.0, (0.01 * 10) ** 2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    for window in ("uniform", "gaussian"):
        found = ssim(np.full((9, 9, 9), a), np.full((9, 9, 9), b), 10, window=window)
        assert found == pytest.approx(expected)


def test_ssim_of_an_inverted_image_is_negative() -> None:
    centred = np.indices(IMAGE.shape).sum(axis=0) % 2 * 2.0 - 1  # a chequerboard: every window has mean near 0
    assert ssim(-centred, centred, 2) < -0.9


@pytest.mark.parametrize("shape", [(13, 12, 11), (20, 17)])
def test_ssim_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    a = RNG.normal(size=shape)
    b = a + 0.5 * RNG.normal(size=shape)
    assert ssim(a, b, 4) == pytest.approx(structural_similarity(a, b, data_range=4), rel=1e-6)
    _, similarity = structural_similarity(a, b, data_range=4, full=True)
    mask = RNG.random(shape) < 0.4
    assert ssim(a, b, 4, mask) == pytest.approx(similarity[mask].mean(), rel=1e-6)
    _, gaussian = structural_similarity(
        a, b, data_range=4, full=True, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(a, b, 4, mask, window="gaussian") == pytest.approx(gaussian[mask].mean(), rel=1e-6)


def test_thin_volumes_get_a_thin_window() -> None:
    slab = IMAGE[:, :, :1]
    assert ssim(slab, slab + 0.5, 4) == pytest.approx(ssim(slab[..., 0], slab[..., 0] + 0.5, 4))
    assert ssim(np.ones((1, 1, 1)), np.ones((1, 1, 1)), 1) == pytest.approx(1)


def test_tensors_serve_as_well_as_arrays() -> None:
    a, b = torch.from_numpy(IMAGE), torch.from_numpy(IMAGE + 1).requires_grad_()
    mask = torch.zeros(IMAGE.shape, dtype=torch.bool)
    mask[2:5] = True
    assert mae(a, b, mask) == pytest.approx(mae(IMAGE, IMAGE + 1, mask.numpy()))
    assert ssim(a, b, 4, mask) == pytest.approx(ssim(IMAGE, IMAGE + 1, 4, mask.numpy()))


def test_unsigned_images_do_not_wrap_around() -> None:
    low, high = np.full((8, 8), 10, dtype=np.uint8), np.full((8, 8), 250, dtype=np.uint8)
    assert mae(low, high) == 240
    assert bias(low, high) == -240


def test_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        mae(IMAGE, IMAGE[1:])
    with pytest.raises(ValueError, match=r"mask .* differ in shape"):
        mae(IMAGE, IMAGE, np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="mask is empty"):
        psnr(IMAGE, IMAGE, 1, np.zeros(IMAGE.shape, dtype=bool))
    broken = IMAGE.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="reference holds 1 voxels that are NaN"):
        ssim(IMAGE, broken, 1)
    with pytest.raises(ValueError, match="data_range 0 is not above 0"):
        psnr(IMAGE, IMAGE, 0)
