"""Sample what a run has learnt: grids, walks between latents, classes on request, translations before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Tensor

from medgan.checkpoint import build_recipe, find_checkpoint, read_checkpoint
from medgan.config import Component, InputError, StrictModel, suggest
from medgan.data.sources import Source, SourceDataset, source
from medgan.device import choose_device
from medgan.mosaic import Picture, columns_for, cuts, mosaic, side_by_side
from medgan.recipes import Recipe, Sampler
from medgan.rundir import CheckpointKind, RunDir

Kind = Literal["grid", "walk", "classes", "pairs", "points"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_PER_BATCH = 256


class SampleOptions(StrictModel):
    """The `sample:` section."""

    checkpoint: CheckpointKind = Field("last", description="the last, or the best of model selection")
    truncation: float = Field(1.0, ge=0, le=1, description="below 1: likelier images, fewer kinds of them")
    steps: PositiveInt = Field(10, description="images of a walk from one latent to the next")


def load_recipe(run: RunDir | Path | str, checkpoint: CheckpointKind = "last", device: str = "auto") -> Recipe:
    """The trained recipe of a run, ready to be asked: ``load_recipe("runs/x").sampler()``.

    Raises:
        InputError: no checkpoint, or one that cannot be read without running code from it.
    """
    path = find_checkpoint(run if isinstance(run, RunDir) else RunDir(Path(run)), checkpoint)
    return build_recipe(read_checkpoint(path), path).to(choose_device(device)).eval()


def sample(
    run: RunDir,
    output: Path,
    *,
    kind: Kind | None = None,
    count: int = 64,
    classes: Sequence[int] = (),
    seed: int = 0,
    options: SampleOptions = SampleOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
    force: bool = False,
) -> Path:
    """Draw `count` samples of a run into a picture; into an array where `output` ends in ``.npy``. Returns `output`.

    Args:
        run: the run's folder.
        output: a ``.png``, or ``.npy`` of shape (count, C, *S) in [-1, 1], (count, 2) for points.
        kind: "grid"; "walk": rows lead from one latent to another; "classes": a row per class; "pairs": translations
            of held-out images beside them; "points": in the plane, on real ones. None: what suits the recipe.
        count: samples, or rows of walks and pairs.
        classes: that are asked of a class-conditional recipe; none: all in turn.
        seed: of the latents; the same seed draws the same samples.
        options: of sampling.
        device: "auto", "cpu", "cuda", ...
        force: write over a file that stands.

    Raises:
        InputError: no such run, a kind or class that the recipe does not know, or an output that stands already.
    """
    if output.suffix.lower() not in (".png", ".npy"):
        raise InputError(f"{output}: neither .png nor .npy; end the name of the output in one of them")
    if output.exists() and not force:
        raise InputError(f"{output}: stands already; name another file, or use --force")
    path = find_checkpoint(run, options.checkpoint)
    state = read_checkpoint(path)
    recipe = build_recipe(state, path).to(choose_device(device)).eval()
    drawn = source(Component.model_validate(state["source"])) if "source" in state else None
    kind = _kind(recipe, drawn, kind)
    with torch.inference_mode():
        if kind == "pairs":
            assert drawn is not None
            images = _pairs(recipe, drawn, count, seed)
            array = torch.stack([image.float().cpu() for image in images], dim=1) if _is_array(output) else None
            picture = None if _is_array(output) else side_by_side([cuts(image, True) for image in images])
        else:
            drawn_images = _draw(recipe, kind, count, classes, seed, options)
            array = drawn_images if _is_array(output) else None
            picture = None if _is_array(output) else _picture(drawn_images, kind, drawn, len(classes), options, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    with partial.open("wb") as file:
        if array is not None:
            np.save(file, array.numpy())
        else:
            assert picture is not None
            Image.fromarray(picture).save(file, format="PNG")
    partial.replace(output)
    return output


def draw(
    sampler: Sampler, count: int, *, classes: Tensor | None = None, seed: int = 0, truncation: float = 1.0
) -> Tensor:
    """`count` samples in main memory, float32; equal seeds draw equal latents. `classes` is (count,)."""
    device = next((p.device for p in sampler.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # noise that a network adds by itself
    latents = sampler.latents(count, generator)
    asked = classes
    if asked is None and sampler.num_classes:
        asked = torch.arange(count) % sampler.num_classes
    parts = []
    with torch.no_grad():
        for start in range(0, count, _PER_BATCH):
            some = slice(start, start + _PER_BATCH)
            of_classes = None if asked is None else asked[some].to(device)
            parts.append(sampler(latents[some].to(device), of_classes, truncation).float().cpu())
    return torch.cat(parts)


def walk(sampler: Sampler, rows: int, steps: int, *, seed: int = 0, truncation: float = 1.0) -> Tensor:
    """Samples along great circles between `rows` pairs of latents, (rows * steps, C, *S), row by row.

    White, "Sampling Generative Networks", 2016, section 2.1: straight lines would leave where the latents lie.
    """
    device = next((p.device for p in sampler.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    first, last = sampler.latents(rows, generator), sampler.latents(rows, generator)
    cosine = torch.nn.functional.cosine_similarity(first, last, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cosine)[:, None, None]
    share = torch.linspace(0, 1, steps)[None, :, None]
    between = (first[:, None] * torch.sin((1 - share) * angle) + last[:, None] * torch.sin(share * angle)) / angle.sin()
    classes = torch.arange(rows).repeat_interleave(steps) % sampler.num_classes if sampler.num_classes else None
    latents = between.flatten(0, 1).to(device)
    with torch.no_grad():
        return sampler(latents, None if classes is None else classes.to(device), truncation).float().cpu()  # type: ignore[no-any-return]


def _kind(recipe: Recipe, drawn: Source | None, kind: Kind | None) -> Kind:
    """What suits the recipe; a kind that does not is refused."""
    sampler = recipe.sampler()
    if sampler is None:
        if kind not in (None, "pairs"):
            raise InputError(f"--kind {kind}: the recipe draws no new images; use pairs, or leave it out")
        if drawn is None:
            raise InputError("sample: the run translates patients' volumes; use `medgan translate`")
        return "pairs"
    is_points = drawn is not None and len(drawn.image_shape) == 1
    able: list[Kind] = ["points"] if is_points else ["grid", "walk", *(["classes"] if sampler.num_classes else [])]  # type: ignore[list-item]
    if kind is not None and kind not in able:
        raise InputError(f"--kind {kind}: not of this recipe and data; {suggest(kind, able)}")
    return kind or able[-1 if sampler.num_classes else 0]


def _draw(recipe: Recipe, kind: Kind, count: int, classes: Sequence[int], seed: int, options: SampleOptions) -> Tensor:
    sampler = recipe.sampler()
    assert sampler is not None
    if any(not 0 <= number < sampler.num_classes for number in classes):
        known = f"0 to {sampler.num_classes - 1}" if sampler.num_classes else "no classes"
        raise InputError(f"--class {', '.join(map(str, classes))}: the recipe knows {known}; ask for these")
    if kind == "walk":
        return walk(sampler, count, options.steps, seed=seed, truncation=options.truncation)
    asked = None
    if sampler.num_classes:
        rows = torch.tensor(list(classes) or range(sampler.num_classes))
        per_row = -(-count // len(rows))
        count = len(rows) * per_row
        asked = rows.repeat_interleave(per_row)
    return draw(sampler, count, classes=asked, seed=seed, truncation=options.truncation)


def _picture(
    images: Tensor, kind: Kind, drawn: Source | None, classes: int, options: SampleOptions, seed: int
) -> Picture:
    if kind == "points":
        assert drawn is not None
        real = drawn.draw(np.random.default_rng(seed), len(images), "test", "single")["A"]
        return scatter(images, real)
    flat = cuts(images, drawn is not None)
    if kind == "walk":
        return mosaic(flat, options.steps)
    if kind == "classes" and drawn is not None:
        return mosaic(flat, len(images) // (classes or drawn.num_classes))
    return mosaic(flat, columns_for(len(images), flat.shape[-1]))


def scatter(points: Tensor, real: Tensor) -> Picture:
    """Points (N, 2) of a sampler on as many real ones, as a picture (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal")
    axes.scatter(real[:, 0].numpy(), real[:, 1].numpy(), s=6, c="#b8bec6", linewidths=0, label="real")
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=4, c="#0072b2", linewidths=0, label="sampled")
    reach = 1.25 * float(real.abs().max())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.legend(loc="upper right", frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _pairs(recipe: Recipe, drawn: Source, count: int, seed: int) -> list[Tensor]:
    """Held-out images and what the recipe makes of them, in the recipe's order."""
    data = SourceDataset(drawn, pairing=recipe.pairing, split="test", batch_size=count, seed=seed, num_steps=1)
    device = next(recipe.parameters()).device
    return list(recipe.preview({key: value.to(device) for key, value in data[0].items()}).values())


def _is_array(output: Path) -> bool:
    return output.suffix.lower() == ".npy"
