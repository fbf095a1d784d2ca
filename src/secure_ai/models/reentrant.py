"""Networks that several threads may call at once, because no layer keeps anything between or beside two calls.

A user's own module may keep what it likes. Where its forward pass is nothing but known operations, threads call that
list of operations in its place (torch.fx), which keeps nothing. What the list leaves out would make attacks weaker than
they look, so it must be shown to be all that the module does; where that is not shown, the module is called by one
thread at a time.
"""

from __future__ import annotations

import copy
import operator
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import TorchFunctionMode

from secure_ai.core.compute import lower_precision
from secure_ai.models.target.watch import random_states, unchanged_modes

LAYERS = frozenset({
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d,
    nn.ConvTranspose2d, nn.Dropout, nn.Dropout2d, nn.ELU, nn.Flatten, nn.GELU, nn.GroupNorm, nn.Hardswish, nn.Identity,
    nn.LayerNorm, nn.LeakyReLU, nn.Linear, nn.LogSoftmax, nn.MaxPool2d, nn.ReLU, nn.ReLU6, nn.Sequential, nn.SiLU,
    nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Tanh, nn.ZeroPad2d,
})  # fmt: skip
"""Of torch; in evaluation mode."""
OWN_NAMES = ("networks.built_in", "load.keras_io", "load.keras_modules", "target.wrappers")
OWN = frozenset(f"secure_ai.models.{name}" for name in OWN_NAMES)
"""This package's modules of networks and layers."""
FUNCTIONS = frozenset({
    functional.adaptive_avg_pool2d, functional.avg_pool2d, functional.conv2d, functional.elu, functional.gelu,
    functional.hardsigmoid, functional.hardswish, functional.hardtanh, functional.interpolate, functional.layer_norm,
    functional.leaky_relu, functional.linear, functional.log_softmax, functional.max_pool2d, functional.mish,
    functional.normalize, functional.pad, functional.pixel_shuffle, functional.relu, functional.relu6, functional.selu,
    functional.sigmoid, functional.silu, functional.softmax, functional.softplus, functional.tanh, operator.add,
    operator.floordiv, operator.getitem, operator.iadd, operator.imul, operator.isub, operator.itruediv,
    operator.matmul, operator.mul, operator.neg, operator.pow, operator.sub, operator.truediv, torch.abs, torch.add,
    torch.bmm, torch.cat, torch.chunk, torch.clamp, torch.div, torch.exp, torch.flatten, torch.log, torch.log_softmax,
    torch.matmul, torch.maximum, torch.mean, torch.minimum, torch.mul, torch.permute, torch.pow, torch.relu,
    torch.reshape, torch.sigmoid, torch.softmax, torch.split, torch.sqrt, torch.squeeze, torch.stack, torch.sub,
    torch.sum, torch.tanh, torch.transpose, torch.unsqueeze, torch.where,
})  # fmt: skip
METHODS = frozenset({
    "abs", "add", "chunk", "clamp", "clone", "contiguous", "dim", "div", "exp", "expand", "expand_as", "flatten",
    "float", "log_softmax", "matmul", "mean", "mul", "permute", "pow", "relu", "reshape", "sigmoid", "size", "softmax",
    "split", "sqrt", "squeeze", "sub", "sum", "tanh", "to", "transpose", "unsqueeze", "view",
})  # fmt: skip
"""Operations that a graph may have beside layers: what they give depends on their arguments alone."""
PROPERTIES = frozenset({"device", "dtype", "shape"})
"""What a graph may ask of a tensor."""
MOST_OPERATIONS = 20_000
"""A longer record is given up: the network may be one that never ends on a stand-in."""
PLAIN = (bool, int, float, complex, str, bytes, slice, torch.dtype, torch.device, type(None))
"""Types of attributes that keep nothing but what a comparison shows."""


def is_reentrant(network: nn.Module) -> bool:
    """Whether two threads may call `network`; what is not known does not pass. It must be in evaluation mode."""
    return not _has_any_global_hook() and all(_known(module) and _untouched(module) for module in network.modules())


def reentrant_graph(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor] | None:
    """What `network` computes, as a function of known operations on the same weights; None where it may be another one.

    The network is run once on a stand-in for images that records what is done to it; a forward pass that looks at
    values or uses other operations cannot be recorded so. The record does not tell of everything: so network and record
    must then call the same functions of torch in the same order, leave the same history for the backward pass, and give
    the same values and gradients bit for bit; for `x` and for one image, with gradients and without, in float32 and in
    bfloat16. Nothing of the network may be another one afterwards, and no random numbers drawn.

    What stays unseen is state outside the module (a global, a closure, an attribute of its class), the time and fresh
    entropy.

    Args:
        network: in evaluation mode, parameters frozen.
        x: a few images, transformed as the network wants them; any pixels will do.
    """
    try:
        if _has_any_global_hook() or not all(_untouched(module) for module in network.modules()):
            return None
        with unchanged_modes("the network"):
            return _recorded(network, x)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a user's network may raise anything when it is called in another way
        return None


