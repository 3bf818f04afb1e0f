"""The GAN family on data of its own, each recipe trained from its configuration, scored and shown on one page.

    python pipelines/gan_2d.py runs/gan2d                     all of it, hours on two cores
    python pipelines/gan_2d.py runs/gan2d --only gan_ring     one configuration, all of its seeds
    python pipelines/gan_2d.py runs/gan2d --as-is             scores of trainings as far as they are, told as such
    python pipelines/gan_2d.py runs/gan2d --page-only         a page of what is scored

A training that stands is not repeated, one that was interrupted goes on. The page, its JSON and its pictures go to
``docs/results``. What stands there already stays, run folder or not, as long as its configuration is what it was; a run
of the same configuration and seed takes its place.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from gan2d_features import slice_features  # noqa: E402
from gan2d_films import kid_curve, score_films  # noqa: E402
from gan2d_page import write_page  # noqa: E402
from gan2d_points import score_points, score_real_points  # noqa: E402
from gan2d_scores import score_digits, score_super_resolution, score_translation  # noqa: E402

from medgan.checkpoint import build_recipe, read_checkpoint  # noqa: E402
from medgan.cli import guarded  # noqa: E402
from medgan.config import Component, InputError, read_yaml, suggest  # noqa: E402
from medgan.data.digits import Digits  # noqa: E402
from medgan.data.phantom_slices import PhantomSlices  # noqa: E402
from medgan.data.sources import Source, source  # noqa: E402
from medgan.data.store import read_json, write_json  # noqa: E402
from medgan.data.toy import Grid, Ring  # noqa: E402
from medgan.experiment import load_experiment  # noqa: E402
from medgan.recipes import Direction, Recipe, Sampler  # noqa: E402
from medgan.recipes.srgan import SRGAN  # noqa: E402
from medgan.rundir import RunDir, environment  # noqa: E402
from medgan.sample import Kind, load_recipe, sample  # noqa: E402
from medgan.train import train  # noqa: E402

FIVE, THREE = (0, 1, 2, 3, 4), (0, 1, 2)
FRESH = 1000  # seed of the bodies that scores are taken on: nobody has looked at these before
console = Console()


@dataclass(frozen=True)
class Part:
    """One configuration of the study: how its runs are scored, its seeds, the pictures to draw, of how many samples."""

    score: Callable[[RunDir, Recipe, Source], Any]
    seeds: tuple[int, ...] = (0,)
    pictures: tuple[Kind, ...] = ()
    count: int | None = None  # of samples in a picture; None: as `COUNTS` has it


def _points(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    mixture = cast(Ring | Grid, drawn)
    return {"sampled": score_points(_sampler(recipe), mixture), "real": score_real_points(mixture)}


def _digits(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    return score_digits(_sampler(recipe), cast(Digits, drawn))


def _enlargement(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    return score_super_resolution(cast(SRGAN, recipe), drawn, slice_features(drawn))


def _translation(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    """Every direction that was learnt, to every contrast of its target; with classes, the way to them alone."""
    slices = cast(PhantomSlices, drawn)
    ways: list[Direction] = [way for way in get_args(Direction) if recipe.translator(way) is not None]
    asked = [(way, kind) for way in ways for kind in range(len(slices.contrasts[way[1]]))]
    if slices.num_classes:
        asked = [(way, kind) for way, kind in asked if way == "AB"]
    return [score_translation(recipe, slices, direction=way, kind=kind) for way, kind in asked]


def _slices(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    """KID over the training, from the networks that were kept."""
    kept = sorted(path for path in run.checkpoint().parent.glob("*.pt") if path.stem.isdigit())
    samplers = {int(path.stem): _sampler(build_recipe(read_checkpoint(path), path).eval()) for path in kept}
    curve, floor = kid_curve(samplers, drawn, slice_features(drawn))
    return {"curve": curve, "floor": floor}


def _films(run: RunDir, recipe: Recipe, drawn: Source) -> Any:
    return score_films(_sampler(recipe), drawn)


PARTS: dict[str, Part] = {
    "gan_ring": Part(_points, FIVE, ("points",)),
    "wgan_gp_ring": Part(_points, THREE, ("points",)),
    "density_ring": Part(_points, (0,), ("points",)),
    "gan_grid": Part(_points, FIVE, ("points",)),
    "gan_fast_grid": Part(_points, THREE, ("points",)),
    "gan_r1_grid": Part(_points, FIVE, ("points",)),
    "pacgan_grid": Part(_points, THREE, ("points",)),
    "cgan_digits": Part(_digits, FIVE, ("classes",)),
    "dcgan_digits": Part(_digits, (0,), ("grid", "walk")),
    "wgan_digits": Part(_digits, (0,), ("grid",)),
    "wgan_gp_digits": Part(_digits, (0,), ("grid",)),
    "sngan_digits": Part(_digits, (0,), ("grid",)),
    "srgan_slices_x2": Part(_enlargement, (0,), ("pairs",)),
    "srgan_slices_x4": Part(_enlargement, (0,), ("pairs",)),
    "pix2pix_slices": Part(_translation, (0,), ("pairs",)),
    "pix2pix_slices_back": Part(_translation, (0,), ("pairs",)),
    "pix2pix_edges": Part(_translation, (0,), ("pairs",)),
    "cyclegan_slices": Part(_translation, (0,), ("pairs",)),
    "conditional_cyclegan_slices": Part(_translation, (0,), ("pairs",)),
    "cut_slices": Part(_translation, (0,), ("pairs",)),
    "stylegan2_slices": Part(_slices, (0,), ("grid", "walk")),
    "dvdgan_films": Part(_films, (0,), ("grid",), count=12),
}
COUNTS: Mapping[Kind, int] = {"points": 2500, "grid": 36, "walk": 4, "classes": 100, "pairs": 6}


def study(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder for the runs.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="CONFIG", help="Train this configuration alone; repeatable.")
    ] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="Instead of the part's seeds; repeatable.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Train nothing; score trainings as far as they are.")] = False,
    page_only: Annotated[bool, typer.Option("--page-only", help="Train nothing; a page of what is scored.")] = False,
    train_only: Annotated[bool, typer.Option("--train-only", help="Train and score; write no page.")] = False,
    results: Annotated[Path, typer.Option(help="Where the page, its JSON and pictures go.")] = ROOT
    / "docs"
    / "results",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Train, score, draw, and write the page."""
    for name in only or []:
        if name not in PARTS:
            raise InputError(f"--only {name}: not of this study; {suggest(name, PARTS)}")
    for name in [] if page_only else only or PARTS:
        for seed in seeds or PARTS[name].seeds:
            one_run(runs, name, seed, device, as_is=as_is)
    if not train_only:
        console.print(f"The page: {write_results(runs, results)}", highlight=False)


