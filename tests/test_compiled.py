"""Compiled networks give what they give as they are, and a compiler that fails ends nothing."""

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from test_resume import choice, ending_at
from test_resume import fit as fit_samples
from test_train import fit, lines, store, weights
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from medgan.config import Component, InputError
from medgan.networks.blocks import SpatialDims, conv, recompute_blocks, refuse_wrong_gradients
from medgan.networks.compiled import compile_networks
from medgan.networks.fast_convolutions import fast_convolutions
from medgan.recipes import CycleGAN, Recipe, SegCycleGAN
from medgan.recipes.segmentation import Segmentation
from medgan.rundir import RunDir


@pytest.fixture(autouse=True, scope="module")
def afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1))


def gradients(net: nn.Module, image: Tensor) -> list[Tensor]:
    net.zero_grad()
    net(image).square().mean().backward()
    return [p.grad for p in net.parameters() if p.grad is not None]


def broken_forward(graph: Any, inputs: Any) -> Callable[..., Any]:
    raise RuntimeError("no code today\nand a long story")


def through_autograd(**compilers: Callable[..., Any]) -> Callable[..., Any]:
    """A backend that keeps its graphs as they are, but for these compilers."""
    from torch._dynamo.backends.common import aot_autograd

    return aot_autograd(**{"fw_compiler": lambda graph, _: graph, **compilers})  # type: ignore[no-any-return]


def broken_run(graph: Any, inputs: Any) -> Callable[..., Any]:
    def run(inputs: list[Tensor]) -> Any:
        torch.rand(3)
        raise RuntimeError("no code today\nand a long story")

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


BROKEN = {
    "tracing": broken_forward,
    "forward": through_autograd(fw_compiler=broken_forward),
    "backward": through_autograd(bw_compiler=broken_forward),
    "running forward": through_autograd(fw_compiler=broken_run),
    "running backward": through_autograd(bw_compiler=broken_run),
}


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")
@pytest.mark.parametrize("where", BROKEN)
def test_where_compiling_fails_all_networks_run_as_they_are_and_nothing_is_done_twice(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (nn.Sequential(network(), nn.Dropout()) for _ in range(2))
    other = copy.deepcopy(ours)
    image = torch.rand(2, 1, 8, 8)
    compile_networks([ours, other], BROKEN[where])
    with caplog.at_level(logging.WARNING):
        torch.manual_seed(1)
        mine, drawn = gradients(ours, image), torch.get_rng_state()
        other(image)
    torch.manual_seed(1)
    for gradient, true in zip(mine, gradients(theirs, image), strict=True):
        assert torch.equal(gradient, true)
    assert torch.equal(drawn, torch.get_rng_state()), "random numbers were drawn twice"
    assert len(caplog.records) == 1
    assert "Sequential cannot be compiled (RuntimeError: no code today)" in caplog.text
    assert "long story" not in caplog.text
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), f"{name}: batch norm has counted twice"


def test_a_call_before_the_backward_pass_of_another_has_the_gradients_and_averages_of_networks_as_they_are() -> None:
    ours, theirs = network(), network()
    compile_networks([ours], "aot_eager")
    images = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 12, 12)  # the second size is compiled between
    for net in (ours, theirs):
        losses = [net(image).square().mean() for image in images]
        torch.stack(losses).sum().backward()
    assert ours._compiled_call_impl is not None
    for mine, true in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, true.grad)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_an_error_of_the_network_itself_comes_up_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    net = network()
    compile_networks([net], "eager")
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        net(torch.rand(2, 3, 8, 8))
    assert "train.compile" not in caplog.text, "the compiler is not to blame"


