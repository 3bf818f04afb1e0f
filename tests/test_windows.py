"""A network over a volume: windows, slabs and the volume in one piece give the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan.networks import ResNetGenerator, SegResNetSegmentor, UNetGenerator, slabs
from medgan.networks.field import receptive_field, total_stride
from medgan.networks.frozen import FrozenNorm, freeze_norms, sees_window
from medgan.networks.sweep import Sweep, SweepError, sweepable
from medgan.networks.windows import Evaluator, filled_up, frozen_for

CPU = torch.device("cpu")
PATCH = (16, 16, 8)
NETWORKS = {
    "unet": lambda: UNetGenerator(3, 1, 1, channels=4, levels=2),
    "unet, instance norm": lambda: UNetGenerator(3, 1, 1, channels=4, levels=1, norm="instance"),
    "resnet": lambda: ResNetGenerator(3, 1, 1, channels=4, levels=1, blocks=2),
    "segresnet": lambda: SegResNetSegmentor(3, 1, 3, channels=8, levels=1),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def lively(network: nn.Module) -> nn.Module:
    """Weights so large that the network makes something of noise."""
    for parameter in network.parameters():
        parameter.data.mul_(2.0)
    return network.eval()


def box_sum(width: int) -> nn.Module:
    layer = nn.Conv3d(1, 1, width, padding=width // 2, bias=False)
    nn.init.ones_(layer.weight)
    return layer


# Windows and slabs against the whole


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sweep", [True, False])
def test_windows_give_what_the_whole_volume_gives(name: str, sweep: bool) -> None:
    torch.manual_seed(0)
    image = noise(37, 27, 18)
    network = frozen_for(lively(NETWORKS[name]()), image, PATCH, device=CPU, bf16=False)
    evaluator = Evaluator(network, channels=1, device=CPU, sweep=sweep)
    assert (evaluator.sweep is not None) == sweep
    with torch.no_grad():
        whole = network(image)
    assert whole.std() > 0.05
    one_piece = evaluator(image, memory_gb=1.0)
    assert one_piece.windows == 1
    assert torch.allclose(one_piece.values, whole, atol=1e-4)
    cut = evaluator(image, memory_gb=1.0, window=(16, 20, 12))
    shifted = evaluator(image, memory_gb=1.0, window=(16, 20, 12), is_shifted=True)
    assert cut.windows >= 4
    assert cut.borders != shifted.borders
    assert torch.allclose(cut.values, whole, atol=1e-4)
    assert torch.allclose(shifted.values, whole, atol=1e-4)


def test_windows_without_a_halo_would_not() -> None:
    torch.manual_seed(0)
    network, image = lively(NETWORKS["unet"]()), noise(37, 27, 18)
    with torch.no_grad():
        whole, alone = network(image), network(image[:, :, :20])
    assert (whole[:, :, :20] - alone).abs().max() > 1e-2


def test_less_memory_takes_more_windows_and_gives_the_same() -> None:
    torch.manual_seed(0)
    network, image = (
        nn.Sequential(nn.Conv3d(1, 8, 5, padding=2), nn.SiLU(), nn.Conv3d(8, 1, 3, padding=1)),
        noise(40, 60, 24),
    )
    for sweep in (True, False):
        evaluator = Evaluator(network, channels=1, device=CPU, sweep=sweep)
        ample, scarce = evaluator(image, memory_gb=1.0), evaluator(image, memory_gb=0.0005)
        assert ample.windows == 1
        assert scarce.windows > 1
        assert torch.allclose(ample.values, scarce.values, atol=1e-5)


def test_a_volume_smaller_than_a_patch_lies_within_background() -> None:
    filled, place = filled_up(torch.zeros(1, 1, 4, 4, 9), (6, 6, 6))
    assert filled.shape == (1, 1, 6, 6, 9)
    assert (filled[(..., *place)] == 0).all()
    made = Evaluator(box_sum(3), channels=1, device=CPU)(filled, memory_gb=1.0).within(place)
    assert made.values.shape == (1, 1, 4, 4, 9)
    assert made.values[0, 0, 0, 0, 4] == -15  # 27 neighbours, 3 x 2 x 2 of them in the image


def test_where_nothing_is_wanted_nothing_is_computed() -> None:
    seen: list[int] = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(image.numel())
            return image.flip(-1).flip(-1) + 1  # no sweep knows how to flip

    evaluator = Evaluator(Spy(), channels=1, device=CPU)
    assert evaluator.sweep is None
    where = torch.zeros(1, 1, 40, 40, 40, dtype=torch.bool)
    where[..., 3:9, 3:9, 3:9] = where[..., 30:36, 3:9, 3:9] = True
    seen.clear()
    made = evaluator(torch.zeros(1, 1, 40, 40, 40), memory_gb=1.0, window=(8, 8, 8), where=where)
    assert made.windows == 3  # of five along X, from 3 on: 3 to 10, 27 to 34 and 35
    assert seen == [8 * 6 * 6, 8 * 6 * 6, 6 * 6]
    assert torch.equal(made.values, torch.where(where, 1.0, -1.0))
    nowhere = evaluator(torch.zeros(1, 1, 40, 40, 40), memory_gb=1.0, where=torch.zeros_like(where))
    assert nowhere.windows == 0
    assert (nowhere.values == -1).all()


def test_what_is_wanted_of_each_voxel_is_taken_piece_by_piece() -> None:
    network, image = lively(NETWORKS["segresnet"]()), noise(32, 16, 16)
    network = frozen_for(network, image, PATCH, device=CPU, bf16=False)
    made = Evaluator(network, channels=1, device=CPU)(
        image, memory_gb=1.0, window=(8, 8, 8), fill=0, finish=lambda x: x.argmax(1, keepdim=True).to(torch.uint8)
    )
    assert made.values.dtype == torch.uint8
    with torch.no_grad():
        assert (made.values == network(image).argmax(1, keepdim=True)).float().mean() > 0.999


# How far a network looks


@pytest.mark.parametrize(
    ("network", "halo", "stride"),
    [
        (nn.Identity(), 0, 1),
        (box_sum(3), 1, 1),
        (nn.Sequential(box_sum(5), nn.ReLU(), box_sum(3)), 3, 1),
        (nn.Conv3d(1, 1, (1, 3, 5), padding=(0, 1, 2)), (0, 1, 2), 1),
        # a block of two voxels feeds two coarse ones, and each of them two fine ones
        (nn.Sequential(nn.Conv3d(1, 1, 3, stride=2, padding=1), nn.Upsample(scale_factor=2)), 3, 2),
    ],
)
def test_the_field_of_a_stack_of_layers_is_known(network: nn.Module, halo: Any, stride: int) -> None:
    field = receptive_field(network, 1, CPU)
    assert field.halo == (halo if isinstance(halo, tuple) else (halo,) * 3)
    assert field.stride == stride


def test_weights_do_not_change_the_field_and_norms_over_space_see_everything() -> None:
    network = NETWORKS["unet"]()
    fields = {receptive_field(network, 1, CPU)}
    for parameter in network.parameters():
        parameter.data.zero_()
    fields.add(receptive_field(network, 1, CPU))
    assert len(fields) == 1
    assert receptive_field(NETWORKS["unet, instance norm"]().eval(), 1, CPU).halo is None
    assert total_stride(UNetGenerator(3, 1, 1, channels=4, levels=3)) == 8


# Slabs


def test_a_running_sum_knows_its_neighbours_in_other_slabs() -> None:
    image = torch.arange(7.0).reshape(1, 1, 7, 1, 1)
    pieces = list(Sweep(nn.Conv3d(1, 1, 3, padding=1)).run(image, 2, device=CPU))
    assert sum(piece.shape[2] for piece in pieces) == 7
    along = nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0), bias=False)
    nn.init.ones_(along.weight)
    with torch.no_grad():
        sums = torch.cat(list(Sweep(along).run(image, 2, offset=1, device=CPU)), dim=2)
    assert sums.flatten().tolist() == [1, 3, 6, 9, 12, 15, 11]


class Crossing(nn.Module):
    """Sums, products and channels put side by side of maps that are ready at different times."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 5, padding=2)
        self.mix, self.last = nn.Conv3d(4, 3, 1), nn.Conv3d(3, 1, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, image: Tensor) -> Tensor:
        near, far = self.near(image), torch.tanh(self.far(image))
        both = self.mix(torch.cat([near * near, far + near], dim=1))
        return torch.sigmoid(self.last(both)) + image  # type: ignore[no-any-return]


