import numpy as np
import pytest
import torch

from medgan.config import Component, InputError, bind
from medgan.data.intensity import (
    INTENSITIES,
    FixedRange,
    HounsfieldWindow,
    Intensity,
    PercentileRange,
    from_dict,
    to_dict,
    typical,
)


def test_the_window_maps_its_ends_to_minus_one_and_one_and_clips_beyond():
    window = HounsfieldWindow(low_hu=-1000, high_hu=1000)
    hu = np.array([-3000, -1000, 0, 500, 1000, 3000], dtype=np.int16)
    assert np.allclose(window.normalize(hu), [-1, -1, 0, 0.5, 1, 1])
    assert np.allclose(
        window.denormalize(np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])), [-1000, -1000, 0, 500, 1000, 1000]
    )


def test_values_inside_the_range_come_back():
    x = np.linspace(-950, 1450, 101)
    window = HounsfieldWindow()
    assert np.allclose(window.denormalize(window.normalize(x)), x)


STORED = [0, 50, 100]


@pytest.mark.parametrize(
    ("stored", "float32"),
    [
        *((np.array(STORED, dtype), np.float32) for dtype in (np.uint8, np.int16, np.float16, np.float32)),
        *(
            (torch.tensor(STORED, dtype=dtype), torch.float32)
            for dtype in (torch.uint8, torch.int16, torch.bfloat16, torch.float32)
        ),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_the_same_kind_of_array_comes_back_in_float32(stored, float32):
    y = FixedRange(low=0, high=100).normalize(stored)
    assert type(y) is type(stored)
    assert y.dtype == float32
    assert y.tolist() == [-1, 0, 1]


def test_double_precision_is_kept():
    assert FixedRange(low=0, high=1).normalize(np.zeros(1)).dtype == np.float64
    assert FixedRange(low=0, high=1).denormalize(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_percentiles_are_measured_in_the_body_and_ignore_what_is_not_finite():
    image = np.concatenate([np.arange(101.0), np.full(1000, 9999.0), [np.nan, np.inf]])
    body = image < 200
    body[-2:] = True
    assert PercentileRange(low=10, high=90).measure(image, body) == FixedRange(low=10, high=90)
    assert PercentileRange(low=10, high=90).measure(torch.tensor(image), torch.tensor(body)) == FixedRange(
        low=10, high=90
    )


@pytest.mark.parametrize(
    ("image", "mask", "word"),
    [
        (np.ones((4, 4)), np.zeros((4, 4)), "no finite voxel"),
        (np.full((4, 4), np.nan), None, "no finite voxel"),
        (np.ones((4, 4)), None, "one value only"),
    ],
)
def test_an_image_without_a_range_is_refused(image, mask, word):
    with pytest.raises(InputError, match=word):
        PercentileRange().measure(image, mask)


def test_a_fixed_map_measures_itself():
    for fixed in (HounsfieldWindow(), FixedRange(low=3, high=4)):
        assert fixed.measure(np.zeros(3)) is fixed
        assert isinstance(fixed, Intensity)
    assert not isinstance(PercentileRange(), Intensity)


def test_the_typical_map_has_the_median_ends():
    maps = [FixedRange(low=low, high=high) for low, high in ((0, 10), (1, 30), (5, 20))]
    assert typical(maps) == FixedRange(low=1, high=20)
    assert typical([HounsfieldWindow()] * 3) == HounsfieldWindow()


@pytest.mark.parametrize("maps", [[], [HounsfieldWindow(), FixedRange(low=0, high=1)]])
def test_nothing_is_typical_of_no_maps_or_of_two_kinds(maps):
    with pytest.raises(InputError, match="one kind of map"):
        typical(maps)


@pytest.mark.parametrize("one", [HounsfieldWindow(high_hu=700), PercentileRange(low=2), FixedRange(low=-1.5, high=8)])
def test_a_map_survives_being_saved(one):
    saved = to_dict(one)
    assert saved["name"] in INTENSITIES
    assert from_dict(saved) == one


@pytest.mark.parametrize(
    ("saved", "word"),
    [
        ({"name": "hounsfeld_window"}, "did you mean 'hounsfield_window'"),
        ({"name": "fixed_range", "low": 0}, "its fields are"),
        ({"name": "fixed_range", "low": 0, "hi": 1}, "its fields are"),
    ],
)
def test_a_map_that_is_not_known_is_refused(saved, word):
    with pytest.raises(InputError, match=word):
        from_dict(saved)


@pytest.mark.parametrize("kind", [HounsfieldWindow, FixedRange, PercentileRange])
def test_ends_the_wrong_way_round_are_refused(kind):
    fields = ("low_hu", "high_hu") if kind is HounsfieldWindow else ("low", "high")
    with pytest.raises(InputError, match="is not below"):
        kind(**dict(zip(fields, (5, 5), strict=True)))


def test_every_map_can_be_named_in_a_configuration():
    kind, options = bind(Component(name="percentile_range", low=1), INTENSITIES, "intensity map")
    assert kind(**options) == PercentileRange(low=1, high=99.5)
    with pytest.raises(InputError, match="less than or equal to 100"):
        bind(Component(name="percentile_range", high=101), INTENSITIES, "intensity map")


def test_a_map_of_somebody_elses_making_is_not_saved():
    with pytest.raises(InputError, match="cannot be saved; use one of hounsfield_window"):
        to_dict(object())
