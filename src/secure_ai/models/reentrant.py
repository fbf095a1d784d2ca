"""Networks that several threads may call at once, because no layer keeps anything between or beside two calls.

A user's own module may keep what it likes. Where its forward pass is nothing but known operations, threads call that
list of operations in its place (torch.fx), which keeps nothing.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from secure_ai.models.watch import unchanged_modes

LAYERS = frozenset({
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d,
    nn.ConvTranspose2d, nn.Dropout, nn.Dropout2d, nn.ELU, nn.Flatten, nn.GELU, nn.GroupNorm, nn.Hardswish, nn.Identity,
    nn.LayerNorm, nn.LeakyReLU, nn.Linear, nn.LogSoftmax, nn.MaxPool2d, nn.ReLU, nn.ReLU6, nn.Sequential, nn.SiLU,
    nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Tanh, nn.ZeroPad2d,
})  # fmt: skip
"""Of torch; in evaluation mode."""
OWN = frozenset(f"secure_ai.models.{name}" for name in ("networks", "keras_io", "keras_modules", "wrappers"))
"""This package's modules of networks and layers."""
FUNCTIONS = frozenset({
    functional.adaptive_avg_pool2d, functional.avg_pool2d, functional.elu, functional.gelu, functional.hardswish,
    functional.leaky_relu, functional.log_softmax, functional.max_pool2d, functional.normalize, functional.pad,
    functional.relu, functional.relu6, functional.sigmoid, functional.silu, functional.softmax, functional.softplus,
    functional.tanh, getattr, operator.add, operator.getitem, operator.matmul, operator.mul, operator.neg, operator.sub,
    operator.truediv, torch.add, torch.cat, torch.clamp, torch.flatten, torch.log_softmax, torch.matmul, torch.mean,
    torch.mul, torch.permute, torch.relu, torch.reshape, torch.sigmoid, torch.softmax, torch.stack, torch.sub,
    torch.tanh,
})  # fmt: skip
METHODS = frozenset({
    "add", "clamp", "contiguous", "div", "flatten", "float", "log_softmax", "mean", "mul", "permute", "relu", "reshape",
    "sigmoid", "size", "softmax", "squeeze", "sub", "tanh", "transpose", "unsqueeze", "view",
})  # fmt: skip
"""Operations that a graph may have beside layers: what they give depends on their arguments alone, which stay."""


def is_reentrant(network: nn.Module) -> bool:
    """Whether two threads may call `network`; what is not known does not pass. It must be in evaluation mode."""
    return not _has_any_global_hook() and all(_known(module) and _untouched(module) for module in network.modules())


def reentrant_graph(network: nn.Module, x: Tensor) -> nn.Module | None:
    """What `network` computes, as a module of known operations on the same weights; None where it may be anything else.

    The network is run once on a stand-in for images that records what is done to it; a forward pass that looks at
    values, uses other operations or leaves something behind in a module is none of these. The record does not tell of
    gradients turned off or asked for, or of another precision: for `x` the answers, with gradients and without, and the
    gradients must be the same bit for bit.

    Args:
        network: in evaluation mode, parameters frozen.
        x: a few images, transformed as the network wants them; any pixels will do.
    """
    if _has_any_global_hook() or not all(_untouched(module) for module in network.modules()):
        return None
    try:
        with unchanged_modes("the network"):
            graph = _recorded(network)
            return graph if graph is not None and _same(network, graph, x) else None
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - a user's network may raise anything when it is called in another way
        return None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return all(_known(module) for module in m.modules())  # a known wrapper may hold a user's module


def _recorded(network: nn.Module) -> nn.Module | None:
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    other = copy.deepcopy(network, shared)  # what the recording leaves behind stays in the copy
    graph = _Tracer().trace(other)
    if not all(_harmless(node) for node in graph.nodes) or _changed(network, other):
        return None
    return fx.GraphModule(other, graph).eval()


def _harmless(node: fx.Node) -> bool:
    if node.op == "call_function":
        ended = node.target is functional.dropout and node.kwargs.get("training") is False
        return ended or node.target in FUNCTIONS
    return node.op != "call_method" or node.target in METHODS


def _changed(before: nn.Module, after: nn.Module) -> bool:
    """Whether any attribute of a module, other than its children, is another one now."""
    pairs = zip(before.modules(), after.modules(), strict=True)
    return any(_attributes(one) != _attributes(other) for one, other in pairs)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """By name; tensors as lists, which compare by value."""
    left_out = ("_modules", "_tensor_constant")  # the second are copies that the recording makes
    found = {name: value for name, value in vars(module).items() if not name.startswith(left_out)}
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in found.items()}


def _same(network: nn.Module, graph: nn.Module, x: Tensor) -> bool:
    return all(torch.equal(one, other) for one, other in zip(_answers(network, x), _answers(graph, x), strict=True))


def _answers(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the network answers without and with gradients, and a gradient in which every answer has its own weight."""
    with torch.no_grad():
        plain: Tensor = network(x.clone())
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        found: Tensor = network(point)
        weights = torch.linspace(-1, 1, found.numel()).view_as(found)
        (slope,) = torch.autograd.grad((found * weights).sum(), point)
    return plain, found.detach(), slope


def _known(module: nn.Module) -> bool:
    return type(module) in LAYERS or type(module).__module__ in OWN


def _untouched(module: nn.Module) -> bool:
    """In evaluation mode, without hooks, with the forward pass of its class."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    changed = "forward" in vars(module) or module._compiled_call_impl is not None
    return not module.training and not any(hooks) and not changed
