"""MR signal on one scale."""

import json

import numpy as np
import pytest
import torch

from medgan.config import InputError
from medgan.data.intensity import FixedRange, Nyul, PiecewiseLinear, WhiteStripe, from_dict, to_dict, typical
from medgan.data.standardize import landmarks, standard_levels, tissue_peak


def test_levels_are_the_mean_of_stretched_landmarks():
    rows = np.array([[0.0, 25.0, 100.0], [10.0, 16.0, 18.0]])
    assert standard_levels(rows).tolist() == pytest.approx([-1, (-0.5 + 0.5) / 2, 1])


def test_landmarks_rise_even_where_values_repeat():
    found = landmarks(np.array([0.0, 5, 5, 5, 5, 5, 10]), (0, 25, 50, 75, 100))
    assert (np.diff(found) > 0).all()
    assert found == pytest.approx([0, 5, 5, 5, 10], abs=1e-4)
    with pytest.raises(InputError, match="one value only"):
        landmarks(np.ones(9), (0, 50, 100))


def test_a_piecewise_map_goes_through_its_landmarks_and_back():
    one = PiecewiseLinear(stored=(0, 100, 400), levels=(-1, 0.5, 1))
    assert one.normalize(np.array([-5.0, 0, 50, 100, 250, 400, 999])).tolist() == [-1, -1, -0.25, 0.5, 0.75, 1, 1]
    assert one.denormalize(np.array([-1.0, -0.25, 0.5, 0.75, 1])).tolist() == [0, 50, 100, 250, 400]
    assert np.isnan(one.normalize(np.array([np.nan])))
    back = one.denormalize(torch.tensor([0.5], dtype=torch.bfloat16))
    assert back.dtype == torch.float32
    assert back.tolist() == [100]
    assert from_dict(json.loads(json.dumps(to_dict(one)))) == one
    with pytest.raises(InputError, match="each above"):
        PiecewiseLinear(stored=(0, 0, 1), levels=(-1, 0, 1))


def test_nyul_makes_images_of_one_anatomy_alike_whatever_the_scanner():
    rng = np.random.default_rng(0)
    anatomy = np.concatenate([rng.normal(mean, 15, 4000) for mean in (300, 500, 900)])
    scans = [anatomy * 0.7 + 40, np.sqrt(anatomy) * 60, anatomy**1.3]
    rule = Nyul()
    rule = rule.learnt(np.array([rule.landmarks(scan) for scan in scans]))
    assert (rule.levels[0], rule.levels[-1]) == (-1, 1)
    maps = [rule.measure(scan) for scan in scans]
    seen = [one.normalize(scan) for one, scan in zip(maps, scans, strict=True)]
    assert max(np.abs(seen[0] - other).max() for other in seen[1:]) < 0.05
    linear = [FixedRange(low=scan.min(), high=scan.max()).normalize(scan) for scan in scans]
    assert max(np.abs(linear[0] - other).max() for other in linear[1:]) > 0.15
    for one, scan in zip(maps, scans, strict=True):
        inside = (scan > one.stored[0]) & (scan < one.stored[-1])
        assert np.allclose(one.denormalize(one.normalize(scan))[inside], scan[inside])
    assert typical(maps).stored[5] == pytest.approx(np.median([one.stored[5] for one in maps]))
    assert from_dict(json.loads(json.dumps(to_dict(rule)))) == rule


def test_nyul_that_never_learnt_is_refused():
    with pytest.raises(InputError, match="run `medgan preprocess` first"):
        Nyul().measure(np.arange(100.0))
    with pytest.raises(InputError, match="put them in order"):
        Nyul(percentiles=(10, 5, 90))


def test_white_stripe_puts_the_most_frequent_tissue_at_its_level():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 1000, 500), rng.normal(600, 20, 5000), rng.normal(300, 20, 2000)])
    low, peak = tissue_peak(values)
    assert peak == pytest.approx(600, abs=12)
    found = WhiteStripe(level=0.5).measure(values)
    assert found.normalize(np.array([peak]))[0] == pytest.approx(0.5)
    assert found.ends[0] == pytest.approx(low)
    doubled = WhiteStripe(level=0.5).measure(values * 2)
    assert np.allclose(doubled.normalize(values * 2), found.normalize(values), atol=0.02)
