"""One attack by itself on tensors of the caller's: what `secure_ai.attacks` calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.errors import (
    EmptyDataError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    ShapeError,
    UsageError,
)
from secure_ai.core.seeds import derive_seed, generator, seed_networks
from secure_ai.models.target.target import NetworkTarget, as_target
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import labels_to_tensor
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan
from secure_ai.red.evasion.suite.borrowed import bind_borrowed
from secure_ai.red.evasion.suite.parse import Suite, parse_attacks
from secure_ai.red.evasion.suite.verify import verify

Model = Callable[[Any], Any]
MAX_SEED = 2**63


def run_single(
    name: str,
    net: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    eps: float | str,
    seed: int,
    target_label: int | Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    surrogate: Model | None = None,
    **settings: Any,
) -> Tensor:
    """Adversarial examples of one attack, found as a suite finds them: same shards, same randomness, same checks.

    Args:
        name: as in the catalogue.
        net: from images to logits (N, K).
        x: (N, C, H, W) floating point in [0, 1].
        y: (N,) integers, the true labels.
        target_label: the class to be reached, one for all or (N,); None: any wrong class.
        mean, std: per channel, of the normalisation that `net` expects; empty: none.
        surrogate: the network that `transfer` makes its examples on, fed as `net` is.
        settings: the attack's own.

    Returns:
        (N, C, H, W) on the device and in the dtype of `x`. A minimum-norm attack returns the smallest change that it
        found, also where that is larger than eps.

    Raises:
        SecureAIError: images, labels, budget or settings that cannot be used, or a model that raises an error.
    """
    pixels = _checked_images(x)
    budget = parse_budget(norm, eps, pixels[0].numel())
    plans = parse_attacks(":".join([name, *(f"{key}={value}" for key, value in settings.items())]))
    if not 0 <= seed < MAX_SEED:
        raise UsageError("bad seed", where="seed", expected="0 to 2**63 - 1", got=seed)
    transform = _transform(mean, std, int(x.shape[1]))
    if surrogate is not None:
        plans = bind_borrowed(plans, network=as_target(surrogate, pixels, transform=transform))
    target = as_target(net, pixels, transform=transform)
    suite = Suite(plans=plans, norm=budget.norm, access=target.access, n=len(x), classes=target.num_classes)
    labels = _checked_labels(y, len(x), target.num_classes, "y")
    wanted = target_label
    if isinstance(wanted, int):
        wanted = torch.full_like(labels, wanted)
    aimed = None if wanted is None else _checked_labels(wanted, len(x), target.num_classes, "target_label")
    found = _search(target, suite.plans[0], pixels, labels, aimed, budget, seed)
    return found.to(device=x.device, dtype=x.dtype)


def _search(
    target: NetworkTarget,
    plan: AttackPlan,
    x: Tensor,
    y: Tensor,
    aimed: Tensor | None,
    budget: PerturbationBudget,
    seed: int,
) -> Tensor:
    """Shard by shard, so that the number of images changes nothing about the first ones."""
    found = []
    device = target.device
    with target.attacked(by_value=False):
        for first in range(0, len(x), SHARD_SIZE):
            part = slice(first, first + SHARD_SIZE)
            seed_networks(derive_seed(seed, plan.text, first, "network"), device)
            x_adv = plan.entry.attack(
                target,
                x[part].to(device, copy=True),
                y[part].to(device, copy=True),
                budget=budget,
                generator=generator(seed, plan.text, first),
                target_label=None if aimed is None else aimed[part].to(device),
                **plan.settings,
            ).cpu()
            rows = torch.arange(len(x_adv), device="cpu")
            verify(x_adv, x[part], attack=plan.text, budget=budget, kind=plan.entry.kind, rows=rows, first=first)
            found.append(x_adv.detach())
    return torch.cat(found)


def _checked_images(x: Any) -> Tensor:
    """`x` as float32 on the CPU, without its graph."""
    if not isinstance(x, Tensor):
        hint = "torch.from_numpy(x)" if hasattr(x, "__array__") else ""
        raise ShapeError("not a tensor", where="x", expected="a tensor (N, C, H, W)", got=type(x).__name__, hint=hint)
    if x.dim() != 4:
        raise ShapeError("images need four dimensions", where="x", expected="(N, C, H, W)", got=tuple(x.shape))
    if not x.numel():
        raise EmptyDataError("no images", where="x", expected="at least one", got=tuple(x.shape))
    if not x.is_floating_point():
        hint = "x.float() / 255" if x.dtype == torch.uint8 else ""
        raise PixelRangeError("pixels are not floating point", where="x", expected="floats in [0, 1]", got=x.dtype,
                              hint=hint)  # fmt: skip
    pixels = x.detach().to("cpu", torch.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if not bool(torch.isfinite(pixels).all()):
        raise NonFiniteError("pixels hold NaN or infinity", where="x", expected="finite numbers in [0, 1]")
    if low < 0 or high > 1:
        hint = (
            "x / 255" if low >= 0 and high <= 255 else "give pixels in [0, 1], and mean= and std= of the normalisation"
        )
        got = f"{low:g} to {high:g}"
        raise PixelRangeError("pixels outside [0, 1]", where="x", expected="0 to 1", got=got, hint=hint)
    return pixels


def _checked_labels(y: Tensor, n: int, classes: int, where: str) -> Tensor:
    """(N,) int64 on the CPU, each a class of the model."""
    labels = labels_to_tensor(torch.as_tensor(y, device="cpu"))
    if len(labels) != n:
        raise PairCountError("images and labels differ in number", where=where, expected=n, got=len(labels))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise LabelError("a label is no class of the model", where=where, expected=f"0 to {classes - 1}",
                         got=low if low < 0 else high)  # fmt: skip
    return labels


def _transform(mean: Sequence[float], std: Sequence[float], channels: int) -> InputTransform:
    for where, values in (("mean", mean), ("std", std)):
        if len(values) not in {0, 1, channels}:
            raise UsageError(f"an unusable {where}", where=where, expected=f"1 or {channels} numbers", got=list(values))
    if any(value <= 0 for value in std):
        raise UsageError("not a standard deviation", where="std", expected="above 0", got=list(std))
    return InputTransform(mean=tuple(mean), std=tuple(std))