def test_wrong_gradients_are_refused_when_compiled(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.SiLU())
    refuse_wrong_gradients(net)
    compile_networks([net], "aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.rand(1, 1, 4, 4, 4))
        assert net._compiled_call_impl is not None
        with pytest.raises(InputError, match="2 voxels along x"):
            net(torch.rand(1, 1, 2, 4, 4))
    assert "train.compile" not in caplog.text, "the compiler is not to blame"


READER = Component(name="test_compiled.Reader")
SMALL = {
    "generator_net": Component(name="unet", channels=4, levels=1),
    "discriminator_net": Component(name="patchgan", channels=4, layers=1),
}


class Reader(nn.Sequential):
    """A segmentor of two layers, each a block."""

    block_types = (nn.Conv2d, nn.Conv3d)

    def __init__(self, spatial_dims: SpatialDims, in_channels: int, out_channels: int) -> None:
        super().__init__(conv(spatial_dims, in_channels, 4), nn.SiLU(), conv(spatial_dims, 4, out_channels))


def seg_cyclegan() -> Recipe:
    return SegCycleGAN(num_classes=3, segmentor_net=READER, seg_warmup=0.0, seg_fakes_start=0.2, **SMALL)


def cyclegan() -> Recipe:
    return CycleGAN(**SMALL)


@pytest.mark.parametrize("make", [seg_cyclegan, cyclegan])
def test_a_recipe_s_step_is_the_same(make: Callable[[], Recipe], caplog: pytest.LogCaptureFixture) -> None:
    draw = torch.Generator().manual_seed(0)
    batch = {key: torch.rand(1, 1, 8, 8, 8, generator=draw) * 2 - 1 for key in "AB"}
    batch |= {f"label_{key}": torch.randint(0, 3, (1, 1, 8, 8, 8), generator=draw) for key in "AB"}
    recipes = []
    for _ in range(2):
        torch.manual_seed(1)
        recipes.append(make().train())
        refuse_wrong_gradients(recipes[-1])
        fast_convolutions(recipes[-1])
    compiled, plain = recipes
    compile_networks(compiled.networks(), "aot_eager")
    with caplog.at_level(logging.WARNING):
        ours, theirs = compiled.training_step(batch, 0.5), plain.training_step(batch, 0.5)
    assert not caplog.records, "a network was not compiled"
    for name, loss in theirs.items():
        assert ours[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    for one, other in zip(compiled.networks(), plain.networks(), strict=True):
        for mine, true in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, true.grad, rtol=1e-3, atol=1e-6)


def test_a_training_says_that_it_cannot_compile_and_has_the_weights_of_one_that_was_not_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = choice("segmentation", 2, segmentor_net=READER)
    fit_samples(tmp_path / "plain", reader, num_steps=2)
    monkeypatch.setattr("medgan.train.compile_networks", lambda networks: compile_networks(networks, broken_forward))
    with caplog.at_level(logging.WARNING):
        fit_samples(tmp_path / "asked", reader, num_steps=2, compile=True)
    assert caplog.text.count("train.compile") == 1
    assert weights(RunDir(tmp_path / "asked")) == weights(RunDir(tmp_path / "plain"))


def test_networks_with_second_derivatives_run_as_they_are_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit_samples(tmp_path, choice("wgan_gp", 2), compile=True)
    told = [record.getMessage() for record in caplog.records if "train.compile" in record.getMessage()]
    assert RunDir(tmp_path).checkpoint("last").exists()
    assert told == ["train.compile: wgan_gp may take second derivatives; its networks run as they are"]


def test_a_new_size_that_cannot_be_compiled_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def only_once(graph: Any, inputs: Any) -> Callable[..., Any]:
        sizes.append(len(inputs))
        return broken_forward(graph, inputs) if len(sizes) > 1 else graph

    sizes: list[int] = []
    ours, theirs = network(), network()
    compile_networks([ours], only_once)
    with caplog.at_level(logging.WARNING):
        for side in (8, 12, 8):
            image = torch.rand(2, 1, side, side)
            assert torch.equal(ours(image), theirs(image))
    assert len(sizes) == 2
    assert len(caplog.records) == 1


def test_copies_averages_and_states_are_those_of_networks_as_they_are() -> None:
    net = network()
    names = list(net.state_dict())
    compile_networks([net], "eager")
    net(torch.rand(2, 1, 8, 8))
    assert list(net.state_dict()) == names
    average = AveragedModel(net)
    assert list(average.module.state_dict()) == names
    assert average.module._compiled_call_impl is None
    average.update_parameters(net)
    other = network()
    other.load_state_dict(net.state_dict())


def test_a_training_that_was_cut_short_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_here(networks: list[nn.Module]) -> None:
        asked.append(len(networks))
        compile_networks(networks, "aot_eager")

    asked: list[int] = []
    monkeypatch.setattr("medgan.train.compile_networks", compile_here)
    reader, options = choice("segmentation", 2, segmentor_net=READER), {"compile": True, "recompute": True}
    with caplog.at_level(logging.WARNING):
        fit_samples(tmp_path / "whole", reader, **options)
        with ending_at(4, monkeypatch):
            fit_samples(tmp_path / "parts", reader, **options)
        fit_samples(tmp_path / "parts", reader, **options)
    assert asked == [1, 1, 1]
    assert "train.compile" not in caplog.text, "it was not compiled"
    assert weights(RunDir(tmp_path / "parts")) == weights(RunDir(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_in_3d_compiles_all_its_networks_and_has_the_losses_of_one_that_does_not(
    recompute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_here(networks: list[nn.Module]) -> None:
        asked.extend(networks)
        compile_networks(networks, "aot_eager")

    asked: list[nn.Module] = []
    monkeypatch.setattr("medgan.train.compile_networks", compile_here)
    plain, compiled = store(tmp_path / "plain"), store(tmp_path / "compiled")
    fit(plain, num_steps=4, recompute=recompute)
    fit(compiled, num_steps=4, recompute=recompute, compile=True)
    assert [network._compiled_call_impl is not None for network in asked] == [True] * 6
    for ours, theirs in zip(*(lines(run.train / "losses.jsonl") for run in (compiled, plain)), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_blocks_computed_again_under_autocast_have_the_same_gradients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = {"A": torch.rand(2, 1, 8, 8), "label_A": torch.randint(0, 3, (2, 1, 8, 8))}
    readers = []
    for _ in range(2):
        torch.manual_seed(1)
        readers.append(Segmentation(num_classes=3, spatial_dims=2, segmentor_net=READER).train())
        assert recompute_blocks(readers[-1])
    compile_networks(readers[0].networks(), "aot_eager")
    with caplog.at_level(logging.WARNING), torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (reader.training_step_in_parts(batch, 0.5, 2)["S/real"] for reader in readers)
    assert not caplog.records, "it was not compiled"
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-2)
    for mine, true in zip(readers[0].S.parameters(), readers[1].S.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, true.grad, rtol=0.05, atol=5e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_compiler_networks_run_as_they_are_and_a_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nonexistent",))
    ours, theirs = network(), network()
    compile_networks([ours])
    image = torch.rand(1, 1, 8, 8)
    with caplog.at_level(logging.WARNING):
        for mine, true in zip(gradients(ours, image), gradients(theirs, image), strict=True):
            assert torch.equal(mine, true)
    (line,) = [record.getMessage() for record in caplog.records if "train.compile" in record.getMessage()]
    assert "Sequential cannot be compiled" in line
    assert "/nonexistent" in line or "compiler" in line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_s_own_code_has_the_gradients_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    ours, theirs = network(), network()
    compile_networks([ours])
    image = torch.rand(2, 1, 8, 8)
    with caplog.at_level(logging.WARNING):
        for mine, true in zip(gradients(ours, image), gradients(theirs, image), strict=True):
            torch.testing.assert_close(mine, true, rtol=1e-5, atol=1e-6)
    assert not caplog.records, "it was not compiled"
    assert ours._compiled_call_impl is not None
