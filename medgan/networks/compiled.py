"""Networks through `torch.compile`, and as they are where that fails."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

logger = logging.getLogger(__name__)

_VARIANTS = 64  # of one network: sizes of a batch, gradients on and off, frozen or not


def compile_networks(networks: Iterable[nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Let networks run compiled, each as a whole, forward and backward; names and values of weights stay as they are.

    A network is compiled when it first meets a size, its backward pass with it, and both are then rehearsed, which
    leaves nothing behind. Where any of that fails, whatever the reason, all of these networks run as they are from
    there on, told in one warning; what the failed call was to give is computed anew, so that nothing is lost or done
    twice. Random numbers are those of the networks as they are. Second derivatives cannot be taken through a compiled
    network, nor can gradients twice through one call of it.
    """
    import torch._dynamo.config as dynamo
    import torch._functorch.config as autograd
    import torch._inductor.config as inductor

    dynamo.recompile_limit = max(dynamo.recompile_limit, _VARIANTS)
    autograd.force_non_lazy_backward_lowering = True  # a backward pass that cannot be compiled fails here, not later
    inductor.fallback_random = True
    warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf", UserWarning)  # by dynamo
    together = list(networks)
    compiled = torch.compile(_run, backend=backend, fullgraph=True, dynamic=False)
    for network in together:
        network._compiled_call_impl = _Guarded(network, together, compiled)


def _run(network: nn.Module, *inputs: Any, **options: Any) -> Any:
    return network._call_impl(*inputs, **options)  # type: ignore[no-untyped-call]


class _Guarded:
    """A call of a network, compiled; as it is after a failure."""

    def __init__(self, network: nn.Module, together: list[nn.Module], compiled: Callable[..., Any]) -> None:
        self.network, self.together, self.compiled = network, together, compiled
        self.rehearsed: set[Hashable] = set()

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        try:
            variant = _variant(self.network, inputs, options)
            if variant not in self.rehearsed:
                self._rehearse(inputs, options)
                self.rehearsed.add(variant)
            return self.compiled(self.network, *inputs, **options)
        except Exception as error:
            cause = getattr(error, "inner_exception", error)  # of a backend that failed
            told = f"{type(cause).__name__}: {next(iter(str(cause).strip().splitlines()), '')}"
            for network in self.together:
                network._compiled_call_impl = None
        result = self.network(*inputs, **options)  # an error of the network itself comes up again, and is told as ever
        kind = type(self.network).__name__
        logger.warning("train.compile: %s cannot be compiled (%s); all networks run as they are", kind, told[:200])
        return result

    def _rehearse(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Go forward and backward once; buffers, gradients and random generators are then as they were."""
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        inputs, options = tree_map(_apart, (inputs, options))
        given = [leaf for leaf in tree_leaves((inputs, options)) if isinstance(leaf, Tensor)]
        try:
            with torch.random.fork_rng({x.device.index for x in given if x.is_cuda}):
                results = tree_leaves(self.compiled(self.network, *inputs, **options))
                ends = [y.sum() for y in results if isinstance(y, Tensor) and y.requires_grad]
                if ends:
                    sources = [x for x in (*given, *self.network.parameters()) if x.requires_grad]
                    torch.autograd.grad(ends, sources, allow_unused=True)
        finally:
            for buffer, before in buffers:
                buffer.data.copy_(before)  # unseen by autograd, which holds earlier calls against their buffers


def _apart(leaf: Any) -> Any:
    """A tensor as it is, outside the graph that it comes from."""
    return leaf.detach().requires_grad_(leaf.requires_grad) if isinstance(leaf, Tensor) else leaf


def _variant(network: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Hashable:
    """What a network is compiled for."""
    given = [
        (x.shape, x.stride(), x.dtype, x.device, x.requires_grad, torch.is_autocast_enabled(x.device.type))
        if isinstance(x, Tensor)
        else x
        for x in tree_leaves((inputs, options))
    ]
    frozen = [parameter.requires_grad for parameter in network.parameters()]
    return network.training, torch.is_grad_enabled(), *given, *frozen
