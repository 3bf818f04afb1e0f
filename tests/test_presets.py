"""Published presets against their formulas, written a second time with scikit-image, numpy and scipy."""

import math

import numpy as np
import pytest
from scipy import ndimage, signal

from medgan.metrics.presets import PRESETS, Preset
from medgan.metrics.similarity import MS_SSIM_WEIGHTS, box_sum, halve, mean_similarity, ms_ssim

Array = np.ndarray


def pair(seed: int) -> tuple[Array, Array, Array]:
    """A body of soft tissue, lung and bone in air, a prediction that is blurred and off, and a body mask."""
    rng = np.random.default_rng(seed)
    shape = [(40, 36, 21), (37, 41, 33), (25, 30, 50), (108, 30, 24), (33, 101, 20), (48, 48, 12)][seed]
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in place))
    reference = np.where(radius < 0.85, 40.0, -1000.0)
    reference[(radius < 0.3) & (place[0] > 0)] = -800
    reference[np.abs(radius - 0.6) < 0.08] = 900
    reference += rng.normal(0, 20, shape)
    reference[shape[0] // 2, :4] = 3500  # metal, beyond each range
    reference[:2, :2] = -2000  # padding of the scanner, below each range
    prediction = ndimage.gaussian_filter(reference, 1.5) * 0.9 + 20 + rng.normal(0, 30, shape)
    prediction[shape[0] // 2, 3:6] = 5000
    mask = radius < 0.9
    mask[: shape[0] // 2 + 1, :5] |= rng.random((shape[0] // 2 + 1, 5, shape[2])) < 0.3
    return prediction.astype(np.float32), reference.astype(np.float32), mask


def expected_mae(prediction: Array, reference: Array, mask: Array) -> float:
    return float(np.abs(prediction[mask].astype(float) - reference[mask].astype(float)).mean())


def expected_psnr(prediction: Array, reference: Array, mask: Array, low: float, high: float) -> float:
    a, b = (np.clip(image[mask].astype(float), low, high) for image in (prediction, reference))
    return float(10 * np.log10((high - low) ** 2 / np.mean((a - b) ** 2)))


def prepared(image: Array, mask: Array, low: float, high: float) -> Array:
    return np.where(mask, np.clip(image.astype(float), low, high), low) - low


def expected_ssim(prediction: Array, reference: Array, mask: Array, low: float, high: float) -> float:
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    a, b = (prepared(image, mask, low, high) for image in (prediction, reference))
    _, found = similarity(a, b, data_range=high - low, full=True)
    inner = (slice(3, -3),) * 3
    return float(found[inner][mask[inner]].mean())


def expected_ms_ssim(prediction: Array, reference: Array, mask: Array, low: float, high: float) -> float:
    """Luminance, contrast and structure one by one, each to its weight, as the challenge's page has it."""
    a, b = (prepared(image, mask, low, high) for image in (prediction, reference))
    rim = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in mask.shape]
    a, b, mask = (np.pad(image, rim, mode="edge") for image in (a, b, mask))
    span, product = high - low, 1.0
    c1, c2, c3 = (0.01 * span) ** 2, (0.03 * span) ** 2, (0.03 * span) ** 2 / 2
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mean_a, mean_b = ndimage.uniform_filter(a, 7), ndimage.uniform_filter(b, 7)
        var_a = 343 / 342 * (ndimage.uniform_filter(a * a, 7) - mean_a**2)
        var_b = 343 / 342 * (ndimage.uniform_filter(b * b, 7) - mean_b**2)
        cov = 343 / 342 * (ndimage.uniform_filter(a * b, 7) - mean_a * mean_b)
        sd_a, sd_b = np.sqrt(np.clip(var_a, 0, None)), np.sqrt(np.clip(var_b, 0, None))
        luminance = np.clip((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1), 0, None)
        contrast = np.clip((2 * sd_a * sd_b + c2) / (var_a + var_b + c2), 0, None)
        structure = np.clip((cov + c3) / (sd_a * sd_b + c3), 0, None)
        found = luminance**weight * contrast**weight * structure**weight
        inner = (slice(3, -3),) * 3
        product *= np.clip(found[inner][mask[inner]].mean(), 0, 1)
        a, b = (signal.fftconvolve(x, np.full((2, 2, 2), 1 / 8), mode="same")[::2, ::2, ::2] for x in (a, b))
        mask = mask[::2, ::2, ::2]
    return float(product)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("name", "low", "high", "structure"),
    [
        ("synthrad2023", -1024, 3000, "ssim"),
        ("synthrad2025_metrics", -1024, 3000, "ms_ssim"),
        ("synthrad2025_evaluation", -1024, 3071, "ms_ssim"),
    ],
)
def test_presets_agree_with_a_second_computation(name: str, low: float, high: float, structure: str, seed: int) -> None:
    prediction, reference, mask = pair(seed)
    second = expected_ssim if structure == "ssim" else expected_ms_ssim
    found = PRESETS[name].scores(prediction, reference, mask)  # type: ignore[index]
    assert set(found) == {"mae", "psnr", structure}
    assert found["mae"] == pytest.approx(expected_mae(prediction, reference, mask), rel=1e-5)
    assert found["psnr"] == pytest.approx(expected_psnr(prediction, reference, mask, low, high), rel=1e-5)
    assert found[structure] == pytest.approx(second(prediction, reference, mask, low, high), rel=1e-5)
    assert 0.1 < found[structure] < 0.99  # the pair is neither alike nor unlike


def test_the_order_of_the_axes_in_memory_changes_nothing() -> None:
    prediction, reference, mask = pair(1)
    preset = PRESETS["synthrad2025_metrics"]
    plain = preset.scores(prediction, reference, mask)
    turned = preset.scores(np.asfortranarray(prediction), np.asfortranarray(reference), mask)
    assert turned == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_a_shift_costs_its_own_size(preset: Preset) -> None:
    reference = np.random.default_rng(0).integers(-500, 500, (20, 20, 20)).astype(np.int16)
    found = preset.scores(reference + np.int16(40), reference)
    assert found["mae"] == 40
    assert found["psnr"] == pytest.approx(20 * math.log10((preset.high_hu - preset.low_hu) / 40))
    assert found[preset.structure] < 1


@pytest.mark.parametrize("preset", PRESETS.values())
@pytest.mark.parametrize("shape", [(20, 18, 16), (20, 18)])
def test_equal_images_are_perfect_in_2d_and_3d(preset: Preset, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(0, 300, shape)
    found = preset.scores(image, image)
    assert (found["mae"], found["psnr"]) == (0, math.inf)
    assert found[preset.structure] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("preset", PRESETS.values())
def test_what_lies_outside_the_mask_or_beyond_the_range_does_not_count(preset: Preset) -> None:
    reference = np.random.default_rng(0).normal(0, 300, (30, 30, 30))
    mask = np.zeros(reference.shape, dtype=bool)
    mask[5:25, 5:25, 5:25] = True
    other = reference.copy()
    other[~mask] = np.nan
    other[10, 10, 10], reference[10, 10, 10] = 9000, 4000  # both above the range: MAE alone sees it
    found = preset.scores(other, reference, mask)
    assert found["mae"] == pytest.approx(5000 / 20**3)
    assert found["psnr"] == math.inf
    assert found[preset.structure] == pytest.approx(1, abs=1e-7)


def test_a_mask_that_no_window_fits_into_has_no_similarity() -> None:
    image, mask = np.zeros((20, 20, 20)), np.zeros((20, 20, 20), dtype=bool)
    mask[0, 0, 0] = True
    assert math.isnan(PRESETS["synthrad2023"].scores(image, image, mask)["ssim"])
    small = np.zeros((5, 5, 5))
    assert math.isnan(PRESETS["synthrad2023"].scores(small, small)["ssim"])


@pytest.mark.parametrize("preset", PRESETS.values())
def test_empty_masks_and_broken_voxels_are_refused(preset: Preset) -> None:
    image = np.zeros((20, 20, 20))
    with pytest.raises(ValueError, match="mask is empty"):
        preset.scores(image, image, image > 0)
    broken = image.copy()
    broken[3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="prediction holds 1 voxels that are NaN"):
        preset.scores(broken, image)
    with pytest.raises(ValueError, match="differ in shape"):
        preset.scores(image, image[1:])


def test_ms_ssim_of_two_constants_is_the_product_of_their_luminances() -> None:
    a, b, span = 600.0, 1000.0, 4024.0
    c1 = (0.01 * span) ** 2
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    mask = np.zeros((640, 640), dtype=bool)
    mask[320:480, 320:480] = True  # far from the low ends, where halving takes 0 for the voxel before the first
    found = ms_ssim(np.full(mask.shape, a), np.full(mask.shape, b), span, mask)
    assert found == pytest.approx(luminance ** sum(MS_SSIM_WEIGHTS), rel=1e-6)


def test_an_inverted_image_has_no_multiscale_similarity() -> None:
    board = np.indices((97, 97)).sum(axis=0) % 2 * 4000.0
    assert ms_ssim(board, 4000 - board, 4000) == 0
    assert mean_similarity(board, 4000 - board, 4000) < -0.9


def test_halving_takes_the_mean_over_a_voxel_and_the_one_before() -> None:
    assert halve(np.array([2.0, 4, 6, 8, 10])).tolist() == [1, 5, 9]
    assert halve(np.array([2, 4, 6, 8])).tolist() == [1, 5]
    rng = np.random.default_rng(0)
    for shape in ((9, 12, 7), (10, 5)):
        image = rng.normal(size=shape)
        wide = signal.fftconvolve(image, np.full((2,) * len(shape), 0.5 ** len(shape)), mode="same")
        assert halve(image) == pytest.approx(wide[(slice(None, None, 2),) * len(shape)])


def test_box_sums_are_the_sums_of_boxes() -> None:
    image = np.random.default_rng(0).normal(size=(11, 9, 8))
    for side in ((7, 7, 7), (1, 3, 5), (11, 9, 1)):
        windows = np.lib.stride_tricks.sliding_window_view(image, side)
        assert box_sum(image, side) == pytest.approx(windows.sum(axis=(3, 4, 5)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float64])
def test_all_number_types_give_the_same_similarity(dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (2, 12, 40, 15))
    assert mean_similarity(a.astype(dtype), b.astype(dtype), 255) == pytest.approx(
        mean_similarity(a.astype(np.float32), b.astype(np.float32), 255), rel=1e-6
    )


def test_a_large_offset_does_not_drown_the_structure() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 10, (20, 20, 20))
    b = a + rng.normal(0, 5, a.shape)
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    assert mean_similarity(a + 3000, b + 3000, 4000) == pytest.approx(
        similarity(a + 3000, b + 3000, data_range=4000), rel=1e-7
    )
