"""The target: the model under attack, as something with logits, and the passes spent on it."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.compute import MEMORY_FORMAT
from secure_ai.core.errors import SecureAIError, TargetError
from secure_ai.models.target.access import Access
from secure_ai.models.target.watch import Watch, kept_process_state, unchanged_modes

Forward = Callable[[Tensor], Any]
"""A forward pass: images as the network wants them, to what it answers."""


@dataclass(slots=True)
class PassCounter:
    """Samples sent forward through the model, and samples whose gradient was taken."""

    forward: int = 0
    backward: int = 0

    def add(self, others: Iterable[PassCounter]) -> None:
        """Count theirs too."""
        for other in others:
            self.forward += other.forward
            self.backward += other.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTransform:
    """How pixels in [0, 1] become what the network expects: first to [low, high], then (x - mean) / std per channel."""

    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels_last: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to x: (N, C, H, W); the result is (N, H, W, C) with `channels_last`."""
        if (self.low, self.high) != (0.0, 1.0):
            x = x * (self.high - self.low) + self.low
        if self.mean or self.std:
            shape = (1, -1, 1, 1)
            mean = torch.tensor(self.mean or (0.0,), dtype=x.dtype).view(shape)
            std = torch.tensor(self.std or (1.0,), dtype=x.dtype).view(shape)
            x = (x - mean) / std
        return x.permute(0, 2, 3, 1) if self.channels_last else x


