"""Cases on disk."""

import numpy as np
import pytest

from medgan.config import InputError
from medgan.data.store import FOCUS_VOXELS, StoredCase, open_store, read_domains, write_case, write_index


def write(folder, label=True, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, (12, 10, 8))
    labels = rng.integers(-1, 3, image.shape) if label else None
    body = np.zeros(image.shape, dtype=bool)
    body[2:9, 3:8, 1:7] = True
    write_case(folder, image=image, label=labels, body=body, meta={"spacing_mm": [1, 1, 2]})
    return image, labels, body


def test_a_case_comes_back_as_it_was_written(tmp_path):
    image, label, body = write(tmp_path / "A" / "one")
    write_index(tmp_path, [StoredCase("one", "A", "train", tmp_path / "A" / "one")], {"A": {"name": "CT"}})
    (case,) = open_store(tmp_path)
    assert (case.subject, case.domain, case.split) == ("one", "A", "train")
    assert np.abs(case.image - image).max() < 2.5e-4
    assert isinstance(case.image, np.memmap)
    assert np.array_equal(case.label, label)
    assert np.array_equal(case.body, body)
    assert case.shape == image.shape
    assert case.body_box.tolist() == [[2, 3, 1], [9, 8, 7]]
    assert case.meta["spacing_mm"] == [1, 1, 2]
    assert read_domains(tmp_path) == {"A": {"name": "CT"}}


def test_focus_voxels_lie_on_their_label_and_are_the_same_each_time(tmp_path):
    _, label, _ = write(tmp_path / "one")
    write(tmp_path / "two")
    one, two = (StoredCase(name, "A", "train", tmp_path / name) for name in ("one", "two"))
    assert set(one.focus) == {1, 2}
    for value, voxels in one.focus.items():
        assert (label[tuple(voxels.T)] == value).all()
        assert len(voxels) == min(FOCUS_VOXELS, (label == value).sum())
        assert np.array_equal(voxels, two.focus[value])


def test_a_case_without_labels_has_none(tmp_path):
    write(tmp_path / "one", label=False)
    case = StoredCase("one", "B", "train", tmp_path / "one")
    assert case.label is None
    assert case.focus == {}


def test_writing_again_replaces_the_case_and_leaves_nothing_else(tmp_path):
    write(tmp_path / "one")
    image, *_ = write(tmp_path / "one", label=False, seed=1)
    case = StoredCase("one", "A", "train", tmp_path / "one")
    assert np.abs(case.image - image).max() < 2.5e-4
    assert not (tmp_path / "one" / "label.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_case_that_fails_halfway_leaves_the_old_one(tmp_path):
    image, *_ = write(tmp_path / "one")
    with pytest.raises(TypeError):
        write_case(
            tmp_path / "one", image=image, label=None, body=np.ones(image.shape, bool), meta={"broken": object()}
        )
    assert StoredCase("one", "A", "train", tmp_path / "one").label is not None
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_an_incomplete_store_is_refused(tmp_path):
    write(tmp_path / "A" / "one")
    with pytest.raises(InputError, match="medgan preprocess"):
        open_store(tmp_path)
    with pytest.raises(InputError, match="medgan preprocess"):
        read_domains(tmp_path)
