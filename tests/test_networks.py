"""Shapes, ranges and what a voxel may depend on, in 2D and 3D."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from medgan.config import Component, InputError, bind
from medgan.networks import DISCRIMINATORS, GENERATORS, SEGMENTORS, PatchGAN, UNetGenerator
from medgan.networks.blocks import (
    ChannelNorm,
    InstanceNorm,
    PlacedConv,
    PointwiseConv,
    Upsample,
    conv,
    crop_to,
    pad_to_multiple,
    recompute_blocks,
    refuse_wrong_gradients,
)
from medgan.networks.fast_convolutions import fast_convolutions

SIZES = {2: (21, 18), 3: (13, 10, 7)}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_keeps_any_size_and_stays_within_range(name: str, spatial_dims: int) -> None:
    image = torch.rand(2, 1, *SIZES[spatial_dims]) * 2 - 1
    translated = GENERATORS[name](spatial_dims, 1, 3, channels=16)(image)
    assert translated.shape == (2, 3, *SIZES[spatial_dims])
    assert translated.abs().max() <= 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_segmentor_gives_a_logit_per_class_and_voxel(name: str, spatial_dims: int) -> None:
    logits = SEGMENTORS[name](spatial_dims, 1, 5, channels=8)(torch.rand(1, 1, *SIZES[spatial_dims]))
    assert logits.shape == (1, 5, *SIZES[spatial_dims])


@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_segmentor_s_channels_fit_its_groups(name: str) -> None:
    choice = Component.model_validate({"name": name, "channels": 12})
    with pytest.raises(InputError, match=r"channels.*multiple of 8"):
        bind(choice, SEGMENTORS, "segmentor")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_discriminator_judges_patches(spatial_dims: int) -> None:
    judge = DISCRIMINATORS["patchgan"](spatial_dims, 1, channels=8, layers=2)
    logits = judge(torch.rand(1, 1, *(32,) * spatial_dims))
    assert logits.shape == (1, 1, *(6,) * spatial_dims)


@pytest.mark.parametrize(("layers", "sees"), [(2, 34), (3, 70)])
def test_a_logit_sees_as_many_voxels_as_its_description_says(layers: int, sees: int) -> None:
    judge = PatchGAN(2, 1, channels=4, layers=layers, norm="none")
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    logits = judge(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    touched = image.grad[0, 0].abs().sum(1).nonzero()
    assert touched.max() - touched.min() + 1 == sees


def test_spectral_normalisation_bounds_every_weight() -> None:
    judge = PatchGAN(2, 1, channels=4, layers=1, spectral=True)
    for _ in range(50):
        judge(torch.rand(1, 1, 16, 16))
    for module in judge.body:
        if isinstance(module, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2) < 1.1


def test_channel_norm_lets_a_voxel_depend_on_itself_alone() -> None:
    x = torch.rand(1, 4, 6, 6, 6)
    changed = x.clone()
    changed[..., 3:] += 5
    norm = ChannelNorm(4)
    assert torch.equal(norm(x)[..., :3], norm(changed)[..., :3])
    assert not torch.equal(InstanceNorm(4)(x)[..., :3], InstanceNorm(4)(changed)[..., :3])


@pytest.mark.parametrize("name", GENERATORS)
def test_an_untrained_generator_tells_dark_from_bright(name: str) -> None:
    """A norm over channels forgets the scale of its input; the stem's biases keep it."""
    torch.manual_seed(0)
    generator = GENERATORS[name](3, 1, 1, channels=16)
    bright, dim = (generator(torch.full((1, 1, 16, 16, 16), value))[..., 8, 8, 8] for value in (0.9, 0.1))
    assert (bright - dim).abs() > 0.02


def test_instance_norm_is_torch_s_own() -> None:
    x = torch.rand(2, 4, 5, 6, 7)
    torch.testing.assert_close(InstanceNorm(4)(x), torch.nn.InstanceNorm3d(4)(x))


def test_a_far_voxel_does_not_move_a_generator_s_output() -> None:
    generator = UNetGenerator(3, 1, 1, channels=16, levels=1).eval()
    image = torch.rand(1, 1, 48, 8, 8)
    changed = image.clone()
    changed[:, :, 40:] = -1
    torch.testing.assert_close(generator(image)[:, :, :8], generator(changed)[:, :, :8])


def test_upsampling_by_a_pointwise_convolution_commutes_with_the_enlargement() -> None:
    up = Upsample(3, 4, 2, 1)
    x = torch.rand(1, 4, 3, 4, 5)
    torch.testing.assert_close(up(x), up.conv(torch.nn.functional.interpolate(x, scale_factor=2.0)))


def test_padding_is_undone_by_cropping() -> None:
    x = torch.rand(1, 1, 5, 8, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 8, 8, 4)
    assert torch.equal(crop_to(padded, (5, 8, 3)), x)
    assert torch.equal(padded[:, :, 7], padded[:, :, 4])


