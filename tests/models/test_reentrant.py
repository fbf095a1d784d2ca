"""Which networks several threads may call at once, and which are recorded: right ones in full, doubtful ones never."""

from __future__ import annotations

import contextlib
import random
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.models.networks.built_in import build_network
from secure_ai.models.reentrant import is_reentrant, reentrant_graph
from secure_ai.models.target.wrappers import contiguous_input, logits_from_probabilities

SHAPE = (3, 8, 8)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Box:
    """Somebody's helper, which says that it is like any other."""

    def __init__(self) -> None:
        self.count = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * (1.0 if self.count % 10 else 0.5)


class Table(dict[str, int]):
    """Somebody's dictionary, with a field."""

    count = 0


class Own(nn.Module):
    """A network with code of its own, `step`, and whatever that may want to use."""

    calls: Tensor
    mean: Tensor
    act_on: Callable[[Any, Any], Any]

    def __init__(self, step: Callable[[Any, Any], Any] = lambda self, h: h) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]))
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.count, self.seen, self._modules_called, self.rate = 0, [0], 0, 0.1
        self.plain, self.kind, self.act = torch.tensor(2.0), nn.ReLU, functional.relu
        self.config, self.layer = Namespace(count=0, widths=(4, {3})), partial(nn.BatchNorm2d, eps=1e-3)
        self.last = OrderedDict(a=1, b=2)
        self.step = None
        type(self).act_on = step

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x))
        logits: Tensor = self.head(type(self).act_on(self, h).flatten(1))
        return logits


class WithDefaults(Own):
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: bool = False) -> Tensor:
        logits = super().forward(x if mask is None else x * mask)
        return logits * self.scale if scale else logits


class Probabilities(Own):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(super().forward(x), dim=1)


def network(step: Callable[[Any, Any], Any] = lambda self, h: h, base: type[Own] = Own) -> Own:
    """With the weights of seed 0, in evaluation mode, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = type("Somebodys", (base,), {})(step)
    return built.eval().requires_grad_(False)  # type: ignore[no-any-return]


def answers(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Without gradients, with them, and the gradient."""
    with torch.no_grad():
        plain = function(x.clone())
    point = x.clone().requires_grad_()
    found = function(point)
    return plain, found.detach(), torch.autograd.grad((found * found).sum(), point)[0]


def residual(self: Any, h: Tensor) -> Tensor:
    out: Tensor = self.act(h) * self.scale
    out += h
    return out


def through_a_view(self: Any, h: Tensor) -> Tensor:
    out = h * 2
    flat = out.view(out.shape[0], -1)
    flat -= 0.25
    flat *= 0.5
    flat /= 0.75
    return out


def with_buffers(self: Any, h: Tensor) -> Tensor:
    return torch.cat([h[:, :3] - self.mean.view(1, -1, 1, 1), h[:, 3:] / self.plain], dim=1)


def without_dropout(self: Any, h: Tensor) -> Tensor:
    return functional.dropout(h, self.rate, training=self.training).to(h.dtype)


@pytest.mark.parametrize(
    "build",
    [
        lambda: network(residual),
        lambda: network(through_a_view),
        lambda: network(with_buffers),
        lambda: network(without_dropout),
        lambda: network(base=WithDefaults),
        lambda: network(lambda self, h: h * len(self.config.widths)),
        lambda: network(lambda self, h: functional.relu(h, inplace=True)),
        lambda: network(lambda self, h: torch.stack([h, self.scale * h.mean(0, keepdim=True) + h]).mean(0)),
        lambda: contiguous_input(network()).eval(),
        lambda: logits_from_probabilities(network(base=Probabilities)).eval(),
        lambda: nn.Sequential(network(residual), nn.Identity()).eval(),
    ],
)
def test_a_record_computes_what_the_network_does(build: Callable[[], nn.Module]) -> None:
    module = build()
    assert not is_reentrant(module)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    record = reentrant_graph(module, images(4))
    assert record is not None
    for count in (1, 3, 7):
        for x in (images(count, seed=count), 0.1 * images(count), torch.ones(count, *SHAPE)):
            assert all(map(torch.equal, answers(record, x), answers(module, x)))
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


