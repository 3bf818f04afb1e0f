"""medgan sample: what a run has learnt, as pictures and as numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from medgan.cli import run as medgan
from medgan.recipes import RECIPES
from medgan.rundir import RunDir
from medgan.sample import load_recipe, walk

RECIPES_OF = {
    "ring": {"name": "gan", "latent_dim": 2, "generator_net": {"name": "mlp", "width": 8, "layers": 1}}
    | {"discriminator_net": {"name": "mlp", "width": 8, "layers": 1}},
    "digits": {"name": "cgan", "latent_dim": 4, "generator_net": {"name": "mlp", "width": 8, "layers": 1}}
    | {"discriminator_net": {"name": "mlp", "width": 8, "layers": 1}},
    "phantom_slices": {"name": "pix2pix", "generator_net": {"name": "unet", "channels": 4, "levels": 1}}
    | {"discriminator_net": {"name": "patchgan", "channels": 4, "layers": 1}},
}
DATA = {"phantom_slices": {"size": 16, "A": "mr", "B": "ct", "bodies": 2, "held_out_bodies": 1, "slices": 4}}


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on each kind of source, of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe in RECIPES_OF.items():
        study = {"data": {"name": name} | DATA.get(name, {}), "recipe": recipe}
        study["train"] = {"num_steps": 2, "batch_size": 8, "validation_patches": 1, "precision": "float32"}
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        assert medgan(["train", str(path), str(folder / name)]) == 0
    return folder


def test_points_become_a_scatter_and_numbers(runs: Path, tmp_path: Path) -> None:
    assert medgan(["sample", str(runs / "ring"), "--output", str(tmp_path / "a.png"), "-n", "20"]) == 0
    assert _picture(tmp_path / "a.png").ndim == 3
    assert medgan(["sample", str(runs / "ring"), "--output", str(tmp_path / "a.npy"), "-n", "20"]) == 0
    assert np.load(tmp_path / "a.npy").shape == (20, 2)


def test_a_class_grid_has_a_row_per_class_and_one_class_can_be_asked_for(runs: Path, tmp_path: Path) -> None:
    assert medgan(["sample", str(runs / "digits"), "--output", str(tmp_path / "all.png"), "-n", "30"]) == 0
    height, width = _picture(tmp_path / "all.png").shape
    assert height * 3 == width * 10
    command = ["sample", str(runs / "digits"), "--output", str(tmp_path / "three.npy"), "-n", "5", "--class", "3"]
    assert medgan(command) == 0
    assert np.load(tmp_path / "three.npy").shape[0] == 5


def test_equal_seeds_draw_equal_samples(runs: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = str(tmp_path / f"{name}.npy")
        assert medgan(["sample", str(runs / "ring"), "--output", out, "-n", "4", "--seed", str(seed)]) == 0
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_walk_begins_and_ends_at_its_latents() -> None:
    torch.manual_seed(0)
    sampler = RECIPES["gan"](image_shape=(2,), latent_dim=3).eval().sampler()
    assert sampler is not None
    generator = torch.Generator().manual_seed(5)
    first, last = sampler.latents(2, generator), sampler.latents(2, generator)
    steps = walk(sampler, rows=2, steps=4, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(steps[[0, 4]], sampler(first), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(steps[[3, 7]], sampler(last), atol=1e-4, rtol=1e-4)


def test_a_translating_run_shows_held_out_images_before_and_after(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.png"
    assert medgan(["sample", str(runs / "phantom_slices"), "--output", str(out), "-n", "2"]) == 0
    assert _picture(out).shape == (2 * 18 * 3, 3 * 18 * 3)  # source, translation, truth


def test_nothing_is_written_over_without_force(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.png"
    out.write_text("mine")
    assert medgan(["sample", str(runs / "ring"), "--output", str(out)]) == 1
    assert "stands already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert medgan(["sample", str(runs / "ring"), "--output", str(out), "--force", "-n", "4"]) == 0


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("ring", ["--kind", "grid"], "not of this recipe and data"),
        ("ring", ["--kind", "gird"], "did you mean 'grid'"),
        ("ring", ["--class", "1"], "the recipe knows no classes"),
        ("digits", ["--class", "10"], "the recipe knows 0 to 9"),
        ("phantom_slices", ["--kind", "walk"], "draws no new images"),
    ],
)
def test_what_a_run_cannot_show_is_refused_in_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str], message: str
) -> None:
    assert medgan(["sample", str(runs / name), "--output", str(tmp_path / "x.png"), *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_recipe_is_loaded_ready_to_be_asked(runs: Path) -> None:
    recipe = load_recipe(RunDir(runs / "digits"))
    sampler = recipe.sampler()
    assert sampler is not None
    assert sampler.num_classes == 10
    assert not recipe.training


def test_verbs_for_volumes_point_the_other_way(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert medgan(["preprocess", str(runs / "ring.yaml"), str(runs / "ring")]) == 1
    assert "no patients' volumes" in capsys.readouterr().err
    assert medgan(["translate", str(runs / "phantom_slices")]) == 1
    assert "no patients' volumes" in capsys.readouterr().err
