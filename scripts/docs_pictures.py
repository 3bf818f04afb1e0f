"""Pictures of the documentation: previews of a training, and what goes wrong with GANs on images, each made here.

    python3 scripts/docs_pictures.py                            all; minutes on one core
    python3 scripts/docs_pictures.py --only checkerboard        some of them; what the others have left stays
    python3 scripts/docs_pictures.py --only organ previews --run runs/demo    need the demo's run

Writes docs/pictures/*.png and docs/pictures/failures.json, which docs/failures.md shows and quotes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import torch
from audit_faults import plant
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from environment import ROOT
from medgan.config import Component
from medgan.data.digits import Digits
from medgan.data.phantom import TISSUES, make_phantom
from medgan.data.phantom_slices import CT_WINDOW, PhantomSlices
from medgan.data.source import SourceDataset
from medgan.data.volume import Volume
from medgan.mosaic import mosaic
from medgan.recipes import GAN, Pix2Pix, Segmentation
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, load_translator
from medgan.translate.reader import load_reader

FOLDER = ROOT / "docs" / "pictures"
SOFT_TISSUE_HU = (-250.0, 350.0)
_GAS = 6  # the label
_INSIDE = np.ones((1, 1, 5, 5), bool)  # of a tissue: two pixels from its edge
_HU = (CT_WINDOW.high_hu - CT_WINDOW.low_hu) / 2  # of one unit in [-1, 1]

Image = NDArray[Any]


class TransposedUNet(nn.Module):
    """MONAI's U-Net with its defaults, which enlarge by transposed convolutions, as a generator."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, channels: int = 16) -> None:
        super().__init__()
        from monai.networks.nets.unet import UNet

        widths = (channels, 2 * channels, 4 * channels, 4 * channels)
        self.body = UNet(spatial_dims, in_channels, out_channels, widths, strides=(2, 2, 2), num_res_units=1)

    def forward(self, image: Tensor) -> Tensor:
        painted: Tensor = self.body(image).tanh()
        return painted


def checkerboard() -> dict[str, Any]:
    """MR to CT with pairs, slices of 96 x 96: the same short training with two ways to enlarge."""
    source = PhantomSlices(size=96, A="ct", B="mr", bodies=16, held_out_bodies=2)
    networks = {
        "transposed convolution": Component(name="docs_pictures.TransposedUNet", channels=16),
        "enlarge, then convolve": Component(name="unet", channels=16, levels=3),
    }
    held_out = source.draw(np.random.default_rng(3), 8, "test", "paired")
    flat = torch.from_numpy(ndimage.binary_erosion(np.isin(held_out["label_A"], (2, 3)), _INSIDE))
    images, measured = [(_hu(held_out["A"]), "true CT")], {"truth": _checker_rms(_hu(held_out["A"]), flat)}
    for name, network in networks.items():
        torch.manual_seed(0)
        recipe = Pix2Pix(spatial_dims=2, generator_net=network, lambda_adv=0.0, ema_decay=0.0, lr=1e-3)
        for _ in _trained(recipe, source, "paired", batch_size=4, num_steps=150):
            pass
        made = _hu(recipe.translator("BA")(held_out["B"]))  # type: ignore[misc]
        images.append((made, name))
        measured[name] = _checker_rms(made, flat)
    chosen = 1
    crop = (slice(24, 72), slice(20, 76))
    _draw("checkerboard", [(made[chosen, 0][crop], title) for made, title in images], SOFT_TISSUE_HU)
    return {"checker_rms_hu": measured}


def _checker_rms(images: Tensor, where: Tensor) -> float:
    """Root mean square of what alternates from pixel to pixel along rows or along columns, HU."""
    found = [((2 * images - images.roll(1, axis) - images.roll(-1, axis)) / 4)[where] for axis in (2, 3)]
    return round(float(torch.cat(found).square().mean().sqrt()), 1)


def collapse() -> dict[str, Any]:
    """A plain GAN on digits whose generator learns much faster than its discriminator, and the same with R1."""
    digits, mlp = Digits(size=16), Component(name="mlp", width=256)
    made = {"digits": digits.draw(np.random.default_rng(1), 256, "train", "single")["A"]}
    settings = {"generator too fast": {"lr": 2e-3, "lr_discriminator": 2e-4}, "with R1": {"lambda_r1": 1.0}}
    for name, options in settings.items():
        torch.manual_seed(0)
        recipe = GAN(image_shape=(1, 16, 16), generator_net=mlp, discriminator_net=mlp, ema_decay=0.0, **options)  # type: ignore[arg-type]
        for _ in _trained(recipe, digits, "single", batch_size=64, num_steps=1500):
            pass
        sampler = recipe.sampler()
        made[name] = sampler(sampler.latents(256, torch.Generator().manual_seed(0)))
    _draw("collapse", [(_grid(images[:36]), title) for title, images in made.items()], (-1.0, 1.0))
    distances = {name: torch.pdist(images.flatten(1)).median() for name, images in made.items()}
    return {"median_distance_of_two": {name: round(float(distance), 2) for name, distance in distances.items()}}


def _grid(images: Tensor) -> Image:
    return np.asarray(mosaic(images, 6, 4), float) / 127.5 - 1