class StraightThrough(torch.autograd.Function):
    """A clamp that noise never reaches, with a gradient as if it were not there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(-100, 100)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def detached_excess(self: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        excess = torch.relu(h - 100)
    return h - excess


def hidden_hook(self: Any, h: Any) -> Any:
    if isinstance(h, Tensor) and h.requires_grad:
        h.register_hook(lambda gradient: gradient.clamp(-100, 100))
    return h


def set_data(self: Any, h: Tensor) -> Tensor:
    h.data = torch.clamp(h, -100, 100)
    return h


def counted(self: Any, h: Tensor) -> Tensor:
    self.count += 1
    return h


def counted_under_a_name_of_torchs(self: Any, h: Tensor) -> Tensor:
    self._modules_called += 1
    return h


def counted_in_a_list(self: Any, h: Tensor) -> Tensor:
    self.seen.append(1)
    return h


def counted_in_a_buffer(self: Any, h: Tensor) -> Tensor:
    self.calls += 1
    return h


def counted_behind_a_buffer(self: Any, h: Tensor) -> Tensor:
    self._buffers["calls"].add_(1)
    return h


def counted_in_a_buffer_by_another_name(self: Any, h: Tensor) -> Tensor:
    calls = self.calls
    calls += 1
    return h


def by_the_batch(self: Any, h: Any) -> Any:
    return h * 0.5 if isinstance(count := h.shape[0], int) and count == 1 else h


def by_values(self: Any, h: Any, *, gradients: bool) -> Any:
    look = torch.is_grad_enabled() is gradients and isinstance(h, Tensor)
    return h * 0.5 if look and float(h.detach().mean()) > 1e6 else h


def counted_in_a_config(self: Any, h: Tensor) -> Tensor:
    self.config.count += 1
    return h


def counted_when_called(self: Any, h: Any) -> Any:
    if isinstance(h, Tensor):
        self.count += 1
    return h


def counted_on_a_tensor(self: Any, h: Tensor) -> Tensor:
    self.plain.count = getattr(self.plain, "count", 0) + 1
    return h


def counted_on_an_order(self: Any, h: Tensor) -> Tensor:
    self.last.count = getattr(self.last, "count", 0) + 1
    return h


def in_turn(self: Any, h: Tensor) -> Tensor:
    self.last.move_to_end(next(iter(self.last)))
    return h * 0.5 if next(iter(self.last)) == "c" else h


def by_values_in_float32(self: Any, h: Any) -> Any:
    look = not torch.is_autocast_enabled("cpu") and isinstance(h, Tensor)
    return h * 0.5 if look and float(h.detach().mean()) > 1e6 else h


def parameter_written(self: Any, h: Any) -> Any:
    scale = self.scale
    scale *= 1.0
    return h * scale


def until_the_end(self: Any, h: Tensor) -> Tensor:
    rows: list[Tensor] = []
    with contextlib.suppress(IndexError):
        while True:
            rows.append(h[:, len(rows)])
    return torch.stack(rows, dim=1)


def precise(self: Any, h: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        logits = self.head(h.float().flatten(1))
    return torch.cat([logits, h.flatten(1)[:, 5:]], dim=1)


STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "a backward pass of its own": lambda self, h: StraightThrough.apply(h),  # type: ignore[no-untyped-call]
    "part of it without gradient": detached_excess,
    "a hook on a tensor": hidden_hook,
    "data set": set_data,
    "data taken": lambda self, h: h * h.data.clamp(1, 1),
    "a counter": counted,
    "a counter called as torch's": counted_under_a_name_of_torchs,
    "a list": counted_in_a_list,
    "a counter in a config": counted_in_a_config,
    "a counter of real calls": counted_when_called,
    "a counter on a tensor": counted_on_a_tensor,
    "a counter on an ordered dictionary": counted_on_an_order,
    "an order": in_turn,
    "a parameter written": parameter_written,
    "a loop that an error ends": until_the_end,
    "a buffer": counted_in_a_buffer,
    "a buffer behind its name": counted_behind_a_buffer,
    "a buffer by another name": counted_in_a_buffer_by_another_name,
    "out=": lambda self, h: h + torch.mean(self.mean, dim=0, out=self.plain),
    "float32 in part": precise,
    "rare chance": lambda self, h: h * 0.5 if random.random() < 1e-9 else h,
    "rare chance of numpy": lambda self, h: h * 0.5 if np.random.rand() < 1e-9 else h,
    "a look at values": partial(by_values, gradients=True),
    "a look at values without gradients": partial(by_values, gradients=False),
    "a look at values in float32": by_values_in_float32,
    "a look at the batch": by_the_batch,
    "a look at the gradient mode": lambda self, h: h * (0.5 if torch.is_grad_enabled() else 1.0),
    "a constant made anew": lambda self, h: h * torch.ones(()),
    "an unknown method": lambda self, h: h.cumsum(1),
    "an unknown function": lambda self, h: torch.cumsum(h, 1),
    "active dropout": lambda self, h: functional.dropout(h, 0.5, training=True),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_a_record_would_leave_out_is_not_recorded(name: str) -> None:
    module = network(STEPS[name])
    assert not is_reentrant(module)
    assert reentrant_graph(module, images(4)) is None
    told_by_calls = name in ("a buffer by another name", "a counter of real calls")
    assert told_by_calls or (module.count, module.seen, float(module.calls)) == (0, [0], 0.0)
    assert (module._modules_called, module.config.count, list(module.last)) == (0, 0, ["a", "b"])


def with_a_helper() -> Any:
    module: Any = network(lambda self, h: self.helper(h))
    module.helper = Box()
    return module


def with_a_table() -> Any:
    module: Any = network(lambda self, h: h * len(self.table))
    module.table = Table(a=1)
    return module


@dataclass
class Shared:
    """A configuration of which there is one."""

    count: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def with_a_shared_config() -> Any:
    def step(self: Any, h: Tensor) -> Tensor:
        self.shared.count += 1
        return h

    module: Any = network(step)
    module.shared = Shared()
    return module


def with_a_set_of_functions() -> Any:
    module: Any = network(lambda self, h: h * len(self.functions))
    module.functions = {with_a_table}
    return module


class Alone(nn.ReLU):
    """Not copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Alone:
        return self


