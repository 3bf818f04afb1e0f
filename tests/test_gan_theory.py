"""The theory pipeline: its closed forms are right, and a discriminator that is trained comes near them."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def theory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gan_theory", ROOT / "pipelines" / "gan_theory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["gan_theory"] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def test_the_optimal_discriminator_reaches_the_optimal_value(theory: ModuleType) -> None:
    for game in theory.GAMES:
        exact = theory.value(game, game.optimal_logits)
        assert exact == pytest.approx(game.optimal_value(), abs=1e-3)


def test_equal_densities_cannot_be_told_apart(theory: ModuleType) -> None:
    game = theory.GAMES[-1]
    assert game.optimal_value() == pytest.approx(-math.log(4), abs=1e-4)
    assert torch.allclose(game.optimal(game.support()), torch.tensor(0.5))


def test_far_apart_densities_are_worth_nothing_to_the_minimax_generator(theory: ModuleType) -> None:
    far = theory.generator_slopes(6.0, lambda x: 18.0 - 6.0 * x, samples=20_000, seed=0)  # log p/q of N(0,1), N(6,1)
    near = theory.generator_slopes(1.0, lambda x: 0.5 - x, samples=20_000, seed=0)
    assert far["minimax"] < 0.1 * near["minimax"]
    assert far["nonsaturating"] == pytest.approx(6.0, rel=0.05)


def test_a_trained_discriminator_comes_near(theory: ModuleType, tmp_path: Path) -> None:
    game = theory.GAMES[0]
    logits = theory.train_discriminator(game, steps=200, samples=512, seed=0)
    assert theory.value(game, logits) == pytest.approx(game.optimal_value(), abs=0.02)
    theory.draw([torch.sigmoid(logits(theory.GRID))], _slopes(theory), tmp_path / "theory.png")
    assert (tmp_path / "theory.png").stat().st_size > 10_000


def test_the_committed_figures_meet_the_theory() -> None:
    facts = json.loads((ROOT / "docs" / "results" / "gan_theory.json").read_text(encoding="utf-8"))
    assert all(row["largest |D - D*| on the support"] < 0.05 for row in facts["games"])
    equal = next(row for row in facts["games"] if row["game"] == "p = q")
    assert equal["V(G, D)"] == pytest.approx(-math.log(4), abs=0.02)


def _slopes(theory: ModuleType) -> list[dict[str, float]]:
    names = [f"{name}, {whose}" for name in ("minimax", "nonsaturating") for whose in ("trained D", "D*")]
    return [{"shift": shift, **dict.fromkeys(names, 1.0)} for shift in theory.SHIFTS]
