"""Thin networks around a network that answer what an attack needs: logits, and a memory layout the network accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SOFTMAX = frozenset({functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax})


class _LastSoftmax(TorchFunctionMode):
    """Remembers the input and the result of the last softmax that ran while the mode was on."""

    def __init__(self) -> None:
        super().__init__()
        self._logits: Tensor | None = None
        self._result: Tensor | None = None
        self._versions: tuple[int, ...] = ()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _SOFTMAX:
            self._logits, self._result = args[0] if args else (kwargs or {}).get("input"), result
            self._versions = self._versions_now()
        return result

    def _versions_now(self) -> tuple[int, ...]:
        both = (self._logits, self._result)  # tensors, or what stands for them in a recording
        with torch._C.DisableTorchFunction():  # to ask is no step of the network's
            return tuple(t._version for t in both if isinstance(t, Tensor) and not t.is_inference())

    def logits_of(self, output: Any) -> Tensor | None:
        """The softmax's input, where `output` is its result and neither was written to since."""
        return self._logits if output is self._result and self._versions == self._versions_now() else None


class Wrapped(nn.Module):
    """A network inside another; `features` is offered exactly when the inner network offers it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training  # it adds no mode of its own

    def prepare(self, x: Tensor) -> Tensor:
        """What the inner network is given for `x`; here `x` itself."""
        return x

    def forward(self, x: Tensor) -> Any:
        """The inner network's answer."""
        return self.network(self.prepare(x))

    @property
    def features(self) -> Callable[[Tensor], Tensor] | None:
        """The inner network's `features`, or None."""
        inner = getattr(self.network, "features", None)
        return (lambda x: inner(self.prepare(x))) if callable(inner) else None


class _Contiguous(Wrapped):
    def prepare(self, x: Tensor) -> Tensor:
        # a copy, because the network may write into it; and `contiguous()` would leave one-channel images the strides
        # that a convolution takes for channels_last
        return x.clone(memory_format=torch.contiguous_format)


class _Rearranged(Wrapped):
    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(network)
        self._change = change

    def prepare(self, x: Tensor) -> Tensor:
        return self._change(x)


class _Filled(Wrapped):
    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__(network)
        self._size = size

    def prepare(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros((self._size - len(x), *x.shape[1:]))])

    def forward(self, x: Tensor) -> Any:
        output = self.network(self.prepare(x))
        return output[: len(x)] if isinstance(output, Tensor) and output.dim() else output

    @property
    def features(self) -> Callable[[Tensor], Tensor] | None:
        inner = getattr(self.network, "features", None)
        return (lambda x: inner(self.prepare(x))[: len(x)]) if callable(inner) else None


def filled_input(network: nn.Module, size: int) -> nn.Module:
    """A network that is always given `size` images, black ones behind those that it is asked about (`size` at most)."""
    return _Filled(network, size)


@dataclass(frozen=True, slots=True)
class OutputForm:
    """What a network answers, where that is not a float32 tensor (N, K).

    Attributes:
        place: index, key or attribute of the scores in a tuple, a dict or an object; None: the answer itself.
        dtype: of the pixels that it takes; None: float32.
        binary: one number an image, the probability or the score of class 1; empty: K scores.
        squeezed: one image is answered with (K,).
    """

    place: int | str | None = None
    dtype: torch.dtype | None = None
    binary: Literal["", "probability", "score"] = ""
    squeezed: bool = False


class _Tidied(Wrapped):
    def __init__(self, network: nn.Module, form: OutputForm) -> None:
        super().__init__(network)
        self.form = form

    def prepare(self, x: Tensor) -> Tensor:
        return x if self.form.dtype is None else x.to(self.form.dtype)

    def forward(self, x: Tensor) -> Any:
        form = self.form
        output = scores_in(self.network(self.prepare(x)), form.place)
        if form.dtype is not None and isinstance(output, Tensor):
            output = output.float()
        if form.binary:
            one = output.reshape(len(x))
            tiny = torch.finfo(torch.float32).tiny
            if form.binary == "probability":
                return torch.stack([(1 - one).clamp_min(tiny).log(), one.clamp_min(tiny).log()], dim=1)
            return torch.stack([torch.zeros_like(one), one], dim=1)
        return output[None] if form.squeezed and len(x) == 1 and output.dim() == 1 else output


def scores_in(output: Any, place: int | str | None) -> Any:
    """The part of a network's answer at `place`."""
    if place is None:
        return output
    if isinstance(place, int):
        return output[place]
    return output[place] if isinstance(output, Mapping) else getattr(output, place)


def tidied_output(network: nn.Module, form: OutputForm) -> nn.Module:
    """A network that answers (N, K) float32, from one that answers in another form."""
    return _Tidied(network, form)


class _Logits(Wrapped):
    def __init__(self, network: nn.Module, exact: bool) -> None:
        super().__init__(network)
        self._exact = exact

    def forward(self, x: Tensor) -> Any:
        with _LastSoftmax() as last:
            output = self.network(x)
        if self._exact and (logits := last.logits_of(output)) is not None:
            return logits
        return output.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def logits_from_probabilities(network: nn.Module, *, exact: bool = True) -> nn.Module:
    """A network with logits, from one that answers probabilities.

    Where the answer is the direct result of a softmax and `exact`, the logits are that softmax's input, with the full
    gradient. Elsewhere they are log p, the same up to a constant per sample; but a probability that float32 rounds to 0
    or 1 has no gradient left (Carlini and Wagner, 2017, section 4), so that attacks on log p may be too weak.
    """
    return _Logits(network, exact)


def recovers_exact_logits(network: nn.Module, x: Tensor) -> bool:
    """Whether `logits_from_probabilities(network)` finds the softmax itself on input `x`."""
    with torch.no_grad(), _LastSoftmax() as last:
        output = network(x)
    logits = last.logits_of(output)
    return logits is not None and torch.allclose(logits.softmax(dim=1), output, atol=1e-6)


def contiguous_input(network: nn.Module) -> nn.Module:
    """A network that computes in torch's default memory layout, for one that calls `view` on what it is given.

    The weights' layout is changed in place too, since it decides the layout of every result; values are unchanged.
    """
    for parameter in network.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return _Contiguous(network)


def rearranged_input(network: nn.Module, change: Callable[[Tensor], Tensor], *, channels_last: bool) -> nn.Module:
    """A network that is given images (N, C, H, W) after `change`, e.g. turned, or with channels in reverse order.

    Args:
        channels_last: whether the network itself takes (N, H, W, C).
    """
    if channels_last:
        return _Rearranged(network, lambda x: change(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    return _Rearranged(network, change)


def copied_input(network: nn.Module) -> nn.Module:
    """A network that gets contiguous copies of its input, as its author fed it; its weights are not touched."""
    return _Contiguous(network)
