"""A trained segmentor as a function of volumes: labels on the volume's own grid, from images of its modality."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from numpy.typing import NDArray
from torch import nn

from medgan.checkpoint import build_recipe, find_checkpoint, read_checkpoint
from medgan.config import InputError, validate
from medgan.data.grid import triple
from medgan.data.volume import Volume
from medgan.device import choose_device
from medgan.networks.slicewise import for_volumes
from medgan.preprocess import PreparedDomain
from medgan.recipes.recipe import DomainKey
from medgan.rundir import RunDir
from medgan.translate.options import TranslateOptions
from medgan.translate.translator import VolumeTranslator


class VolumeReader:
    """What a run's segmentor reads off volumes that were prepared as that run prepared its own; see `load_reader`."""

    def __init__(self, translator: VolumeTranslator) -> None:
        """
        Args:
            translator: one that leaves images as they are and has the segmentor.
        """
        self._translator = translator

    def read(self, volume: Volume, image: NDArray[Any]) -> NDArray[Any]:
        """Labels of an image (X, Y, Z) in stored units that lies where `volume` does, on its grid.

        Raises:
            InputError: there is no body in the image.
        """
        labels = self._translator.translate(replace(volume, array=image)).segmentation
        assert labels is not None
        return labels

    @property
    def fingerprint(self) -> str:
        """Changes with all that decides the labels."""
        return self._translator.fingerprint


def load_reader(
    run: RunDir,
    like: PreparedDomain,
    *,
    options: TranslateOptions = TranslateOptions(),  # noqa: B008 (frozen)
    device: str = "auto",
) -> VolumeReader:
    """The segmentor that a run has trained on images such as those of domain `like`.

    The run's domain of the same name is taken, else the one of the same modality.

    Raises:
        InputError: no checkpoint, no such domain, or no segmentor of it.
    """
    path = find_checkpoint(run, options.checkpoint)
    state = read_checkpoint(path)
    recipe = build_recipe(state, path)
    domains = {
        side: validate(PreparedDomain, state["domains"][side], f"{path}: domains.{side}")
        for side in get_args(DomainKey)
        if state["domains"].get(side) and recipe.segmentor(side) is not None
    }
    alike = [side for side, domain in domains.items() if domain.name == like.name]
    alike += [side for side, domain in domains.items() if domain.modality == like.modality]
    if not alike:
        has = ", ".join(domain.name for domain in domains.values()) or "nothing"
        raise InputError(f"{run.path}: segments {has}, not {like.name}; name a run that was trained to segment it")
    segmentor = recipe.segmentor(alike[0])
    assert segmentor is not None
    patch_size = triple(state["patch_size"]) if "patch_size" in state else None
    return VolumeReader(
        VolumeTranslator(
            nn.Identity(),
            for_volumes(segmentor, patch_size),
            source=domains[alike[0]],
            target=domains[alike[0]],
            patch_size=patch_size,
            options=options.model_copy(update={"segmentation": True, "seam_check": False}),
            device=choose_device(device),
        )
    )
