"""What the theory of GANs says, checked with networks on densities of one dimension that are known in closed form.

    python pipelines/gan_theory.py docs/results

1. Trained long enough, D is D*(x) = p(x) / (p(x) + q(x)), and the value of the game is 2 JSD(p, q) - log 4; where the
   densities are one, that is -log 4 (Goodfellow et al., "Generative Adversarial Nets", 2014, section 4).
2. When D wins, the gradient that the minimax game leaves to G vanishes; the non-saturating one does not (section 3).

Writes ``gan_theory.json`` and ``gan_theory.png`` into the folder; half a minute on one core.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import torch
import typer
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from medgan.cli import guarded
from medgan.losses import OBJECTIVES
from medgan.networks import CRITICS
from medgan.rundir import environment

GRID = torch.linspace(-12.0, 12.0, 4801)
SUPPORT = 0.995  # share of the mixture of p and q on which D is compared with D*
SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
BLUE, RED, GREY = "#0072b2", "#d55e00", "#9aa1a9"


@dataclass(frozen=True)
class Game:
    """Two densities; D has to tell p (real) from q (fake)."""

    name: str
    p: Distribution
    q: Distribution

    def optimal_logits(self, x: Tensor) -> Tensor:
        """log p - log q, the logits of D*."""
        found: Tensor = self.p.log_prob(x) - self.q.log_prob(x)
        return found

    def optimal(self, x: Tensor) -> Tensor:
        """D* = p / (p + q), Proposition 1."""
        return torch.sigmoid(self.optimal_logits(x))

    def optimal_value(self) -> float:
        """2 JSD(p, q) - log 4, Theorem 1, by quadrature."""
        p, q = self.p.log_prob(GRID).exp(), self.q.log_prob(GRID).exp()
        middle = (p + q) / 2
        divergence = torch.xlogy(p, p / middle.clamp(min=1e-38)) + torch.xlogy(q, q / middle.clamp(min=1e-38))
        return float(torch.trapezoid(divergence, GRID)) - math.log(4)

    def support(self) -> Tensor:
        """The points of the grid that hold the most likely `SUPPORT` of the mixture of p and q."""
        density = (self.p.log_prob(GRID).exp() + self.q.log_prob(GRID).exp()) / 2
        ordered = density.sort(descending=True).values
        mass = ordered.cumsum(0) * (GRID[1] - GRID[0])
        least = ordered[int((mass < SUPPORT).sum())]
        return GRID[density >= least]


def bumps(*modes: tuple[float, float, float]) -> Distribution:
    """A mixture of Gaussians, each (weight, mean, standard deviation)."""
    weights, means, stds = (torch.tensor(values) for values in zip(*modes, strict=True))
    return MixtureSameFamily(Categorical(weights), Normal(means, stds))


GAMES = (
    Game("two Gaussians", bumps((1.0, -1.0, 1.0)), bumps((1.0, 1.0, 1.0))),
    Game("different widths", bumps((1.0, 0.0, 0.7)), bumps((1.0, 0.5, 1.5))),
    Game("two bumps against one", bumps((0.5, -2.0, 0.7), (0.5, 2.0, 0.7)), bumps((1.0, 0.0, 1.5))),
    Game("p = q", bumps((0.5, -2.0, 0.7), (0.5, 2.0, 0.7)), bumps((0.5, -2.0, 0.7), (0.5, 2.0, 0.7))),
)


def train_discriminator(game: Game, *, steps: int, samples: int, seed: int) -> Callable[[Tensor], Tensor]:
    """D, from points ``(N,)`` to logits ``(N,)``, trained on fresh samples of p and q until it gets no better."""
    torch.manual_seed(seed)
    critic = CRITICS["mlp"]((1,), 0, width=64, layers=3)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        real, fake = game.p.sample((samples, 1)), game.q.sample((samples, 1))
        loss = OBJECTIVES["minimax"].discriminator(critic(real), critic(fake))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    critic.requires_grad_(False)

    def logits(points: Tensor) -> Tensor:
        found: Tensor = critic(points[:, None])[:, 0]
        return found

    return logits


def value(game: Game, logits: Callable[[Tensor], Tensor]) -> float:
    """V(G, D) = E_p[log D] + E_q[log(1 - D)], Equation 1, by quadrature."""
    log_d, log_not_d = -torch.nn.functional.softplus(-logits(GRID)), -torch.nn.functional.softplus(logits(GRID))
    p, q = game.p.log_prob(GRID).exp(), game.q.log_prob(GRID).exp()
    return float(torch.trapezoid(p * log_d + q * log_not_d, GRID))


def generator_slopes(shift: float, logits: Callable[[Tensor], Tensor], *, samples: int, seed: int) -> dict[str, float]:
    """How strongly each game pulls a generator ``z + shift`` towards its goal 0: |d loss / d shift|."""
    z = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    slopes = {}
    for name in ("minimax", "nonsaturating"):
        place = torch.tensor(shift, requires_grad=True)
        (slope,) = torch.autograd.grad(OBJECTIVES[name].generator(logits(z + place)), place)
        slopes[name] = abs(float(slope))
    return slopes


def check_games(*, steps: int, samples: int, seed: int) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """For each game how far D is from D* and V from its optimum, and D on the grid."""
    rows, curves = [], []
    for game in GAMES:
        logits = train_discriminator(game, steps=steps, samples=samples, seed=seed)
        support = game.support()
        rows.append(
            {
                "game": game.name,
                "largest |D - D*| on the support": float(
                    (torch.sigmoid(logits(support)) - game.optimal(support)).abs().max()
                ),
                "V(G, D)": value(game, logits),
                "2 JSD - log 4": game.optimal_value(),
            }
        )
        curves.append(torch.sigmoid(logits(GRID)))
    return rows, curves


def check_gradients(*, steps: int, samples: int, seed: int) -> list[dict[str, float]]:
    """The pull of both games on a generator that is `shift` away, its discriminator trained and optimal."""
    rows = []
    for shift in SHIFTS:
        game = Game("shifted", bumps((1.0, 0.0, 1.0)), bumps((1.0, shift, 1.0)))
        logits = train_discriminator(game, steps=steps, samples=samples, seed=seed)
        trained = generator_slopes(shift, logits, samples=100_000, seed=seed)
        exact = generator_slopes(shift, game.optimal_logits, samples=100_000, seed=seed)
        rows.append(
            {"shift": shift}
            | {f"{name}, trained D": slope for name, slope in trained.items()}
            | {f"{name}, D*": slope for name, slope in exact.items()}
        )
    return rows


def draw(curves: Sequence[Tensor], slopes: Sequence[dict[str, float]], path: Path) -> None:
    """D beside D* for each game, and both games' gradients."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(GAMES) + 1, figsize=(3.2 * (len(GAMES) + 1), 3.0), layout="constrained")
    for game, curve, place in zip(GAMES, curves, axes, strict=False):
        for density, label, style in ((game.p, "p", "-"), (game.q, "q", "--")):
            place.plot(GRID, density.log_prob(GRID).exp(), style, color=GREY, label=label)
        support = game.support()
        inside = (support.min() <= GRID) & (support.max() >= GRID)
        place.plot(GRID[inside], game.optimal(GRID)[inside], color=BLUE, lw=4, alpha=0.35, label="D* = p / (p + q)")
        place.plot(GRID[inside], curve[inside], color=RED, lw=1.2, label="D, trained")
        place.set(title=game.name, xlim=(-6, 6), ylim=(0, 1.02), xlabel="x")
    axes[0].legend(fontsize=7, frameon=False, loc="upper right")
    last = axes[-1]
    for name, colour, label in (("minimax", RED, "minimax"), ("nonsaturating", BLUE, "non-saturating")):
        last.semilogy(SHIFTS, [row[f"{name}, D*"] for row in slopes], color=colour, lw=4, alpha=0.35)
        last.semilogy(SHIFTS, [row[f"{name}, trained D"] for row in slopes], "o-", ms=3, color=colour, label=label)
    last.set(title="G's gradient when D is optimal", xlabel="distance of G from the data")
    last.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def study(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where gan_theory.json and .png go.")],
    steps: Annotated[int, typer.Option(min=1, help="Of each discriminator's training.")] = 1500,
    samples: Annotated[int, typer.Option(min=1, help="Of each density in a step.")] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and samples.")] = 0,
) -> None:
    """Check the theory and write down what was found."""
    games, curves = check_games(steps=steps, samples=samples, seed=seed)
    slopes = check_gradients(steps=steps, samples=samples, seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    draw(curves, slopes, output / "gan_theory.png")
    facts = {"games": games, "gradients": slopes, "steps": steps, "samples": samples, "environment": environment(seed)}
    (output / "gan_theory.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for row in games:
        distance, found, expected = (row[key] for key in list(row)[1:])
        typer.echo(f"{row['game']:24} |D - D*| {distance:.3f}   V {found:.4f}   2 JSD - log 4 {expected:.4f}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
