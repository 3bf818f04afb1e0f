"""Sources of samples: batch n is a function of (seed, n), ranks share a batch, folders of images are read as told."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medgan.config import Component, InputError
from medgan.data.images import Images
from medgan.data.sources import SOURCES, SourceDataset, source


def _dataset(**options) -> SourceDataset:
    drawn = source(Component(name="ring"))
    given = {"pairing": "single", "split": "train", "batch_size": 4, "seed": 3, "num_steps": 5}
    return SourceDataset(drawn, **given | options)


def test_batch_n_is_a_function_of_the_seed_and_n() -> None:
    assert torch.equal(_dataset()[2]["A"], _dataset()[2]["A"])
    assert not torch.equal(_dataset()[2]["A"], _dataset()[3]["A"])
    assert not torch.equal(_dataset()[2]["A"], _dataset(seed=4)[2]["A"])
    assert not torch.equal(_dataset()[2]["A"], _dataset(split="validation")[2]["A"])


def test_two_ranks_share_the_batch_that_one_rank_sees() -> None:
    whole = _dataset(batch_size=8)[1]["A"]
    halves = [_dataset(rank=rank, world_size=2)[1]["A"] for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole)


def test_a_pairing_that_a_source_cannot_serve_is_refused() -> None:
    with pytest.raises(InputError, match="these samples are single, the recipe learns from paired ones"):
        _dataset(pairing="paired")


def test_there_is_no_batch_beyond_the_last() -> None:
    with pytest.raises(IndexError):
        _dataset()[5]


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "images"])
def test_every_source_draws_what_it_promises(name: str) -> None:
    drawn = source(Component(name=name))
    for pairing in drawn.pairings:
        batch = drawn.draw(np.random.default_rng(0), 3, "train", pairing)
        assert batch["A"].shape == (3, *drawn.image_shape)
        assert batch["A"].dtype == torch.float32
        again = drawn.draw(np.random.default_rng(0), 3, "train", pairing)
        assert batch.keys() == again.keys()
        assert all(torch.equal(batch[key], again[key]) for key in batch)
        if "B" in batch:
            assert batch["B"].shape == (3, *drawn.image_shape_B)
        if len(drawn.image_shape) > 1:
            assert batch["A"].abs().max() <= 1


def _pictures(folder: Path, count: int = 20) -> Path:
    for index in range(count):
        place = folder / ("dark" if index % 2 else "bright") / f"{index:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 12), 20 if index % 2 else 235, np.uint8)).save(place)
    return folder


def test_pictures_keep_their_shape_and_folders_are_classes(tmp_path: Path) -> None:
    files = f"{_pictures(tmp_path)}/**/*.png"
    images = Images(files=files, size=8, classes=["bright", "dark"], validation_fraction=0.0, test_fraction=0.0)
    batch = images.draw(np.random.default_rng(0), 16, "train", "single")
    assert batch["A"].shape == (16, 1, 8, 8)
    assert (batch["A"][:, :, 0] == -1).all()  # 6 x 12 becomes 4 x 8, between two bars
    middle = batch["A"][:, 0, 4, 4]
    assert torch.equal(middle > 0, batch["class_A"] == 0)


def test_a_file_is_in_one_split_whatever_comes_beside_it(tmp_path: Path) -> None:
    images = Images(files=f"{_pictures(tmp_path)}/**/*.png", size=8, validation_fraction=0.3, test_fraction=0.3)
    before = {path.name: images._split(path) for path in tmp_path.rglob("*.png")}
    assert set(before.values()) == {"train", "validation", "test"}
    _pictures(tmp_path, 30)
    assert before == {name: images._split(next(tmp_path.rglob(name))) for name in before}


def test_a_volume_gives_its_axial_slices_anterior_up(tmp_path: Path) -> None:
    array = np.zeros((8, 8, 3), np.float32)
    array[:, 6:] = 100.0  # anterior
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 5.0, 1.0])), path)
    images = Images(files=str(path), size=8, high=100.0, validation_fraction=0.0, test_fraction=0.0)
    assert len(images._of["train"][0]) == 3
    drawn = images.draw(np.random.default_rng(0), 1, "train", "single")["A"][0, 0]
    assert (drawn[0] == 1).all()
    assert (drawn[-1] == -1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": "nowhere/*.png"}, "no files; check the glob"),
        ({"files": "x", "low": 1.0, "high": 1.0}, "not above data.low"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Images(**options).draw(np.random.default_rng(0), 1, "train", "single")


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken.png: not a picture"):
        Images(files=f"{tmp_path}/*.png").draw(np.random.default_rng(0), 1, "train", "single")
