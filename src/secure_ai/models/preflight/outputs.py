"""In which form a network answers: what people's modules return besides a float32 tensor (N, K)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from secure_ai.core.errors import TargetError
from secure_ai.models.preflight.calls import guarded, rebuilt
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.wrappers import OutputForm, scores_in, tidied_output

NAMES = ("logits", "scores", "output", "out")
"""Keys and attributes that scores stand under, in this order; else a dict's only tensor, and a tuple's first."""

Call = Callable[[NetworkTarget, Tensor], Any]


def tidied(target: NetworkTarget, call: Call, x: Tensor, y: Tensor) -> tuple[NetworkTarget, tuple[str, ...]]:
    """The target as one that answers (N, K) float32 where that needs no choice, and what was done.

    Args:
        call: the network on images, without any check of what it answers.
        x, y: samples: (N, C, H, W) float32, (N,) int64.

    Raises:
        TargetError: the network raises an error.
    """
    if target.access != "gradients":
        return target, ()
    dtype = _dtype(target)
    form, told = OutputForm(dtype=dtype), []
    if dtype is not None:
        told.append(f"the network computes in {str(dtype).removeprefix('torch.')}: it gets the pixels so")
    network = target.network if dtype is None else tidied_output(target.network, form)
    answer = guarded(rebuilt(target, network=network), lambda t: call(t, x))
    form = replace(form, place=_place(answer, len(x)))
    if form.place is not None:
        told.append(f"the network answers a {type(answer).__name__}; its {form.place!r} is used as scores")
    output = scores_in(answer, form.place)
    if _is_binary(output, target, x, y):
        probability = bool(((output >= 0) & (output <= 1)).all())
        form = replace(form, binary="probability" if probability else "score")
        what = "probability" if probability else "score"
        told.append(f"the network answers one number an image: it is taken as the {what} of class 1")
    elif isinstance(output, Tensor) and output.dim() == 2 and len(x) > 1:
        with contextlib.suppress(TargetError):  # a batch of one may be refused: that is another check
            alone = guarded(rebuilt(target, network=network), lambda t: scores_in(call(t, x[:1]), form.place))
            if isinstance(alone, Tensor) and alone.shape == output.shape[1:]:
                form = replace(form, squeezed=True)
                told.append("one image is answered without its axis of images, which is put back")
    if form == OutputForm():
        return target, ()
    return rebuilt(target, network=tidied_output(target.network, form)), tuple(told)


def _dtype(target: NetworkTarget) -> torch.dtype | None:
    """The float type that the network's weights have, where it is not float32."""
    types = {p.dtype for p in target.network.parameters() if p.is_floating_point()}
    return types.pop() if len(types) == 1 and torch.float32 not in types else None


def _place(answer: Any, n: int) -> int | str | None:
    """Where the scores stand in an answer that is no tensor."""
    if isinstance(answer, Tensor):
        return None
    for name in NAMES:
        held = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if isinstance(held, Tensor):
            return name
    if isinstance(answer, Mapping):
        tensors = [key for key, held in answer.items() if isinstance(held, Tensor) and len(held) == n]
        return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], str) else None
    if isinstance(answer, tuple | list) and answer and isinstance(answer[0], Tensor):
        return 0
    return None


def _is_binary(output: Any, target: NetworkTarget, x: Tensor, y: Tensor) -> bool:
    """One floating-point number an image, and labels 0 and 1."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or target.num_classes > 2 or int(y.max()) > 1:
        return False
    return output.shape in ((len(x), 1), (len(x),)) and bool(torch.isfinite(output).all())
