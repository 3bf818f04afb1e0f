"""The digits that come with scikit-learn, as a source."""

from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from medgan.data.cases import Split
from medgan.data.digits import Digits

SPLITS: tuple[Split, ...] = get_args(Split)


def whole(source: Digits, split: Split) -> dict[str, torch.Tensor]:
    return source.draw(np.random.default_rng(0), len(source.items[split]), split, "single")


def test_every_item_is_in_one_split_and_no_two() -> None:
    items = Digits().items
    assert sorted(np.concatenate([items[split] for split in SPLITS])) == list(range(1797))
    assert all(not set(items[first]) & set(items[second]) for first, second in combinations(SPLITS, 2))


def test_every_split_holds_the_ten_classes_in_the_shares_of_the_whole() -> None:
    source = Digits()
    share = np.bincount(source.classes) / 1797
    for split, expected in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        counts = np.bincount(whole(source, split)["class_A"], minlength=10)
        assert counts.sum() == pytest.approx(1797 * expected, abs=10)
        assert np.abs(counts - share * counts.sum()).max() <= 1.5


def test_another_split_seed_puts_others_into_the_test_and_the_same_seed_the_same() -> None:
    assert np.array_equal(Digits(split_seed=1).items["test"], Digits(split_seed=1).items["test"])
    assert set(Digits(split_seed=1).items["test"]) != set(Digits().items["test"])


def test_at_the_original_size_the_pixels_are_scikit_learns_scaled_to_one() -> None:
    source = Digits()
    pixels, classes = load_digits(return_X_y=True)
    drawn = whole(source, "train")
    assert drawn["A"].shape == (len(source.items["train"]), *source.image_shape)
    assert drawn["A"].min() == -1
    assert drawn["A"].max() == 1
    first = drawn["A"][0].flatten().numpy() * 8 + 8
    (match,) = np.flatnonzero((pixels == first).all(axis=1))
    assert classes[match] == drawn["class_A"][0]


@pytest.mark.parametrize("size", [16, 32])
def test_a_larger_digit_is_the_same_digit_smoothly_enlarged(size: int) -> None:
    source, small = Digits(size=size), Digits()
    assert source.image_shape == (1, size, size)
    images = source.images[:100]
    assert images.abs().max() <= 1
    back = torch.nn.functional.avg_pool2d(images, size // 8)
    assert (back - small.images[:100]).abs().mean() < 0.1
    assert images.diff(dim=-1).abs().max() < small.images[:100].diff(dim=-1).abs().max()


def test_a_draw_is_a_function_of_the_generators_state_and_shows_all_before_any_comes_again() -> None:
    source = Digits()
    first, second = (source.draw(np.random.default_rng(3), 20, "train", "single") for _ in range(2))
    assert torch.equal(first["A"], second["A"])
    assert torch.equal(first["class_A"], second["class_A"])
    other = source.draw(np.random.default_rng(4), 20, "train", "single")
    assert not torch.equal(first["A"], other["A"])
    count = len(source.items["validation"])
    twice = source.draw(np.random.default_rng(0), 2 * count, "validation", "single")["A"].flatten(1)
    for half in (twice[:count], twice[count:]):
        assert torch.equal(half.unique(dim=0), source.images[source.items["validation"]].flatten(1).unique(dim=0))