def one_run(runs: Path, name: str, seed: int, device: str = "auto", *, as_is: bool = False) -> None:
    """One configuration with one seed: trained, scored into ``study.json``, drawn into ``sample/``.

    `as_is`, a training that was interrupted is scored as far as it has come, and nothing is trained.
    """
    run, experiment = RunDir(runs / f"{name}-{seed}"), load_experiment(config(name), [f"seed={seed}"])
    steps = experiment.train.num_steps
    if figures(run, name).get("steps") == steps or (as_is and not run.is_trained):
        return
    console.rule(f"[bold]{name}, seed {seed}")
    assert experiment.samples is not None
    is_whole, seconds, verdict = not run.is_trained, 0.0, "interrupted"
    experiment.begin(run)
    if as_is:
        steps = read_checkpoint(run.checkpoint(experiment.sample.checkpoint))["step"]
    else:
        started = time.monotonic()
        verdict = train(experiment.recipe, experiment.train, run, seed=seed, device=device, samples=experiment.samples)
        seconds = time.monotonic() - started
    recipe, drawn = load_recipe(run, experiment.sample.checkpoint, device="cpu"), source(_fresh(experiment.samples))
    scores = PARTS[name].score(run, recipe, drawn)
    for kind in PARTS[name].pictures:
        picture = run.path / "sample" / f"{kind}.png"
        count = PARTS[name].count or COUNTS[kind]
        sample(run, picture, kind=kind, count=count, options=experiment.sample, device="cpu", force=True)
    write_json(
        run.path / "study.json",
        {
            "config": name,
            "seed": seed,
            "scores": plain(scores),
            "seconds": round(seconds) if is_whole else None,
            "steps": steps,
            "configuration": settings(name),
            "parameters": sum(p.numel() for p in recipe.parameters() if p.requires_grad),
            "pictures": [f"{kind}.png" for kind in PARTS[name].pictures],
            "verdict": verdict,
            "environment": environment(seed),
        },
    )


def write_results(runs: Path, results: Path) -> Path:
    """The page of all scored runs, and of what stands in ``gan2d.json`` of configurations that have not changed."""
    earlier = read_json(results / "gan2d.json")["runs"] if (results / "gan2d.json").exists() else {}
    found: dict[str, list[dict[str, Any]]] = {}
    folder = results / "gan2d"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        now = settings(name)
        by_seed = {one["seed"]: one for one in earlier.get(name, []) if one["configuration"] == now}
        scored = {run: figures(RunDir(run), name) for run in sorted(runs.glob(f"{name}-[0-9]*"))}
        by_seed |= {one["seed"]: one for one in scored.values() if one}
        found[name] = [by_seed[seed] for seed in sorted(by_seed)]
        shown = runs / f"{name}-{min(by_seed, default=0)}"
        for kind in part.pictures if scored.get(shown) else ():
            (folder / f"{name}_{kind}.png").write_bytes((shown / "sample" / f"{kind}.png").read_bytes())
    return write_page(results, found, environment(0))


def figures(run: RunDir, name: str) -> dict[str, Any]:
    """What a run was scored, if that was of the configuration of this name as it is now; else nothing."""
    path = run.path / "study.json"
    scores: dict[str, Any] = read_json(path) if path.exists() else {}
    return scores if scores.get("configuration") == settings(name) else {}


def settings(name: str) -> dict[str, Any]:
    """What decides the figures of a configuration, as its file has it."""
    values = read_yaml(config(name))
    return {section: values[section] for section in ("data", "recipe", "train", "sample") if section in values}


def config(name: str) -> Path:
    """The configuration of a part."""
    return ROOT / "configs" / f"{name}.yaml"


def plain(scores: Any) -> Any:
    """Named tuples, numbers and mappings as JSON has them; what is not finite is null."""
    if hasattr(scores, "_asdict"):
        return plain(scores._asdict())
    if isinstance(scores, Mapping):
        return {str(key): plain(value) for key, value in scores.items()}
    if isinstance(scores, list | tuple):
        return [plain(value) for value in scores]
    if hasattr(scores, "tolist"):
        return plain(scores.tolist())
    return None if isinstance(scores, float) and not math.isfinite(scores) else scores


def _fresh(samples: Component) -> Component:
    """The same source, of synthetic bodies that no training and no search for settings has seen."""
    options = samples.model_dump()
    fresh = {"seed": FRESH, "held_out_bodies": 24} if "bodies" in options else {}
    return Component.model_validate(options | fresh)


def _sampler(recipe: Recipe) -> Sampler:
    sampler = recipe.sampler()
    assert sampler is not None
    return sampler


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