def test_a_map_of_two_voxels_is_refused_where_its_gradients_would_be_wrong() -> None:
    layer = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1))
    refuse_wrong_gradients(layer)
    thin, thick = torch.rand(1, 1, 2, 4, 4), torch.rand(1, 1, 4, 2, 4)
    layer(thin)
    with torch.autocast("cpu", torch.bfloat16):
        layer(thick)
        with torch.no_grad():
            layer(thin)
        with pytest.raises(InputError, match="2 voxels along x"):
            layer(thin)


@pytest.mark.parametrize("make", [*GENERATORS.values(), *SEGMENTORS.values()])
def test_recomputed_blocks_keep_less_and_give_the_same_gradients(make: Callable[..., torch.nn.Module]) -> None:
    kept: list[int] = []

    def count(x: torch.Tensor) -> torch.Tensor:
        kept[-1] += x.numel()
        return x

    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = make(2, 1, 2, channels=8)
        assert not recompute or recompute_blocks(network)
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            out = network(torch.linspace(-1, 1, 32 * 32).view(1, 1, 32, 32))
        out.square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert kept[1] < 0.7 * kept[0]
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("size", "stride", "handed_on"),
    [
        ((6, 5, 4), 1, (2, 3, 5, 5, 4)),  # in halves
        ((8, 6, 5), 2, (2, 3, 5, 6, 5)),
        ((5, 5, 5), 1, (1, 3, 5, 5, 5)),  # as it is
        ((84, 84, 3), 1, (1, 3, 86, 84, 3)),  # with its border
        ((84, 84, 3), 2, (1, 3, 84, 84, 3)),
    ],
)
def test_a_map_in_halves_or_with_its_border_is_convolved_as_it_is(
    size: tuple[int, int, int], stride: int, handed_on: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    seen: list[tuple[int, ...]] = []
    convolve = F.conv3d
    monkeypatch.setattr(F, "conv3d", lambda x, *rest: (seen.append(tuple(x.shape)), convolve(x, *rest))[1])
    torch.manual_seed(0)
    whole = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3, stride=stride, padding=1))
    fast = copy.deepcopy(whole)
    fast_convolutions(fast)
    gradients = []
    for network in (whole, fast):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = network(x)
        y.square().sum().backward()
        gradients.append([y, x.grad, *(p.grad for p in network.parameters())])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5 * float(one.detach().abs().max()))
    assert seen[-1] == handed_on


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_a_pointwise_convolution_is_one_in_any_layout(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    pointwise, ordinary = conv(3, 6, 4, 1), torch.nn.Conv3d(6, 4, 1)
    assert isinstance(pointwise, PointwiseConv)
    pointwise.load_state_dict(ordinary.state_dict())
    x = torch.randn(2, 6, 5, 4, 3).contiguous(memory_format=memory_format)
    y, truth = pointwise(x), ordinary(x)
    torch.testing.assert_close(y, truth)
    assert y.is_contiguous(memory_format=memory_format)


def test_a_network_without_blocks_has_none_to_recompute() -> None:
    assert not recompute_blocks(PatchGAN(2, 1, channels=8))


@pytest.mark.parametrize(
    ("table", "name", "small"),
    [
        (GENERATORS, "unet", {"levels": 1}),
        (GENERATORS, "resnet", {"levels": 1, "blocks": 1}),
        (DISCRIMINATORS, "patchgan", {"layers": 1}),
    ],
)
def test_only_with_places_is_equal_tissue_answered_differently_elsewhere(
    table: dict[str, Any], name: str, small: dict[str, int]
) -> None:
    def apart(**options: Any) -> float:
        torch.manual_seed(0)
        network = table[name](2, *(1,) * (2 if table is GENERATORS else 1), channels=8, **small, **options)
        row = network(torch.full((1, 1, 64, 64), 0.3))[0, 0, 16]
        return float((row[14] - row[18]).abs().detach())  # neither sees the border

    assert apart() < 1e-6
    assert apart(places=True) > 1e-5


@pytest.mark.parametrize(
    ("table", "name"), [(GENERATORS, "unet"), (GENERATORS, "resnet"), (DISCRIMINATORS, "patchgan")]
)
def test_patches_of_volumes_know_no_place(table: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match="places: true, but patches of volumes"):
        table[name](3, *(1,) * (2 if table is GENERATORS else 1), places=True)


def test_places_run_from_minus_one_to_one_along_rows_and_columns() -> None:
    layer = PlacedConv(3, 2, 1, bias=False)
    layer.weight.data = torch.tensor([[[[0.0]], [[1.0]], [[0.0]]], [[[0.0]], [[0.0]], [[1.0]]]])
    rows, columns = layer(torch.rand(2, 1, 3, 5))[1]
    assert rows[:, 0].tolist() == [-1, 0, 1]
    assert columns[0].tolist() == [-1, -0.5, 0, 0.5, 1]
