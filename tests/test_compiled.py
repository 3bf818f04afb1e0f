"""Compiled networks give what they give as they are, and a compiler that fails ends nothing."""

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from test_train import fit, store, weights
from torch import Tensor, nn

from medgan.config import Component, InputError
from medgan.networks.compiled import compile_networks
from medgan.recipes import CycleGAN, Recipe, SegCycleGAN
from medgan.rundir import RunDir


@pytest.fixture(autouse=True)
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


def broken_backward(graph: Any, inputs: Any) -> Callable[..., Any]:
    from torch._dynamo.backends.common import aot_autograd

    def keep(graph: Any, inputs: Any) -> Any:
        return graph

    return aot_autograd(fw_compiler=keep, bw_compiler=broken_forward)(graph, inputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("backend", [broken_forward, broken_backward])
def test_where_compiling_fails_all_networks_run_as_they_are_and_nothing_is_done_twice(
    backend: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = network(), network()
    other = copy.deepcopy(ours)
    image = torch.rand(2, 1, 8, 8)
    compile_networks([ours, other], backend)
    with caplog.at_level(logging.WARNING):
        for mine, true in zip(gradients(ours, image), gradients(theirs, image), strict=True):
            assert torch.equal(mine, true)
        other(image)
    assert len(caplog.records) == 1
    assert "Sequential cannot be compiled" in caplog.text
    assert "long story" not in caplog.text
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), f"{name}: batch norm has counted twice"


def test_an_error_of_the_network_itself_comes_up_as_ever() -> None:
    net = network()
    compile_networks([net], "eager")
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        net(torch.rand(2, 3, 8, 8))


SMALL = {
    "generator_net": Component(name="unet", channels=4, levels=1),
    "discriminator_net": Component(name="patchgan", channels=4, layers=1),
}


def seg_cyclegan() -> Recipe:
    reader = Component(name="segresnet", channels=8, levels=1)
    return SegCycleGAN(num_classes=3, segmentor_net=reader, seg_warmup=0.0, seg_fakes_start=0.2, **SMALL)


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
    plain, asked = store(tmp_path / "plain"), store(tmp_path / "asked")
    fit(plain, num_steps=2)
    monkeypatch.setattr("medgan.train.compile_networks", lambda networks: compile_networks(networks, broken_forward))
    with caplog.at_level(logging.WARNING):
        fit(asked, num_steps=2, compile=True)
    assert caplog.text.count("train.compile") == 1
    assert weights(asked) == weights(plain)


def test_second_derivatives_are_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.compile: wgan_gp may take second derivatives"):
        fit(RunDir(tmp_path / "run"), {"name": "wgan_gp", "image_shape": [1, 8, 8]}, compile=True)