def organ(run: Path) -> dict[str, Any]:
    """A translation of the demo's run, and the same with a second liver planted into it; what the segmentor reads."""
    options = TranslateOptions(precision="float32", features=False, cycle=False)
    translator = load_translator(run, "BA", device="cpu", options=options)
    reader = load_reader(RunDir(run), translator.target, options=options, device="cpu")
    phantom = make_phantom((72, 0))
    mr = Volume(phantom.mr, phantom.affine, None, phantom.mr.shape, None)
    made = translator.translate(mr).image
    spacing = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    planted = plant(made, phantom.labels, "doubled", "liver", spacing.tolist(), np.random.default_rng(5))
    cut = int(np.median(np.argwhere(planted != made)[:, 2]))
    read = {name: reader.read(mr, image) for name, image in (("translation", made), ("planted", planted))}
    maps = {"true": phantom.labels, **read}
    panels = [
        (np.rot90(image[:, :, cut]), title)
        for image, title in (
            (phantom.mr / 1400 * 600 - 250, "MR"),
            (phantom.ct, "true CT"),
            (made, "translation"),
            (planted, "with a second liver, planted"),
        )
    ]
    _draw("organ", panels, SOFT_TISSUE_HU, [None, *(np.rot90(found[:, :, cut] == _GAS) for found in maps.values())])
    ml = float(np.prod(spacing)) / 1000
    classes = {"liver": (3,), "gas": (_GAS,), "bone and marrow": (4, 5)}
    volumes = {
        organ: {name: round(float(np.isin(found, values).sum() * ml)) for name, found in maps.items()}
        for organ, values in classes.items()
    }
    return {"read_ml": volumes}


def segmentation() -> dict[str, Any]:
    """CT slices of held-out bodies and what a segmentor reads off them after a short training."""
    source = PhantomSlices(size=96, A="ct", bodies=16, held_out_bodies=2)
    torch.manual_seed(0)
    network = Component(name="segresnet", channels=16, levels=3)
    recipe = Segmentation(num_classes=len(TISSUES), spatial_dims=2, segmentor_net=network, lr=2e-3)
    for _ in _trained(recipe, source, "single", batch_size=4, num_steps=800):
        pass
    held_out = source.draw(np.random.default_rng(3), 8, "test", "single")
    with torch.no_grad():
        read = recipe.segmentor("A")(held_out["A"]).argmax(dim=1, keepdim=True)  # type: ignore[misc]
    chosen, most = 1, (SOFT_TISSUE_HU[1] - SOFT_TISSUE_HU[0]) / (len(TISSUES) - 1)
    shown = [_hu(held_out["A"]), *(labels * most + SOFT_TISSUE_HU[0] for labels in (read, held_out["label_A"]))]
    titles = ("CT", "what is read", "labels")
    panels = [(images[chosen, 0], title) for images, title in zip(shown, titles, strict=True)]
    _draw("segmentation", panels, SOFT_TISSUE_HU)
    same = (read == held_out["label_A"])[held_out["label_A"] > 0]
    return {"body_read_right": round(float(same.float().mean()), 3)}


def previews(run: Path) -> dict[str, Any]:
    """What the demo's run showed of itself early, later and at its end."""
    folder = run / "train" / "previews"
    names = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    chosen = [100, 300, 1000]
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        for axes, step in zip(figure.subplots(len(chosen), 1), chosen, strict=True):
            picture = mpl.image.imread(folder / f"{step:07d}.png")
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            width = picture.shape[1] / len(names)
            axes.set_xticks([(place + 0.5) * width for place in range(len(names))], names if step == chosen[0] else [])
            axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
            axes.set_yticks([])
            axes.set_ylabel(f"{step} steps")
            axes.spines[:].set_visible(False)
        figure.savefig(FOLDER / "previews.png", dpi=110, metadata={"Software": None})
    return {"steps": chosen}


def _trained(recipe: Any, source: Any, pairing: Any, *, batch_size: int, num_steps: int) -> Iterator[int]:
    """Train, and yield the number of steps that were made."""
    batches = SourceDataset(source, pairing=pairing, split="train", batch_size=batch_size, seed=0, num_steps=num_steps)
    for step in range(num_steps):
        recipe.training_step(batches[step], step / num_steps)
        yield step + 1


def _hu(image: Tensor) -> Tensor:
    return (image.detach().float() + 1) * _HU + CT_WINDOW.low_hu


def _draw(
    name: str,
    panels: list[tuple[Any, str]],
    window: tuple[float, float],
    outlines: list[Image | None] | None = None,
) -> None:
    """Panels side by side, all in one window of grey."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(2.1 * len(panels), 2.35), layout="constrained")
        for place, (axes, (image, title)) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
        ):
            axes.imshow(np.asarray(image, float), cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
            axes.set_title(title, fontsize=8)
            axes.axis("off")
            if outlines and outlines[place] is not None:
                axes.contour(outlines[place], levels=[0.5], colors=["#ff9d00"], linewidths=1.0)
        figure.savefig(FOLDER / f"{name}.png", dpi=130, metadata={"Software": None})


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "checkerboard": lambda run: checkerboard(),
    "collapse": lambda run: collapse(),
    "organ": organ,
    "segmentation": lambda run: segmentation(),
    "previews": previews,
}


def main() -> int:
    """Draw, measure, and keep the numbers of all parts in one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()
    record = FOLDER / "failures.json"
    numbers = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    for name in options.only:
        FOLDER.mkdir(parents=True, exist_ok=True)
        numbers[name] = PARTS[name](options.run)
        print(name, numbers[name], flush=True)
        numbers["versions"] = {"python": sys.version.split()[0], "torch": torch.__version__}
        record.write_text(json.dumps(dict(sorted(numbers.items())), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