def _recorded(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor] | None:
    before = _moved_by_calls(network)
    shared = {id(parameter): parameter for parameter in network.parameters()}
    other = copy.deepcopy(network, shared)  # what the recording leaves behind stays in the copy
    if set(network.modules()) & set(other.modules()):
        return None
    root = nn.Sequential(other).eval()  # calls `other` with images alone, and gets the constants of the record
    graph = _Tracer().trace(root)
    if not all(_harmless(node) for node in graph.nodes) or _changed(network, other):
        return None
    record = fx.GraphModule(root, graph).eval().forward  # its `__call__` prints to stderr when the network raises
    same = all(_same(network, record, part) for part in (x, x[:1]))
    return record if same and not _changed(network, other) and _moved_by_calls(network) == before else None


# --- the record -------------------------------------------------------------------------------------------------------


class _Proxy(fx.Proxy):
    """A stand-in for a tensor on which `+=` and its like are recorded as what they are: they change every view."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._written(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._written(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._written(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._written(operator.itruediv, other)

    def _written(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _TooLong(BaseException):
    """Not an Exception, which the network might catch."""


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # what is done to buffers is recorded, too, and not done once for all

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return all(_known(module) for module in m.modules())  # a known wrapper may hold a user's module

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, *arguments: Any, **settings: Any) -> fx.Node:
        if len(self.graph.nodes) >= MOST_OPERATIONS:
            raise _TooLong
        return super().create_node(*arguments, **settings)


def _harmless(node: fx.Node) -> bool:
    if "out" in node.kwargs:
        return False
    if node.op == "call_method":
        return node.target in METHODS
    if node.target is getattr:
        return node.args[1] in PROPERTIES
    ended = node.target is functional.dropout and node.kwargs.get("training") is False
    return node.op != "call_function" or ended or node.target in FUNCTIONS


def _changed(before: nn.Module, after: nn.Module) -> bool:
    """Whether a module has another attribute now than its copy, or one whose change might not be seen."""
    for one, other in zip(before.modules(), after.modules(), strict=True):
        names = vars(one).keys() - {"_modules"}
        kept = type(one) is type(other) and vars(one).keys() == vars(other).keys()
        if not kept or not all(_same_value(vars(one)[name], vars(other)[name]) for name in names):
            return True
    return False


def _same_value(one: Any, other: Any) -> bool:
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in (Tensor, nn.Parameter, OrderedDict) and not _same_value(vars(one), vars(other)):
        return False
    if kind in (Tensor, nn.Parameter):
        return torch.equal(one, other)
    if kind in (dict, OrderedDict):
        return list(one) == list(other) and all(_same_value(one[key], other[key]) for key in one)
    if kind in (list, tuple, torch.Size):
        return len(one) == len(other) and all(map(_same_value, one, other))
    if kind in (set, frozenset):
        return bool(one == other) and all(type(value) in PLAIN for value in one)
    if kind is partial:
        return _same_value((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if kind in (Namespace, SimpleNamespace) or (is_dataclass(one) and not isinstance(one, type)):
        return one is not other and _same_value(vars(one), vars(other))
    torchs = isinstance(one, type) and one.__module__.partition(".")[0] == "torch"
    return bool((kind in PLAIN or torchs or one in FUNCTIONS) and one == other)


# --- its comparison with the network ----------------------------------------------------------------------------------


class _Calls(TorchFunctionMode):
    """Inside, the functions of torch that are called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.found.append(function)
        return function(*args, **(kwargs or {}))


def _same(network: Callable[[Tensor], Tensor], graph: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    for dtype in (torch.float32, torch.bfloat16):
        with lower_precision(dtype):
            (one, how), (other, how_other) = _answers(network, x), _answers(graph, x)
        if how != how_other or not all(map(torch.equal, one, other)):
            return False
    return True


def _answers(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[tuple[Tensor, ...], tuple[list[Any], ...]]:
    """Answers without and with gradients and a gradient in which every answer has its own weight; how they came."""
    with torch.no_grad(), _Calls() as without:
        plain = function(x.clone())
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        with _Calls() as calls:
            found = function(point)
        weights = torch.linspace(1, 2, found.numel()).view_as(found)
        (slope,) = torch.autograd.grad((found * weights).sum(), point, retain_graph=True)
    return (plain, found.detach(), slope), (without.found, calls.found, _history(found))


def _history(output: Tensor) -> list[str]:
    """Names of the steps of the backward pass, which a function with a backward pass of its own changes."""
    names, seen, waiting = [], set(), [output.grad_fn]
    while waiting:
        step = waiting.pop()
        names.append("" if step is None else step.name())
        if step is not None and step not in seen:
            seen.add(step)
            waiting.extend(parent for parent, _ in step.next_functions)
    return names


def _moved_by_calls(network: nn.Module) -> tuple[Any, ...]:
    """What a call of a network that keeps nothing leaves alone: random states, and how often its tensors were written.

    Torch's own draws are among the calls.
    """
    versions = [tensor._version for tensor in (*network.parameters(), *network.buffers())]
    return *random_states(), versions


def _known(module: nn.Module) -> bool:
    if type(module) in LAYERS:
        return not any(callable(value) for value in vars(module).values())  # a method in place of the class's
    return type(module).__module__ in OWN


def _untouched(module: nn.Module) -> bool:
    """In evaluation mode, without hooks, with the forward pass of its class and plain tensors."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    changed = "forward" in vars(module) or module._compiled_call_impl is not None
    tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    plain = all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
    return not module.training and not any(hooks) and not changed and plain
