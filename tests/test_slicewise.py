"""2D networks over volumes: slice by slice, on the volume's own grid."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.config import Component, bind
from medgan.data.phantom import make_phantom
from medgan.networks.slicewise import SliceBySlice, for_volumes
from medgan.preprocess import PreparedDomain, PreprocessOptions
from medgan.recipes import RECIPES
from medgan.rundir import RunDir
from medgan.translate import TranslateOptions, load_translator

NETS = {
    "generator_net": {"name": "unet", "channels": 8, "levels": 1},
    "discriminator_net": {"name": "patchgan", "channels": 8, "layers": 1},
}


class Mean(nn.Module):
    """Every pixel as the mean of its slice, and the number of slices seen together."""

    def forward(self, image: Tensor) -> Tensor:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return torch.cat([mean, torch.full_like(mean, len(image))], 1).expand(-1, -1, *image.shape[2:])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_slice_is_translated_alone_and_lies_where_it_lay(axis: int) -> None:
    volume = torch.rand(2, 1, 3, 4, 5)
    made = SliceBySlice(Mean(), axis, at_once=4)(volume)
    assert made.shape == (2, 2, 3, 4, 5)
    others = [a + 2 for a in range(3) if a != axis]
    assert torch.allclose(made[:, :1], volume.mean(dim=others, keepdim=True).expand_as(volume))
    assert made[:, 1].max() == 4


def test_gradients_pass_through() -> None:
    volume = torch.rand(1, 1, 2, 2, 2, requires_grad=True)
    SliceBySlice(Mean())(volume).sum().backward()
    assert volume.grad is not None
    assert (volume.grad == 2 * 2 / 4).all()


def test_thin_patches_tell_the_axis_and_others_leave_the_network_alone() -> None:
    network = Mean()
    sliced = for_volumes(network, (8, 1, 8))
    assert isinstance(sliced, SliceBySlice)
    assert sliced.axis == 1
    assert for_volumes(network, (8, 8, 8)) is network
    assert for_volumes(network, None) is network


def _domain(name: str, modality: str, low: float, high: float) -> dict[str, Any]:
    window = {"name": "hounsfield_window", "low_hu": low, "high_hu": high}
    return PreparedDomain(
        name=name,
        modality=modality,
        rule=window,
        intensity=window,
        body_threshold=-300.0,
        spacing_mm=(8.0, 9.6, 12.0),
        preprocess=PreprocessOptions(),
    ).model_dump(mode="json")


@pytest.mark.parametrize(("name", "thin"), [("cyclegan", 2), ("seg_cyclegan", 1)])
def test_a_recipe_of_slices_translates_a_volume_and_segments_it(name: str, thin: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"name": name, "spatial_dims": 2, **NETS}
    if name == "seg_cyclegan":
        options |= {"num_classes": 3, "segmentor_net": {"name": "segresnet", "channels": 8, "levels": 1}}
    target, values = bind(Component.model_validate(options), RECIPES, "recipe")
    recipe = target(**values)
    for index in range(2):
        batch = {key: torch.rand(1, 1, 16, 16) - 0.5 for key in "AB"}
        labels = {f"label_{key}": torch.randint(0, 3, (1, 1, 16, 16)) for key in "AB"}
        recipe.training_step(batch | labels, index / 2)
    run = RunDir(tmp_path)
    run.checkpoint("last").parent.mkdir(parents=True)
    patch = [16, 16, 16]
    patch[thin] = 1
    domains = {"A": _domain("ct", "ct", -1000, 1000), "B": _domain("contrast ct", "ct", -1000, 2000)}
    torch.save(
        {"recipe": options, "domains": domains, "patch_size": patch, "networks": recipe.state_dict()},
        run.checkpoint("last"),
    )
    phantom = make_phantom(3, (24, 20, 12))
    affine = phantom.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    image = nib.Nifti1Image(phantom.ct, affine)
    translate = load_translator(run, "AB", device="cpu", options=TranslateOptions(precision="float32"))
    made = translate(image)
    assert made.shape == image.shape
    assert np.array_equal(made.affine, affine)
    assert np.ptp(made.get_fdata()) > 0
    if name == "seg_cyclegan":
        assert isinstance(translate.segmentor, SliceBySlice)