def with_a_module_that_is_not_copied() -> Any:
    module: Any = network(lambda self, h: self.alone(h))
    module.alone = Alone().eval()
    return module


class TooLarge:
    """To be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> TooLarge:
        raise MemoryError


def too_large() -> Any:
    module: Any = network()
    module.memory = TooLarge()
    return module


class Marked(Tensor):
    """Runs somebody's code wherever it is used."""


def with_a_tensor_of_its_own() -> nn.Module:
    module = network()
    module.mean = module.mean.as_subclass(Marked)
    return module


def with_another_convolution() -> Any:
    module: Any = network()
    module.conv._conv_forward = nn.Conv2d(3, 4, 3)._conv_forward
    return module


def with_another_forward() -> Any:
    module: Any = network()
    module.conv.forward = lambda x: x[:, :, 2:, 2:].repeat(1, 2, 1, 1)[:, :4]
    return module


def unpickled_from_long_ago() -> nn.Module:
    module = network()
    del module.head._backward_pre_hooks
    return module


@pytest.mark.parametrize(
    "build",
    [
        with_a_helper, with_a_table, with_a_shared_config, with_a_set_of_functions, too_large,
        with_a_module_that_is_not_copied, with_a_tensor_of_its_own, with_another_convolution, with_another_forward,
        unpickled_from_long_ago,
    ],
)  # fmt: skip
def test_modules_whose_state_cannot_be_seen_are_not_recorded(build: Callable[[], Any]) -> None:
    assert reentrant_graph(build(), images(4)) is None


@pytest.mark.parametrize("change", ["", "convolution", "weight", "forward"])
def test_a_known_network_is_called_by_all_unless_part_of_it_is_somebodys(change: str) -> None:
    layers = nn.Conv2d(1, 4, 3), build_network("report1-cnn", generator=torch.Generator())
    module = nn.Sequential(*layers).eval().requires_grad_(False)
    assert is_reentrant(module)
    layer, inner = layers
    if change == "convolution":
        layer._conv_forward = nn.Conv2d(1, 4, 3)._conv_forward  # type: ignore[method-assign]
    if change == "weight":
        layer.weight = nn.Parameter(layer.weight.as_subclass(Marked), requires_grad=False)
    if change == "forward":
        inner.forward = lambda x: x
    assert is_reentrant(module) is not bool(change)