@pytest.mark.parametrize("bytes_per_bite", [300, 10**6])
@pytest.mark.parametrize("make", [Crossing, NETWORKS["unet"], NETWORKS["segresnet"]])
def test_what_a_voxel_alone_decides_may_be_computed_in_bites_of_any_size(
    make: Any, bytes_per_bite: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    image = noise(13, 8, 6)
    network = frozen_for(lively(make()), image, (8, 8, 6), device=CPU, bf16=False)
    monkeypatch.setattr(slabs, "_BITE_BYTES", bytes_per_bite)
    with torch.inference_mode():
        swept = torch.cat(list(Sweep(network).run(image, 4, offset=1, device=CPU)), dim=2)
        assert torch.allclose(swept, network(image), atol=1e-4)


def test_memory_grows_with_the_cross_section_and_not_with_the_length() -> None:
    sweep = Sweep(NETWORKS["unet"]())
    with torch.no_grad():
        short, long, wide = (
            sweep.held_bytes(torch.zeros(1, 1, *shape), 8, device=CPU)
            for shape in ((96, 8, 8), (192, 8, 8), (96, 16, 8))
        )
    assert long == short
    assert wide == 2 * short


def test_code_that_branches_on_its_input_is_not_swept() -> None:
    class Branches(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.mean() > 0 else -image

    with pytest.raises(SweepError):
        Sweep(Branches())
    assert sweepable(Branches(), noise(8, 8, 8), 4) is None

    class Lies(nn.Module):
        """Does another thing while it is traced, as MONAI's BasicUNet does."""

        def forward(self, image: Tensor) -> Tensor:
            return image + 1 if isinstance(image, Tensor) else image

    assert Sweep(Lies())
    assert sweepable(Lies(), noise(8, 8, 8), 4) is None


# Norms


def test_only_norms_over_space_see_their_window() -> None:
    assert {name: sees_window(make()) for name, make in NETWORKS.items()} == {
        "unet": False,
        "unet, instance norm": True,
        "resnet": False,
        "segresnet": True,
    }


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 2), nn.GroupNorm(2, 2), nn.InstanceNorm3d(2, affine=True)])
def test_a_frozen_norm_is_the_norm_of_the_patch_it_was_taken_from(norm: nn.Module) -> None:
    for parameter in norm.parameters():
        parameter.data.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.Conv3d(1, 2, 1), norm).eval()
    patch, other = noise(6, 5, 4), noise(6, 5, 4, seed=1) * 3
    with torch.no_grad():
        frozen = freeze_norms(network, [patch])
        assert torch.allclose(frozen(patch), network(patch), atol=1e-5)
        assert not torch.allclose(frozen(other), network(other), atol=1e-1)
        assert torch.allclose(frozen(other)[:, :, :2], frozen(other[:, :, :2]), atol=1e-6)
    assert any(isinstance(part, FrozenNorm) for part in frozen.modules())
    assert not any(isinstance(part, FrozenNorm) for part in network.modules())


def test_statistics_are_averages_over_patches_of_the_body() -> None:
    norm = nn.GroupNorm(1, 1, affine=False, eps=0.0)
    network = nn.Sequential(nn.Identity(), norm)
    image = torch.zeros(1, 1, 8, 4, 4)
    image[:, :, 0:4:2], image[:, :, 1:4:2] = 1.0, 3.0  # mean 2, variance 1
    image[:, :, 4::2], image[:, :, 5::2] = 2.0, 8.0  # mean 5, variance 9
    where = torch.zeros(1, 1, 8, 4, 4, dtype=torch.bool)
    where[:, :, 0] = True
    both = frozen_for(network, image, (4, 4, 4), device=CPU, bf16=False)
    first = frozen_for(network, image, (4, 4, 4), device=CPU, bf16=False, where=where)
    zero = torch.zeros(1, 1, 1, 1, 1)
    assert both(zero).item() == pytest.approx(-3.5 / 5**0.5)
    assert first(zero).item() == pytest.approx(-2.0)