class Target:
    """A network under attack. Every call counts its passes; `attacked()` leaves the network as it was found.

    Args:
        network: maps the transformed input to logits (N, K); may also have `features(x)`, the penultimate layer.
        name: for messages and reports.
        digest: SHA-256 of the weights.
        input_shape: (C, H, W).
        num_classes: K.
        transform: applied to pixels in [0, 1] before the network.
        batch_size: most samples in one pass.
        deterministic: false when two calls on one input may differ.
        access: what an attack gets: gradients, scores only, or labels only; the network may be able to do more.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        digest: str,
        input_shape: tuple[int, int, int],
        num_classes: int,
        transform: InputTransform | None = None,
        batch_size: int = 256,
        deterministic: bool = True,
        access: Access = "gradients",
    ) -> None:
        self.network = network
        self.name = name
        self.digest = digest
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.deterministic = deterministic
        self.passes = PassCounter()
        self.transform = transform or InputTransform()
        self.access = access
        self._watch: Watch | None = None
        self._queries: Tensor | None = None
        self._cancelled: threading.Event | None = None
        self._stand_in: Forward | None = None
        self._searching = False
        self._one_call = threading.Lock()

    @property
    def dimensions(self) -> int:
        """Values in one image."""
        channels, height, width = self.input_shape
        return channels * height * width

    def sibling(self, cancelled: threading.Event, *, batch_size: int, stand_in: Forward | None = None) -> Target:
        """The same network for another thread, inside `attacked()`, with counters of its own.

        Args:
            cancelled: once set, the next forward pass raises KeyboardInterrupt, which only the main thread hears of.
            batch_size: most samples in one pass, where this target does not ask for fewer.
            stand_in: what `searching()` calls in place of the network, which siblings then call one at a time;
                None: the network itself, by all at once.
        """
        other = copy.copy(self)
        other.batch_size, other._stand_in = min(self.batch_size, batch_size), stand_in
        other.passes, other._cancelled = PassCounter(), cancelled
        return other

    def logits(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """Scores before softmax.

        Args:
            x: (N, C, H, W) float32 in [0, 1].
            rows: (N,) which samples of the shard they belong to, so that `counting()` can count queries per sample.

        Returns:
            (N, K) float32, differentiable with respect to `x` where the target offers gradients; where it offers labels
            only, 1 for the label and 0 for the other classes.

        Raises:
            TargetError: the network's output is not (N, K) floating point.
        """
        if self._queries is not None and rows is not None:
            self._queries.index_add_(0, rows, torch.ones_like(rows))
        return (
            torch.cat([self._forward(part) for part in x.split(self.batch_size)])
            if len(x)
            else x.new_zeros((0, self.num_classes))
        )

    def _forward(self, x: Tensor) -> Tensor:
        if self._cancelled is not None and self._cancelled.is_set():
            raise KeyboardInterrupt
        self.passes.forward += len(x)
        with (
            torch.set_grad_enabled(self.access == "gradients" and torch.is_grad_enabled()),
        ):
            output = self._output(x)
        if self.access == "labels":
            output = self._one_hot(output, len(x))
        if (
            not isinstance(output, Tensor)
            or output.shape != (len(x), self.num_classes)
            or not output.is_floating_point()
        ):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TargetError(
                "the network's output is not one score a class",
                where=self.name,
                expected=f"float tensor {(len(x), self.num_classes)}",
                got=got,
            )
        if output.requires_grad:
            output.register_hook(self._count_backward)
        return output.float()

    def _output(self, x: Tensor) -> Any:
        if self._stand_in is None:
            return self._called(self.network, x)
        if self._searching:
            return self._called(self._stand_in, x)
        with self._one_call:
            return self._called(self.network, x)

    def _one_hot(self, output: Any, n: int) -> Any:
        """Labels (n,), or the largest of the scores (n, K), as scores that say no more than the label.

        Nobody knows the number of classes behind labels: what is not among them counts as the last one.
        """
        if isinstance(output, Tensor) and output.shape == (n, self.num_classes) and output.is_floating_point():
            if not bool(torch.isfinite(output).all()):
                return output  # refused by whoever asked
            output = output.argmax(dim=1)
        if not isinstance(output, Tensor) or output.shape != (n,) or output.is_floating_point():
            return output
        last = self.num_classes - 1
        output = torch.where((output < 0) | (output > last), last, output)
        return functional.one_hot(output.long(), self.num_classes).float()

    def _called(self, function: Forward, x: Tensor) -> Any:
        """What the user's own code answers; whatever it raises becomes a TargetError, a plea to exit too."""
        try:
            with unchanged_modes(self.name):
                output = function(self.transform(x.contiguous(memory_format=MEMORY_FORMAT)))
            if self._watch is not None and function is not self._stand_in:  # which changes nothing, in many threads
                self._watch.after_call()
        except (SecureAIError, KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # a user's network may raise anything
            raise TargetError(
                "the network raised an error", where=self.name, got=f"{type(error).__name__}: {error}"
            ) from error
        return output.as_subclass(Tensor) if isinstance(output, Tensor) else output

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)

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
        """The penultimate layer's activations (N, F). Raises TargetError where the network offers none."""
        method = self.features_method()
        if method is None:
            raise TargetError("the network offers no features", where=self.name, expected="a method features(x)")
        self.passes.forward += len(x)
        output = self._called(method, x)
        if not isinstance(output, Tensor):
            raise TargetError("features(x) is not a tensor", where=self.name, got=type(output).__name__)
        return output.flatten(1)

    @torch.no_grad()
    def predict(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """Predicted classes (N,) int64, in float32 arithmetic; `rows` as for `logits`. Raises TargetError on NaN."""
        logits = self.logits(x, rows=rows)
        if not bool(torch.isfinite(logits).all()):
            raise TargetError("the network answers NaN or infinity", where=self.name, expected="finite logits")
        return logits.argmax(dim=1)

    @contextlib.contextmanager
    def counting(self, n: int) -> Iterator[Tensor]:
        """Inside, passes that name their `rows` are counted in the tensor that is given: (n,) int64, one a sample."""
        before, self._queries = self._queries, torch.zeros(n, dtype=torch.int64)
        try:
            yield self._queries
        finally:
            self._queries = before

    @contextlib.contextmanager
    def attacked(self) -> Iterator[None]:
        """Evaluation mode and frozen parameters inside; both restored after, and what the process shares.

        Raises:
            TargetError: the network changed its own weights or buffers meanwhile.
        """
        modes = [(module, module.training) for module in self.network.modules()]
        trainable = [(parameter, parameter.requires_grad) for parameter in self.network.parameters()]
        outer = self._watch
        self.network.eval()
        for parameter, _ in trainable:
            parameter.requires_grad_(False)
        self._watch = Watch(self.network, self.name)
        try:
            with kept_process_state():
                yield
                self._watch.compare()
        finally:
            self._watch = outer
            for parameter, requires_grad in trainable:
                parameter.requires_grad_(requires_grad)
            for module, training in modes:
                module.training = training

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Inside, an attack is at work and calls the stand-in, if there is one; what it finds is verified outside."""
        self._searching = True
        try:
            yield
        finally:
            self._searching = False
