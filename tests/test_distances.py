"""Distances between translations and real images by features that lie in files."""

from pathlib import Path

import numpy as np
import pytest

from medgan.config import InputError
from medgan.distances import distances, distances_table, read_features, write_features


def rows(seed: int, shift: float = 0.0, count: int = 40) -> dict[str, np.ndarray]:
    return {"axial": np.random.default_rng(seed).normal(shift, 1, (count, 3)).astype(np.float32)}


def patients(translation_shift: float) -> tuple[dict, dict]:
    cases = {f"a{i}": {"source": rows(i, 5), "translation": rows(i + 50, translation_shift)} for i in range(4)}
    return cases, {f"b{i}": rows(i + 100) for i in range(6)}


def test_a_good_translation_is_as_near_as_real_patients_are_and_the_source_is_far() -> None:
    found = distances(*patients(0.0))["axial"]
    assert abs(found["translation"]["kid"]) < 0.2
    assert found["translation"]["accuracy"] == pytest.approx(0.5, abs=0.08)
    assert found["translation"]["precision"] > 0.8
    assert found["source"]["kid"] > 100
    assert found["source"]["accuracy"] > 0.98
    assert found["source"]["fid"] == pytest.approx(75, rel=0.15)  # 5 squared in three features
    assert found["real"]["accuracy"] == pytest.approx(0.5, abs=0.08)


def test_all_sets_are_of_one_size_so_that_the_bias_of_fid_is_the_same() -> None:
    found = distances(*patients(0.0))["axial"]
    assert found["source"]["count"] == found["translation"]["count"] == found["real"]["count"] == 120  # 3 patients


def test_a_patient_is_never_on_both_sides() -> None:
    """The translation of each patient is its own real image: were it held against itself, distances would be 0."""
    own = {f"p{i}": {"axial": np.full((8, 2), 10.0 * i, dtype=np.float32)} for i in range(2)}
    cases = {name: {"source": of, "translation": of} for name, of in own.items()}
    found = distances(cases, own)["axial"]
    assert found["translation"]["fid"] == pytest.approx(200)
    assert found["translation"] == found["real"]


def test_one_real_patient_is_not_enough() -> None:
    cases, reals = patients(0.0)
    with pytest.raises(ValueError, match="1 real patients of the target domain, distances need two"):
        distances(cases, {"b0": reals["b0"]})


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert distances(*patients(1.0)) == distances(*patients(1.0))


def test_sets_of_few_samples_have_no_numbers_and_no_crash() -> None:
    few = {name: {"axial": rows(i, count=1)["axial"]} for i, name in enumerate("ab")}
    cases = {"c": {"source": rows(7, count=1), "translation": rows(8, count=1)}}
    found = distances(cases, few)["axial"]["translation"]
    assert np.isnan(found["kid"])
    assert found["count"] == 1


def test_features_come_back_from_their_file(tmp_path: Path) -> None:
    written = {"source": rows(1), "translation": rows(2)}
    write_features(tmp_path / "new" / "a.npz", written)
    read = read_features(tmp_path / "new" / "a.npz")
    assert np.array_equal(read["translation"]["axial"], written["translation"]["axial"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"]
    (tmp_path / "broken.npz").write_bytes(b"no")
    for name in ("broken.npz", "absent.npz"):
        with pytest.raises(InputError, match=r"features that cannot be read .*medgan translate"):
            read_features(tmp_path / name)


def test_the_table_has_a_row_for_each_plane_and_set() -> None:
    part = {"title": "CT to MR", "distances": distances(*patients(0.0))}
    heads, table = distances_table({"directions": {"AB": part, "BA": {"title": "MR to CT"}}})
    assert heads[3] == "kid"
    assert [row[:3] for row in table] == [["CT to MR", "axial", name] for name in ("source", "translation", "real")]
