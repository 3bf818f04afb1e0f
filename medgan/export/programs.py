"""The bare networks of a run as programs that need none of medgan's code: ONNX, TorchScript, torch.export."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from medgan.config import InputError
from medgan.export.card import model_card
from medgan.export.options import ExportOptions
from medgan.export.trained import Trained
from medgan.networks.field import total_stride
from medgan.networks.frozen import sees_window
from medgan.rundir import Direction

ProgramFormat = Literal["onnx", "torchscript", "torch_export"]
_AXES = ("x", "y", "z")
_OPSET = 20


def write_programs(
    trained: Trained,
    folder: Path,
    kind: ProgramFormat,
    directions: Sequence[Direction],
    options: ExportOptions,
    classes: Mapping[int, str],
) -> None:
    """Write a program for each direction, one for the segmentor of each target, and the card, into an empty folder.

    Raises:
        InputError: a network that cannot be traced, or a package that is missing.
    """
    program = PROGRAMS[kind]
    targets = dict.fromkeys(way[1] for way in directions)
    networks: dict[str, nn.Module] = {str(way): trained.generators[way] for way in directions}
    networks |= {f"segmentor_{side}": trained.segmentors[side] for side in targets if side in trained.segmentors}
    strides: dict[str, int] = {}
    for name, network in networks.items():
        strides[name] = _stride(network)
        image = torch.rand(1, 1, *(2 * strides[name] + 2 * strides[name] * axis for axis in range(3))) * 2 - 1
        try:
            with _quiet(), torch.no_grad():
                program.write(network, image, folder / f"{name}{program.suffix}", strides[name])
        except ImportError as error:
            raise InputError(f"export: {kind} needs {error.name}; pip install 'medgan[export]'") from None
        except Exception as error:  # what a tracer cannot follow, it tells in many ways
            first = (str(error).splitlines() or [""])[0]
            raise InputError(f"export: {kind} cannot hold {type(network).__name__} ({first[:120]})") from error
    windows = [name for name, network in networks.items() if sees_window(network)]
    (folder / "README.md").write_text(
        model_card(trained, options, classes, _use(kind, strides, windows)), encoding="utf-8"
    )


def _stride(network: nn.Module) -> int:
    """What sizes are multiples of: the network's stride, and what it pads its input to."""
    multiples = [cast(int, getattr(module, "multiple", 1)) for module in network.modules()]
    return max(total_stride(network), *multiples)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what tracers tell of themselves, which no user can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _dimensions(stride: int) -> dict[int, Any]:
    """Any multiple of the stride along each axis."""
    return {axis + 2: stride * torch.export.Dim(f"_{name}", min=1, max=4096) for axis, name in enumerate(_AXES)}


def _onnx(network: nn.Module, image: Tensor, path: Path, stride: int) -> None:
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(name=package)
    torch.onnx.export(
        network,
        (image,),
        path,
        input_names=["image"],
        output_names=["pred"],
        opset_version=_OPSET,
        dynamic_shapes=(_dimensions(stride),),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _torchscript(network: nn.Module, image: Tensor, path: Path, stride: int) -> None:
    torch.jit.trace(network, image).save(str(path))  # type: ignore[no-untyped-call]


def _torch_export(network: nn.Module, image: Tensor, path: Path, stride: int) -> None:
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes=(_dimensions(stride),)), path)


class _Program(NamedTuple):
    """How networks are written in one format."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Path, int], None]


PROGRAMS: dict[ProgramFormat, _Program] = {
    "onnx": _Program(".onnx", _onnx),
    "torchscript": _Program(".ts", _torchscript),
    "torch_export": _Program(".pt2", _torch_export),
}


def _use(kind: ProgramFormat, strides: Mapping[str, int], windows: Sequence[str]) -> str:
    files = "\n".join(f"| `{name}{PROGRAMS[kind].suffix}` | {stride} |" for name, stride in strides.items())
    norms = (
        f"\nThe norms of {', '.join(windows)} look at all of what they are given: statistics are those of the piece,\n"
        "not of the volume, so pieces of the training's size give what the training gave. `medgan translate` and the\n"
        "MONAI bundle take the statistics of the whole volume instead.\n"
        if windows
        else ""
    )
    return f"""
## Use

Networks alone: image (1, 1, X, Y, Z) float32 in [-1, 1] as prepared below, to a translation of the same shape in
[-1, 1] or, of a segmentor, to a logit per class. Outside the body lies -1. Sizes along X, Y and Z are multiples of the
number:

| file | sizes are multiples of |
|---|---:|
{files}
{norms}
The way back to stored units is the map of the target domain, inverted. Reading, preparing, the volume in pieces and the
way back to its grid are yours to do; `medgan translate` and the MONAI bundle do them.
"""
