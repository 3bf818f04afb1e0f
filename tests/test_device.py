"""Where networks run, and how precisely."""

import logging

import pytest
import torch

from medgan import device
from medgan.config import InputError
from medgan.device import choose_device, is_bf16

CPU = torch.device("cpu")


def test_a_device_that_is_not_here_is_refused_by_name() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(InputError, match="device 'tpu9': not on this machine; use auto or cpu"):
        choose_device("tpu9")


def test_bf16_asked_for_is_given_and_its_price_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda: False)
    device._warn_of_bf16.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert is_bf16("bf16", CPU)
        assert is_bf16("bf16", CPU)
        assert not is_bf16("float32", CPU)
    assert caplog.text.count("no instructions for it") == 1


def test_auto_is_bf16_on_a_processor_with_tiles_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_tiles in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_tiles: has)
        assert is_bf16("auto", CPU) is has_tiles
