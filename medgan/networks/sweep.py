"""A network over a volume, layer by layer and slab by slab: nothing is computed twice, and no window has a border.

Slabs go in at one end of the first axis. Every layer keeps the few slices that it needs again, and hands on what it can
compute by now; a skip connection waits in a queue until the way below it has caught up. What comes out is what the
network makes of the whole volume, in memory that grows with a cross-section and not with the length.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from medgan.networks.blocks import ChannelNorm, crop_to, pad_to_multiple
from medgan.networks.frozen import FrozenNorm

_POINTWISE_MODULES = (
    *(ChannelNorm, FrozenNorm, nn.BatchNorm3d, nn.Identity, nn.Dropout, nn.Dropout3d),
    *(nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.Tanh, nn.Sigmoid),
)
_POINTWISE_FUNCTIONS = {
    *(operator.add, operator.iadd, operator.sub, operator.mul, operator.gt, operator.lt, torch.where, torch.cat),
    *(torch.add, torch.tanh, torch.sigmoid, F.silu, F.relu, F.leaky_relu),
}
_POINTWISE_METHODS = {"contiguous", "float", "any"}  # the last over channels
_AXIS = 2  # of a tensor (B, C, X, Y, Z)


class SweepError(Exception):
    """The network holds something that cannot be evaluated slab by slab."""


class _Step(Protocol):
    """One layer at work. `push` takes the next slab of each input, or None, and gives what can be computed by now."""

    def push(self, slabs: list[Tensor | None], *, is_last: bool) -> Tensor | None: ...

    @property
    def held(self) -> int:
        """Bytes that wait for what comes next."""
        ...


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
        steps = _steps(self.graph, self.network, image.shape)
        stops = [*range(slab - offset % slab, image.shape[_AXIS], slab), image.shape[_AXIS]]
        for start, stop in zip([0, *stops], stops, strict=False):
            piece = image[:, :, start:stop].to(device)
            yield self._push(steps, piece, is_last=stop == stops[-1])

    def _push(self, steps: dict[fx.Node, _Step], piece: Tensor, *, is_last: bool) -> tuple[Tensor | None, int]:
        """One slab through all layers: what leaves the last one, and the most bytes alive on the way."""
        alive: dict[fx.Node, Tensor | None] = {}
        waiting = {node: sum(user in steps for user in node.users) for node in self.graph.nodes}
        held = {node: step.held for node, step in steps.items()}
        result, most = None, 0
        for node in self.graph.nodes:
            if node.op == "output":
                result = alive[node.args[0]]
            elif node.op == "placeholder":
                alive[node] = piece
            elif node in steps:
                inputs = [source for source in node.all_input_nodes if source in alive]
                alive[node] = steps[node].push([alive[source] for source in inputs], is_last=is_last)
                held[node] = steps[node].held
                most = max(most, sum(map(_bytes, alive.values())) + sum(held.values()))
                for source in inputs:
                    waiting[source] -= 1
                    if not waiting[source]:
                        alive[source] = None
        return result, most


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=(pad_to_multiple, crop_to))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _POINTWISE_MODULES) or super().is_leaf_module(m, module_qualified_name)


def sweepable(network: nn.Module, probe: Tensor, slab: int) -> Sweep | None:
    """The network as a `Sweep`, once it has given what the network itself gives for `probe`; else None."""
    try:
        sweep = Sweep(network)
        pieces = list(sweep.run(probe, slab, offset=slab // 2, device=probe.device))
        expected = cast(Tensor, network(probe))
    except (SweepError, RuntimeError):
        return None
    out = torch.cat(pieces, dim=_AXIS) if pieces else probe[:, :, :0]
    is_same = out.shape == expected.shape and torch.allclose(out.float(), expected.float(), rtol=1e-2, atol=1e-3)
    return sweep if is_same else None


def _steps(graph: fx.Graph, network: nn.Module, shape: torch.Size) -> dict[fx.Node, _Step]:
    """Every layer, fresh, for an image of this shape. What depends on the shape alone is computed here."""
    modules = dict(network.named_modules())
    known: dict[fx.Node, Any] = {}
    steps: dict[fx.Node, _Step] = {}
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op == "get_attr":
            known[node] = operator.attrgetter(node.target)(network)
        elif node.target is getattr and node.args[0].op == "placeholder" and node.args[1] == "shape":
            known[node] = shape
        elif node.op == "call_function" and all(source in known for source in node.all_input_nodes):
            known[node] = node.target(*fx.map_arg(node.args, known.__getitem__))
        else:
            steps[node] = _step(node, modules, known)
    return steps


def _step(node: fx.Node, modules: dict[str, nn.Module], known: dict[fx.Node, Any]) -> _Step:
    if node.op == "call_module":
        return _module_step(modules[str(node.target)])
    if node.target is pad_to_multiple:
        return _Pad(int(cast(int, node.args[1])))
    if node.target is crop_to:
        return _Crop(tuple(known[cast(fx.Node, node.args[1])]))
    if node.target is F.interpolate:
        options: dict[str, Any] = dict(node.kwargs)
        if options.get("size") is not None:
            raise SweepError("enlargement to a given size")
        return _enlarge(options["scale_factor"], str(options["mode"]), options["align_corners"])
    is_method = node.op == "call_method" and node.target in _POINTWISE_METHODS
    is_function = node.op == "call_function" and node.target in _POINTWISE_FUNCTIONS
    over_channels = node.target not in (torch.cat, "any") or (*node.args[1:], node.kwargs.get("dim"))[0] == 1
    if not (is_method or is_function) or not over_channels:
        raise SweepError(f"{node.op} {node.target}")
    sources = [source for source in node.all_input_nodes if source not in known]

    def apply(*slabs: Tensor) -> Tensor:
        table = known | dict(zip(sources, slabs, strict=True))
        args, kwargs = fx.map_arg((node.args, node.kwargs), table.__getitem__)
        if is_method:
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)  # type: ignore[no-any-return]
        return cast(Callable[..., Tensor], node.target)(*args, **kwargs)

    return _Pointwise(apply, len(sources))


def _module_step(module: nn.Module) -> _Step:
    if isinstance(module, _POINTWISE_MODULES):
        return _Pointwise(module, 1)
    if isinstance(module, nn.Conv3d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return _convolution(module)
    if isinstance(module, nn.MaxPool3d | nn.AvgPool3d):
        return _pooling(module)
    if isinstance(module, nn.Upsample) and module.size is None:
        return _enlarge(module.scale_factor, module.mode, module.align_corners)
    raise SweepError(type(module).__name__)


class _Pointwise:
    """What needs no neighbours along the axis. Inputs that are ahead of the others wait."""

    def __init__(self, function: Callable[..., Tensor], count: int) -> None:
        self.function = function
        self.queues = [deque[Tensor]() for _ in range(count)]

    def push(self, slabs: list[Tensor | None], *, is_last: bool) -> Tensor | None:
        for queue, slab in zip(self.queues, slabs, strict=True):
            if slab is not None:
                queue.append(slab)
        length = min(sum(slab.shape[_AXIS] for slab in queue) for queue in self.queues)
        return self.function(*(_take(queue, length) for queue in self.queues)) if length else None

    @property
    def held(self) -> int:
        return sum(_bytes(slab) for queue in self.queues for slab in queue)


def _take(queue: deque[Tensor], length: int) -> Tensor:
    """The next `length` slices of a queue."""
    parts = list[Tensor]()
    while length:
        slab = queue.popleft()
        if slab.shape[_AXIS] > length:
            queue.appendleft(slab[:, :, length:])
            slab = slab[:, :, :length]
        parts.append(slab)
        length -= slab.shape[_AXIS]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=_AXIS)


class _Sliding:
    """What needs `span` slices at a time, `stride` further along each time; `begin` and `end` are put around all.

    `function` maps L slices (L >= span) to (L - span) // stride + 1, or, where it enlarges, to `grow` times as many.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        span: int,
        stride: int,
        padding: Callable[[Tensor], Tensor] | None,
    ) -> None:
        if stride > span:
            raise SweepError(f"stride {stride} beyond its kernel of {span}")
        self.function, self.span, self.stride, self.padding = function, span, stride, padding
        self.rest: Tensor | None = None

    def push(self, slabs: list[Tensor | None], *, is_last: bool) -> Tensor | None:
        (slab,) = slabs
        parts = [] if self.rest is None else [self.rest]
        if slab is not None:
            if self.rest is None and self.padding:
                parts.append(self.padding(slab[:, :, :1]))
            parts.append(slab)
        if is_last and self.padding and parts:
            parts.append(self.padding(parts[-1][:, :, -1:]))
        if not parts:
            return None
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=_AXIS)
        count = (whole.shape[_AXIS] - self.span) // self.stride + 1
        if count <= 0:
            self.rest = whole
            return None
        self.rest = whole[:, :, count * self.stride :].clone()
        return self.function(whole[:, :, : (count - 1) * self.stride + self.span])

    @property
    def held(self) -> int:
        return _bytes(self.rest)


