"""A network over a volume, layer by layer and slab by slab: nothing is computed twice, and no window has a border.

Slabs go in at one end of the first axis. Every layer keeps the few slices that it needs again, and hands on what it can
compute by now; a skip connection waits in a queue until the way below it has caught up. What comes out is what the
network makes of the whole volume, in memory that grows with a cross-section and not with the length.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from medgan.networks.blocks import ChannelNorm, crop_to, over_channels, pad_to_multiple
from medgan.networks.frozen import FrozenNorm
from medgan.networks.slabs import AXIS, Crop, Layer, Pad, Sliding, Voxelwise, size_in_bytes

_VOXELWISE_MODULES = (
    *(ChannelNorm, FrozenNorm, nn.BatchNorm3d, nn.Identity, nn.Dropout, nn.Dropout3d),
    *(nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.Tanh, nn.Sigmoid),
)
_VOXELWISE_FUNCTIONS = {
    *(operator.add, operator.iadd, operator.sub, operator.mul, operator.gt, operator.lt, torch.where, torch.cat),
    *(torch.add, torch.tanh, torch.sigmoid, F.silu, F.relu, F.leaky_relu),
}
_VOXELWISE_METHODS = {"contiguous", "float", "any"}  # the last over channels


class SweepError(Exception):
    """The network holds something that cannot be evaluated slab by slab."""


class Sweep:
    """A network that can be evaluated slab by slab; see `sweepable`."""

    def __init__(self, network: nn.Module) -> None:
        """Raises: SweepError: its code cannot be traced; `run` raises it for a layer that is not known."""
        self.network = nn.Sequential(network)  # a network may be a single layer
        try:
            self.graph = _Tracer().trace(self.network)
        except Exception as error:  # whatever somebody's code does with what is no tensor yet
            raise SweepError(str(error)) from None

    def run(self, image: Tensor, slab: int, *, offset: int = 0, device: torch.device) -> Iterator[Tensor]:
        """What the network makes of `image` (B, C, X, Y, Z), in pieces along X, in order.

        Args:
            image: may lie in main memory; one slab at a time is moved.
            slab: slices that go in at once.
            offset: slices by which the first slab is shorter.
            device: where the network is.
        """
        for out, _ in self._run(image, slab, offset, device):
            if out is not None:
                yield out

    def held_bytes(self, image: Tensor, slab: int, *, device: torch.device) -> int:
        """The most that lies in memory at a time while `image` goes through, its own voxels not counted."""
        return max(most for _, most in self._run(image, slab, 0, device))

    def _run(self, image: Tensor, slab: int, offset: int, device: torch.device) -> Iterator[tuple[Tensor | None, int]]:
        layers = _layers(self.graph, self.network, image.shape)
        stops = [*range(slab - offset % slab, image.shape[AXIS], slab), image.shape[AXIS]]
        for start, stop in zip([0, *stops], stops, strict=False):
            piece = image[:, :, start:stop].to(device)
            yield self._push(layers, piece, is_last=stop == stops[-1])

    def _push(self, layers: Mapping[fx.Node, _Placed], piece: Tensor, *, is_last: bool) -> tuple[Tensor | None, int]:
        """One slab through all layers: what leaves the last one, and the most bytes alive on the way."""
        alive: dict[fx.Node, Tensor | None] = {}
        waiting = dict.fromkeys(self.graph.nodes, 0)
        for placed in layers.values():
            for source in placed.sources:
                waiting[source] += 1
        held = {node: placed.layer.held for node, placed in layers.items()}
        result, most = None, 0
        for node in self.graph.nodes:
            if node.op == "output":
                result = alive[node.args[0]]
            elif node.op == "placeholder":
                alive[node] = piece
            elif node in layers:
                layer, sources = layers[node]
                alive[node] = layer.push([alive[source] for source in sources], is_last=is_last)
                held[node] = layer.held
                most = max(most, sum(map(size_in_bytes, alive.values())) + sum(held.values()))
                for source in sources:
                    waiting[source] -= 1
                    if not waiting[source]:
                        alive[source] = None
        return result, most


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=(pad_to_multiple, crop_to))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*_VOXELWISE_MODULES, nn.Conv3d)) or super().is_leaf_module(m, module_qualified_name)


def sweepable(network: nn.Module, probe: Tensor, slab: int) -> Sweep | None:
    """The network as a `Sweep`, once it has given what the network itself gives for `probe`; else None."""
    try:
        sweep = Sweep(network)
        pieces = list(sweep.run(probe, slab, offset=slab // 2, device=probe.device))
        expected = cast(Tensor, network(probe))
    except (SweepError, RuntimeError, IndexError):
        return None
    out = torch.cat(pieces, dim=AXIS) if pieces else probe[:, :, :0]
    is_same = out.shape == expected.shape and torch.allclose(out.float(), expected.float(), rtol=1e-2, atol=1e-3)
    return sweep if is_same else None


class _Placed(NamedTuple):
    """A layer, and where its inputs come from."""

    layer: Layer
    sources: tuple[fx.Node, ...]


Values = Mapping[fx.Node, Any]
Call = Callable[[Values], Tensor]  # of a node whose value at a voxel depends on that voxel's inputs alone
Build = Callable[[Voxelwise], Layer]  # of a node that looks around, for what is computed on the way into it


@dataclass(frozen=True)
class _Expression:
    """Nodes that are computed voxel by voxel in one go, from the values of `sources`."""

    sources: tuple[fx.Node, ...]
    calls: tuple[tuple[fx.Node, Call], ...] = ()

    def __call__(self, *values: Tensor) -> Tensor:
        found: dict[fx.Node, Any] = dict(zip(self.sources, values, strict=True))
        for node, call in self.calls:
            found[node] = call(found)
        return cast(Tensor, found[self.calls[-1][0]])

    def computed(self) -> Voxelwise:
        return Voxelwise(self if self.calls else None, len(self.sources))


def _layers(graph: fx.Graph, network: nn.Module, shape: torch.Size) -> dict[fx.Node, _Placed]:
    """Every layer, fresh, for an image of this shape. What depends on the shape alone is computed here.

    A node that is computed voxel by voxel for one other node only is computed on the way into that.
    """
    modules = dict(network.named_modules())
    known: dict[fx.Node, Any] = {}
    calls, builds, layers = dict[fx.Node, Call](), dict[fx.Node, Build](), dict[fx.Node, _Placed]()
    waiting = dict[fx.Node, _Expression]()
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op == "get_attr":
            known[node] = operator.attrgetter(node.target)(network)
        elif node.target is getattr and node.args[0].op == "placeholder" and node.args[1] == "shape":
            known[node] = shape
        elif node.op == "call_function" and all(source in known for source in node.all_input_nodes):
            known[node] = node.target(*fx.map_arg(node.args, known.__getitem__))
        elif isinstance(layer := _border_layer(node, known), Pad | Crop):
            layers[node] = _Placed(layer, (node.args[0],))
        elif (build := _build(node, modules)) is not None:
            builds[node] = build
        else:
            calls[node] = _call(node, modules, known)
    for node in graph.nodes:
        if node not in calls and node not in builds:
            continue
        inputs = [waiting.pop(source, _Expression((source,))) for source in node.all_input_nodes if source not in known]
        sources = tuple(dict.fromkeys(source for given in inputs for source in given.sources))
        expression = _Expression(sources, tuple(call for given in inputs for call in given.calls))
        if node in builds:
            layers[node] = _Placed(builds[node](expression.computed()), sources)
            continue
        expression = replace(expression, calls=(*expression.calls, (node, calls[node])))
        user, *others = node.users
        if not others and (user in calls or user in builds):
            waiting[node] = expression
        else:
            layers[node] = _Placed(expression.computed(), sources)
    return layers


def _border_layer(node: fx.Node, known: Values) -> Layer | None:
    if node.target is pad_to_multiple:
        return Pad(int(cast(int, node.args[1])))
    if node.target is crop_to:
        return Crop(tuple(known[cast(fx.Node, node.args[1])]))
    return None


def _call(node: fx.Node, modules: Mapping[str, nn.Module], known: Values) -> Call:
    """What the node computes voxel by voxel."""
    if node.op == "call_module":
        module, (source, *_) = modules[str(node.target)], node.all_input_nodes
        if isinstance(module, nn.Conv3d) and module.groups == 1:
            return lambda values: over_channels(module, values[source])
        if not isinstance(module, (*_VOXELWISE_MODULES, nn.Conv3d)):
            raise SweepError(type(module).__name__)
        return lambda values: cast(Tensor, module(values[source]))
    is_method = node.op == "call_method" and node.target in _VOXELWISE_METHODS
    is_function = node.op == "call_function" and node.target in _VOXELWISE_FUNCTIONS
    is_over_channels = node.target not in (torch.cat, "any") or (*node.args[1:], node.kwargs.get("dim"))[0] == 1
    if not (is_method or is_function) or not is_over_channels:
        raise SweepError(f"{node.op} {node.target}")

    def compute(values: Values) -> Tensor:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda one: known[one] if one in known else values[one])
        if is_method:
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)  # type: ignore[no-any-return]
        return cast(Callable[..., Tensor], node.target)(*args, **kwargs)

    return compute


def _build(node: fx.Node, modules: Mapping[str, nn.Module]) -> Build | None:
    """How to make a layer of a node that looks around; None for one that does not."""
    if node.target is F.interpolate:
        options: dict[str, Any] = dict(node.kwargs)
        if options.get("size") is not None:
            raise SweepError("enlargement to a given size")
        return _enlargement(options["scale_factor"], str(options["mode"]), options["align_corners"])
    module = modules[str(node.target)] if node.op == "call_module" else None
    if isinstance(module, nn.Conv3d):
        return _convolution(module)
    if isinstance(module, nn.MaxPool3d | nn.AvgPool3d):
        return _pooling(module)
    if isinstance(module, nn.Upsample) and module.size is None:
        return _enlargement(module.scale_factor, module.mode, module.align_corners)
    return None


def _convolution(module: nn.Conv3d) -> Build | None:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise SweepError("a convolution that pads otherwise than with zeros")
    if set(module.kernel_size) == set(module.stride) == {1} and set(module.padding) == {0}:
        return None
    (size, *_), (stride, *_), (dilation, *_) = module.kernel_size, module.stride, module.dilation
    near, *across = cast(tuple[int, int, int], module.padding)
    span = dilation * (size - 1) + 1
    if stride > span:
        raise SweepError(f"stride {stride} beyond its kernel of {span}")

    def convolve(x: Tensor) -> Tensor:
        padding = (0, across[0], across[1])
        if _is_mkldnn_faster(x):
            return torch.mkldnn_convolution(
                x, module.weight, module.bias, padding, module.stride, module.dilation, module.groups
            )
        return F.conv3d(x, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)

    return lambda intake: Sliding(convolve, intake, span=span, stride=stride, margin=near)


def _is_mkldnn_faster(x: Tensor) -> bool:
    """Whether to go past what torch decides: it unfolds float32 maps of B C X Y up to 20480, ten times slower."""
    is_plain = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and is_plain and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _pooling(module: nn.MaxPool3d | nn.AvgPool3d) -> Build:
    numbers: tuple[Any, Any, Any] = (module.kernel_size, module.stride, module.padding)
    size, stride, padding = (value if isinstance(value, int) else value[0] for value in numbers)
    if padding or module.ceil_mode or getattr(module, "dilation", 1) != 1 or stride > size:
        raise SweepError("pooling with padding, dilation, a ceiling or gaps")
    return lambda intake: Sliding(module, intake, span=size, stride=stride)


def _enlargement(factor: object, mode: str, align_corners: bool | None) -> Build:
    factors = set(cast(tuple[float, ...], factor)) if isinstance(factor, tuple | list) else {factor}
    if factors != {2.0} or align_corners or mode not in ("nearest", "trilinear"):
        raise SweepError(f"enlargement by {factor}, {mode}")
    if mode == "nearest":
        return lambda intake: Sliding(lambda x: F.interpolate(x, scale_factor=2.0), intake, span=1)

    def between(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)[:, :, 2:-2]

    return lambda intake: Sliding(between, intake, span=3, margin=1, edge="same")
