"""What is in zoo A, on which thresholds were chosen, and in zoo B, which is run once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from _zoo_defences import (
    Decoy,
    Detached,
    NanGradient,
    Noisy,
    Purified,
    Quantised,
    RandomResize,
    Scaled,
    Shattered,
    Thermometer,
)
from _zoo_networks import Recipe
from torch import nn

Wrap = Callable[[nn.Module], nn.Module]
EOT = "apgd-ce:steps=50:eot_samples=10,apgd-t:steps=20:targets=3:eot_samples=10"


def bare(network: nn.Module) -> nn.Module:
    return network


@dataclass(frozen=True, kw_only=True)
class Honest:
    """A network without tricks, and the budget it is judged at."""

    recipe: Recipe
    eps: float

    @property
    def name(self) -> str:
        return f"{self.recipe.name}@{self.eps:g}"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A broken defence.

    Attributes:
        wrap: the network as it is shown.
        adapted: the network as an adaptive attacker sees it; its examples are scored on the one that is shown.
        expected: checks of which at least one must fail.
        transfer: scored on examples of another network instead of attacked.
        adaptive: the attack list of the adaptive attacker; empty: the zoo's own.
    """

    kind: str
    recipe: Recipe
    eps: float
    expected: frozenset[str]
    wrap: Wrap = bare
    adapted: Wrap = bare
    transfer: bool = False
    adaptive: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.recipe.name}@{self.eps:g}"


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A set of models."""

    honest: tuple[Honest, ...]
    planted: tuple[Planted, ...] = field(default=())


def _honest(seed: int, arches: tuple[str, str, str, str], scale: float) -> tuple[Honest, ...]:
    """Ten networks of four architectures; `scale` makes every eps of the two sets differ."""
    first, second, third, fourth = arches
    few: dict[str, Any] = {"images": 6000}
    return tuple(
        Honest(
            recipe=Recipe(arch=arch, method=method, eps=round(scale * eps, 3), seed=seed + number, **more), eps=judged
        )
        for number, (arch, method, eps, judged, more) in enumerate(
            (
                (first, "natural", 0.0, 0.1, {}),
                (second, "natural", 0.0, 0.05, few | {"epochs": 1}),
                (third, "natural", 0.0, 0.1, {}),
                (third, "natural", 0.0, 0.3, {"epochs": 6}),
                (fourth, "natural", 0.0, 0.05, {}),
                (fourth, "pgd", 0.1, 0.1, {"epochs": 4}),
                (third, "pgd", 0.1, 0.1, {"epochs": 3}),
                (third, "pgd", 0.2, 0.2, {"epochs": 4}),
                (third, "pgd", 0.3, 0.3, {"epochs": 6}),
                (first, "pgd", 0.2, 0.2, few | {"epochs": 2}),
            )
        )
    )


def _planted(seed: int, strong: bool) -> tuple[Planted, ...]:
    """Fourteen kinds; `strong` takes other strengths."""
    arch = "strided-24" if strong else "strided"
    base = Recipe(arch=arch, seed=seed)
    levels, channels = (11, 12) if strong else (7, 8)
    encoding = Thermometer(nn.Identity(), channels).prepare
    coded = Recipe(arch=f"strided-{channels}-channels", seed=seed, prepare=encoding)
    smallest, sigma = (22, 0.2) if strong else (24, 0.1)
    resized = Recipe(arch=arch, seed=seed, prepare=RandomResize(nn.Identity(), smallest).prepare, epochs=4)
    eps = 0.15 if strong else 0.1
    blind = frozenset({"zero-gradients", "step-function"})
    random, saturated = frozenset({"random-without-eot"}), frozenset({"saturated-loss"})
    one_step = frozenset({"one-step-overfitting", "label-leaking"})
    masked = frozenset({"black-box-beats-white-box", "longer-attack", "gradient-matches-change"})

    def plant(kind: str, expected: frozenset[str], wrap: Wrap, adapted: Wrap = bare, **more: object) -> Planted:
        values = {"recipe": base, "eps": eps, **more}
        return Planted(kind=kind, expected=expected, wrap=wrap, adapted=adapted, **values)  # type: ignore[arg-type]

    return (
        plant("quantised", blind, lambda n: Quantised(n, levels), lambda n: Quantised(n, levels, straight=True)),
        plant(
            "thermometer",
            blind,
            lambda n: Thermometer(n, channels),
            lambda n: Thermometer(n, channels, soft=True),
            recipe=coded,
        ),
        plant("saturated", saturated, lambda n: Scaled(n, 1e6 if strong else 1e4)),
        plant("distillation-scaled", saturated, lambda n: Scaled(n, 50.0 if strong else 100.0)),
        plant(
            "shattered",
            frozenset({"gradient-matches-change"}),
            lambda n: Shattered(n, seed, *((3000.0, 0.02) if strong else (2000.0, 0.01))),
        ),
        plant("noise", random, lambda n: Noisy(n, sigma), lambda n: Noisy(n, sigma), adaptive=EOT),
        plant(
            "random-resize",
            random,
            lambda n: RandomResize(n, smallest),
            lambda n: RandomResize(n, smallest),
            recipe=resized,
            adaptive=EOT,
        ),
        plant("detached", frozenset({"zero-gradients"}), Detached),
        plant("nan-gradient", frozenset({"zero-gradients"}), NanGradient),
        plant("decoy-gradient", frozenset({"gradient-matches-change"}), lambda n: Decoy(n, seed)),
        plant("purified", frozenset({"optimises-inside"}), lambda n: Purified(n, 5 if strong else 3)),
        plant(
            "label-leaking",
            one_step,
            bare,
            recipe=Recipe(arch=arch, method="fgsm", eps=0.2 if strong else 0.3, seed=seed, epochs=4, images=24_000),
            eps=0.2 if strong else 0.3,
        ),
        plant(
            "fgsm-rs-overfitted",
            masked | one_step,
            bare,
            recipe=Recipe(arch=arch, method="fgsm-rs", eps=0.35 if strong else 0.3, seed=seed, epochs=4, images=24_000),
            eps=0.35 if strong else 0.3,
        ),
        plant("transfer-scored", frozenset({"made-for-another-network"}), bare, transfer=True),
    )


ZOOS = {
    "A": Zoo(
        honest=_honest(100, ("report1-cnn", "report2-cnn", "strided", "mlp"), 1.0),
        planted=_planted(100, strong=False),
    ),
    "B": Zoo(
        honest=_honest(2000, ("report1-cnn", "report2-cnn", "strided-24", "mlp"), 0.9),
        planted=_planted(2000, strong=True),
    ),
}