def _convolution(module: nn.Conv3d) -> _Sliding:
    (size, *_), (stride, *_), (dilation, *_) = module.kernel_size, module.stride, module.dilation
    near, *across = cast(tuple[int, int, int], module.padding)

    def convolve(x: Tensor) -> Tensor:
        padding = (0, across[0], across[1])
        return F.conv3d(x, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)

    def zeros(edge: Tensor) -> Tensor:
        shape = list(edge.shape)
        shape[_AXIS] = near
        return edge.new_zeros(shape)

    return _Sliding(convolve, dilation * (size - 1) + 1, stride, zeros if near else None)


def _pooling(module: nn.MaxPool3d | nn.AvgPool3d) -> _Sliding:
    size, stride, padding = (value if isinstance(value, int) else value[0] for value in _pool_numbers(module))
    if padding or module.ceil_mode or getattr(module, "dilation", 1) != 1:
        raise SweepError("pooling with padding, dilation or a ceiling")
    return _Sliding(module, size, stride, None)


def _pool_numbers(module: nn.MaxPool3d | nn.AvgPool3d) -> tuple[Any, Any, Any]:
    return module.kernel_size, module.stride, module.padding


def _enlarge(factor: object, mode: str, align_corners: bool | None) -> _Step:
    factors = set(cast(tuple[float, ...], factor)) if isinstance(factor, tuple | list) else {factor}
    if factors != {2.0} or align_corners or mode not in ("nearest", "trilinear"):
        raise SweepError(f"enlargement by {factor}, {mode}")
    if mode == "nearest":
        return _Pointwise(lambda x: F.interpolate(x, scale_factor=2.0), 1)

    def between(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)[:, :, 2:-2]

    return _Sliding(between, 3, 1, lambda edge: edge)


class _Pad:
    """`pad_to_multiple`: across at once, along the axis at its end."""

    def __init__(self, multiple: int) -> None:
        self.multiple, self.count = multiple, 0

    def push(self, slabs: list[Tensor | None], *, is_last: bool) -> Tensor | None:
        (slab,) = slabs
        if slab is None:
            return None
        self.count += slab.shape[_AXIS]
        extra = -self.count % self.multiple if is_last else 0
        y, z = (-size % self.multiple for size in slab.shape[_AXIS + 1 :])
        return F.pad(slab, (0, z, 0, y, 0, extra), mode="replicate") if extra or y or z else slab

    @property
    def held(self) -> int:
        return 0


class _Crop:
    """`crop_to`: across at once, along the axis once there are enough slices."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.across, self.left = size[1:], size[0]

    def push(self, slabs: list[Tensor | None], *, is_last: bool) -> Tensor | None:
        (slab,) = slabs
        length = 0 if slab is None else min(self.left, slab.shape[_AXIS])
        self.left -= length
        return None if slab is None or not length else crop_to(slab, (length, *self.across))

    @property
    def held(self) -> int:
        return 0


def _bytes(slab: Tensor | None) -> int:
    return 0 if slab is None else slab.numel() * slab.element_size()
