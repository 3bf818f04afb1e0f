"""What was computed once."""

import numpy as np

from medgan.data.cache import Cache, content_digest, key_of, stamps


def test_content_decides_and_names_and_times_do_not(tmp_path):
    for name, text in (("a.nii", "one"), ("b.nii", "one"), ("c.nii", "two")):
        (tmp_path / name).write_text(text)
    assert content_digest(tmp_path / "a.nii") == content_digest(tmp_path / "b.nii")
    assert content_digest(tmp_path / "a.nii") != content_digest(tmp_path / "c.nii")
    assert stamps(tmp_path / "a.nii") != stamps(tmp_path / "b.nii")
    assert content_digest(tmp_path) != content_digest(tmp_path / "a.nii")
    assert key_of([1, "a"]) == key_of([1, "a"]) != key_of([1, "b"])


def test_arrays_are_computed_once_and_again_where_damaged(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"field": np.arange(3)}

    cache = Cache(tmp_path / "cache")
    assert cache.arrays("key", compute)["field"].tolist() == [0, 1, 2]
    assert Cache(tmp_path / "cache").arrays("key", compute)["field"].tolist() == [0, 1, 2]
    assert len(calls) == 1
    (tmp_path / "cache" / "key.npz").write_bytes(b"PK\x03\x04 cut short")
    assert cache.arrays("key", compute)["field"].tolist() == [0, 1, 2]
    assert len(calls) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.npz"]


def test_a_kept_folder_comes_back_whole_in_the_place_of_another(tmp_path):
    cache, made = Cache(tmp_path / "cache"), tmp_path / "run" / "case"
    made.mkdir(parents=True)
    (made / "image.npy").write_text("voxels")
    assert not cache.take("key", tmp_path / "other" / "case")
    cache.keep("key", made)
    old = tmp_path / "other" / "case"
    old.mkdir(parents=True)
    (old / "stale.npy").touch()
    assert cache.take("key", old)
    assert [path.name for path in old.iterdir()] == ["image.npy"]
    assert (old / "image.npy").read_text() == "voxels"
