"""The target: the model under attack, as something with logits.

`Target` is all that an attack knows. `NetworkTarget` is the one implementation: a network with what is done around it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.compute import MEMORY_FORMAT, device_of, exact_kernels
from secure_ai.core.errors import SecureAIError, TargetError
from secure_ai.models.target.access import Access
from secure_ai.models.target.known import Known
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.target.watch import Watch, kept_process_state, unchanged_modes
from secure_ai.models.target.wrappers import copied_input

COMPUTED_IN = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""Dtypes that a network's weights may have."""


def nothing() -> None:
    """What is done before a pass where nothing is to be done."""


class Target(Protocol):
    """What an attack is given.

    Attributes:
        name: for messages and reports.
        digest: SHA-256 of the weights.
        input_shape: (C, H, W).
        num_classes: K.
        deterministic: false when two calls on one input may differ.
        access: what it offers: gradients, scores only, or labels only.
    """

    name: str
    digest: str
    input_shape: tuple[int, int, int]
    num_classes: int
    deterministic: bool
    access: Access

    def logits(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """Scores before softmax.

        Args:
            x: (N, C, H, W) float32 in [0, 1].
            rows: (N,) which samples of the shard they belong to, so that queries can be counted per sample.

        Returns:
            (N, K) float32, differentiable with respect to `x` where the target offers gradients; where it offers labels
            only, 1 for the label and 0 for the other classes.

        Raises:
            TargetError: the network raises an error, or its output is not (N, K) floating point.
        """
        ...

    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer's activations (N, F). Raises TargetError where the network offers none."""
        ...

    @property
    def dimensions(self) -> int:
        """Values in one image."""
        channels, height, width = self.input_shape
        return channels * height * width

    @torch.no_grad()
    def predict(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """Predicted classes (N,) int64; `rows` as for `logits`. Raises TargetError on NaN."""
        logits = self.logits(x, rows=rows)
        if not bool(torch.isfinite(logits).all()):
            raise TargetError("the network answers NaN or infinity", where=self.name, expected="finite logits")
        return logits.argmax(dim=1)


@dataclass(eq=False)
class NetworkTarget(Target):
    """A network under attack: `logits` cuts into batches, and each batch is transformed, passed, counted and checked.

    Attributes:
        network: maps the transformed input to logits (N, K); may also have `features(x)`, the penultimate layer.
        transform: applied to pixels in [0, 1] before the network.
        batch_size: most samples in one pass.
        known: what is said of how it was made.
        passes: counts them.
        before_pass: called before each; may raise to end the work.
        watch: inside `attacked()`, what makes sure that the network leaves itself alone.
    """

    network: nn.Module
    name: str = field(kw_only=True)
    digest: str = field(kw_only=True)
    input_shape: tuple[int, int, int] = field(kw_only=True)
    num_classes: int = field(kw_only=True)
    transform: InputTransform = field(default_factory=InputTransform, kw_only=True)
    batch_size: int = field(default=256, kw_only=True)
    deterministic: bool = field(default=True, kw_only=True)
    access: Access = field(default="gradients", kw_only=True)
    known: Known = field(default_factory=Known, kw_only=True)
    passes: PassCounter = field(default_factory=PassCounter, kw_only=True)
    before_pass: Callable[[], None] = field(default=nothing, kw_only=True, repr=False)
    watch: Watch | None = field(default=None, kw_only=True, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the network's weights are, and so every tensor of its attacks."""
        return device_of(self.network)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in: that of its first floating-point weight."""
        first = _first_tensor(self.network)
        return torch.float32 if first is None else first.dtype

    def fed(self, x: Tensor) -> Tensor:
        """What the network is given for pixels `x` (N, C, H, W) in [0, 1]: on its device, in its dtype, transformed."""
        return self.transform(x.to(self.device, self.dtype))

    def logits(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """As in `Target`."""
        self.passes.count_queries(rows)
        if not len(x):
            return x.new_zeros((0, self.num_classes))
        return torch.cat([self._batch_logits(part) for part in x.split(self.batch_size)])

    def _batch_logits(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.access == "gradients" and torch.is_grad_enabled()):
            output = self._passed(self.network, x)
        if self.access == "labels":
            output = _one_hot(output, len(x), self.num_classes)
        expected = (len(x), self.num_classes)
        if not isinstance(output, Tensor) or output.shape != expected or not output.is_floating_point():
            raise TargetError(
                "the network's output is not one score a class",
                where=self.name,
                expected=f"float tensor {expected}",
                got=tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__,
            )
        if output.requires_grad:
            output.register_hook(self.passes.count_backward)
        return output.float()

    def _passed(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        """One pass. Whatever the user's code raises, a plea to exit too, becomes the cause of a TargetError."""
        self.before_pass()
        self.passes.count_forward(len(x))
        try:
            with unchanged_modes(self.name):
                output = function(self.fed(x.contiguous(memory_format=MEMORY_FORMAT)))
            if self.watch is not None:
                self.watch.after_call()
        except (SecureAIError, KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # a user's network may raise anything
            got = f"{type(error).__name__}: {error}"
            raise TargetError("the network raised an error", where=self.name, got=got) from error
        return output.as_subclass(Tensor) if isinstance(output, Tensor) else output

    def features_method(self) -> Callable[[Tensor], Any] | None:
        """The network's own `features`, or None. Raises TargetError where it is a property that raises."""
        try:
            method = getattr(self.network, "features", None) if self.access == "gradients" else None
        except Exception as error:  # a user's property may raise anything
            raise TargetError(
                "the network's `features` raises an error",
                where=self.name,
                expected="a method",
                got=f"{type(error).__name__}: {error}",
            ) from error
        return method if callable(method) else None

    def features(self, x: Tensor) -> Tensor:
        """As in `Target`."""
        method = self.features_method()
        if method is None:
            raise TargetError("the network offers no features", where=self.name, expected="a method features(x)")
        output = self._passed(method, x)
        if not isinstance(output, Tensor):
            raise TargetError("features(x) is not a tensor", where=self.name, got=type(output).__name__)
        return output.flatten(1)

    @contextlib.contextmanager
    def attacked(self, *, by_value: bool = True) -> Iterator[None]:
        """Evaluation mode, frozen parameters and float32 inside; all restored after, and what the process shares.

        Args:
            by_value: compare the weights themselves, too, not only how often they were written to.

        Raises:
            TargetError: the network changed its own weights or buffers meanwhile.
        """
        modes = [(module, module.training) for module in self.network.modules()]
        trainable = [(parameter, parameter.requires_grad) for parameter in self.network.parameters()]
        outer = self.watch
        self.network.eval()
        for parameter, _ in trainable:
            parameter.requires_grad_(False)
        self.watch = Watch(self.network, self.name, by_value=by_value)
        try:
            with kept_process_state(), exact_kernels(self.device):
                yield
                self.watch.compare()
        finally:
            self.watch = outer
            for parameter, requires_grad in trainable:
                parameter.requires_grad_(requires_grad)
            for module, training in modes:
                module.training = training


def _one_hot(output: Any, n: int, num_classes: int) -> Any:
    """Labels (n,), or the largest of the scores (n, K), as scores that say no more than the label.

    Nobody knows the number of classes behind labels: what is not among them counts as the last one.
    """
    if isinstance(output, Tensor) and output.shape == (n, num_classes) and output.is_floating_point():
        if not bool(torch.isfinite(output).all()):
            return output  # refused by the caller
        output = output.argmax(dim=1)
    if not isinstance(output, Tensor) or output.shape != (n,) or output.is_floating_point():
        return output
    last = num_classes - 1
    output = torch.where((output < 0) | (output > last), last, output)
    return functional.one_hot(output.long(), num_classes).float()


def _first_tensor(network: nn.Module) -> Tensor | None:
    """The first floating-point parameter, else buffer."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor for tensor in tensors if tensor.dtype in COMPUTED_IN), None)


class _Function(nn.Module):
    """A function of tensors as a network, on the device of the images."""

    def __init__(self, function: Callable[[Tensor], Any], x: Tensor) -> None:
        super().__init__()
        self._function = function
        self.register_buffer("_like", x.new_empty(0), persistent=False)

    def forward(self, x: Tensor) -> Any:
        """What the function returns."""
        return self._function(x)


def as_target(
    model: Callable[[Tensor], Any],
    x: Tensor,
    *,
    num_classes: int | None = None,
    transform: InputTransform | None = None,
) -> NetworkTarget:
    """A network or a function of tensors as a target, with its gradients.

    Args:
        model: from images (N, C, H, W) to logits (N, K). A network is called in evaluation mode, on contiguous copies
            of the images; its weights stay where they are and as they are.
        x: (N, C, H, W) float32 in [0, 1], N >= 1: the images to be attacked. One of them tells the number of classes.
        num_classes: K, where it is known.
        transform: applied to pixels in [0, 1] before the model.

    Raises:
        TargetError: the model raises an error, or does not answer one score a class.
    """
    if not callable(model):
        raise TargetError("not a model", where="net", expected="a network or a function", got=type(model).__name__)
    network = model if isinstance(model, nn.Module) else _Function(model, x)
    target = NetworkTarget(
        copied_input(network),
        name=type(model).__name__,
        digest="",
        input_shape=(int(x.shape[1]), int(x.shape[2]), int(x.shape[3])),
        num_classes=num_classes or 0,
        transform=transform or InputTransform(),
    )
    if num_classes is None:
        with target.attacked(by_value=False), torch.no_grad():
            output = target._passed(target.network, x[:1])
        if not isinstance(output, Tensor) or output.dim() != 2:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TargetError("the output is not one score a class", where=target.name, expected="(N, K)", got=got)
        target.num_classes = int(output.shape[1])
        target.passes = PassCounter()
    return target
