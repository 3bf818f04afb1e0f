"""What the sections of the two-dimensional study's page have in common: names, tables, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

Run = Mapping[str, Any]
Runs = Mapping[str, Sequence[Run]]
TITLES = {
    "gan_ring": "GAN with R1, ring",
    "wgan_gp_ring": "WGAN-GP, ring",
    "density_ring": "density network, ring",
    "gan_grid": "plain GAN, grid",
    "gan_fast_grid": "plain GAN, faster, grid",
    "gan_r1_grid": "GAN with R1, grid",
    "pacgan_grid": "PacGAN, grid",
    "cgan_digits": "conditional GAN",
    "dcgan_digits": "DCGAN",
    "wgan_digits": "WGAN",
    "wgan_gp_digits": "WGAN-GP",
    "sngan_digits": "SNGAN",
    "srgan_slices_x2": "MR, x 2",
    "srgan_slices_x4": "CT, x 4",
    "pix2pix_slices": "pix2pix (pairs)",
    "pix2pix_slices_back": "pix2pix (pairs), the way back",
    "pix2pix_edges": "pix2pix, edges to CT (pairs)",
    "cyclegan_slices": "CycleGAN",
    "conditional_cyclegan_slices": "CycleGAN with classes",
    "cut_slices": "CUT",
    "stylegan2_slices": "StyleGAN2",
    "dvdgan_films": "DVD-GAN",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def each(values: Iterable[float], form: str = "d") -> str:
    """The mean, and each seed's own figure where there are several."""
    given = list(values)
    own = ", ".join(format(value, form) for value in given)
    return own if len(given) == 1 else f"{mean(given):{'.1f' if form == 'd' else form}} ({own})"


def pictures(found: Runs, names: Iterable[str], kind: str, what: str) -> str:
    """The pictures of a kind that the first runs of these configurations have, each with its caption."""
    return "\n\n".join(
        f"![{TITLES[name]}: {what}](gan2d/{name}_{kind}.png)\n*{TITLES[name]}: {what}.*"
        for name in names
        if found.get(name) and f"{kind}.png" in found[name][0]["pictures"]
    )
