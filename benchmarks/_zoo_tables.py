"""What is in zoo A, on which thresholds were chosen, in zoos B to E, each run once, and in F, not run yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from _package import FAST, Norm
from _zoo_defences import (
    Decoy,
    Detached,
    NanGradient,
    Noisy,
    Purified,
    Quantised,
    RandomResize,
    Routed,
    Scaled,
    Shattered,
    Thermometer,
)
from _zoo_networks import Recipe
from torch import nn

Wrap = Callable[[nn.Module], nn.Module]
SUITE = "fast"
LONG = "apgd-ce:restarts=5,odi-pgd:restarts=100,apgd-t:restarts=5:steps=200,square:query_budget=20000"
"""Beyond `fast` and AutoAttack."""
EOT = ",".join(f"{name}:eot_samples=10" if name.startswith("apgd") else name for name in FAST["linf"].split(","))


def in_norm(norm: Norm) -> str:
    """The norm in a row's name; those in linf keep the names that they always had."""
    return "" if norm == "linf" else f"{norm}-"


def bare(network: nn.Module) -> nn.Module:
    return network


@dataclass(frozen=True, kw_only=True)
class Honest:
    """A network without tricks, and the budget it is judged at."""

    recipe: Recipe
    eps: float
    norm: Norm = "linf"

    @property
    def name(self) -> str:
        return f"{self.recipe.name}@{in_norm(self.norm)}{self.eps:g}"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A broken defence.

    Attributes:
        wrap: the network as it is shown.
        adapted: the network as an adaptive attacker sees it; its examples are scored on the one that is shown.
        expected: checks of which at least one must fail.
        transfer: scored on examples of another network instead of attacked.
        wanted: `recipe`'s first network by training seed of which this is true: `masked` or `overfitted`.
        router: of a routed network, whose expert is `recipe`'s.
        random: it draws at every call, so that the adaptive attack is made on the defence itself and, as the naive one,
            counts the worst of its members' draws.
    """

    kind: str
    recipe: Recipe
    eps: float
    expected: frozenset[str]
    wrap: Wrap = bare
    adapted: Wrap = bare
    transfer: bool = False
    wanted: str = ""
    router: Recipe | None = None
    random: bool = False
    adaptive: str = SUITE
    norm: Norm = "linf"

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.recipe.name}@{in_norm(self.norm)}{self.eps:g}"


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A set of models."""

    honest: tuple[Honest, ...]
    planted: tuple[Planted, ...] = field(default=())


def _honest(seed: int, arches: tuple[str, str, str, str], scale: float) -> tuple[Honest, ...]:
    """Ten networks of four architectures; `scale` makes the eps that they are trained at differ from set to set."""
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


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """How strong a zoo's planted defences are."""

    arch: str
    eps: float
    levels: int
    channels: int
    smallest_side: int
    sigma: float
    saturation: float
    temperature: float
    frequency: float
    height: float
    purifying_steps: int
    fgsm_eps: float
    fgsm_rs_eps: float


def _planted(seed: int, s: Strengths) -> tuple[Planted, ...]:
    """Sixteen kinds."""
    base = Recipe(arch=s.arch, seed=seed)
    encoding = Thermometer(nn.Identity(), s.channels).prepare
    coded = Recipe(arch=f"strided-{s.channels}-channels", seed=seed, prepare=encoding)
    resized = Recipe(arch=s.arch, seed=seed, prepare=RandomResize(nn.Identity(), s.smallest_side).prepare, epochs=4)
    expert = Recipe(arch="report1-cnn", method="pgd", eps=0.2, seed=seed, epochs=3)
    one_step = Recipe(arch=s.arch, method="fgsm", eps=s.fgsm_eps, seed=seed, epochs=4, images=24_000)
    overfitted = replace(one_step, method="fgsm-rs-long", eps=s.fgsm_rs_eps)
    paper = Recipe(arch="strided", method="fgsm-rs", eps=0.3, seed=seed, epochs=10, images=54_000)
    blind = frozenset({"zero-gradients", "step-function"})
    random, saturated = frozenset({"random-without-eot"}), frozenset({"saturated-loss"})
    one_step_checks = frozenset({"one-step-overfitting", "label-leaking"})
    masking = frozenset({"black-box-beats-white-box", "longer-attack", "gradient-matches-change", "pgd-falls-short"})

    def plant(kind: str, expected: frozenset[str], wrap: Wrap = bare, adapted: Wrap = bare, **more: object) -> Planted:
        values = {"recipe": base, "eps": s.eps, **more}
        return Planted(kind=kind, expected=expected, wrap=wrap, adapted=adapted, **values)  # type: ignore[arg-type]

    return (
        plant("quantised", blind, lambda n: Quantised(n, s.levels), lambda n: Quantised(n, s.levels, straight=True)),
        plant(
            "thermometer",
            blind,
            lambda n: Thermometer(n, s.channels),
            lambda n: Thermometer(n, s.channels, soft=True),
            recipe=coded,
        ),
        plant("saturated", saturated, lambda n: Scaled(n, s.saturation)),
        plant("distillation-scaled", saturated, lambda n: Scaled(n, s.temperature)),
        plant(
            "shattered",
            frozenset({"gradient-matches-change"}),
            lambda n: Shattered(n, seed, s.frequency, s.height),
        ),
        plant("noise", random, lambda n: Noisy(n, s.sigma), lambda n: Noisy(n, s.sigma), random=True, adaptive=EOT),
        plant(
            "random-resize",
            random,
            lambda n: RandomResize(n, s.smallest_side),
            lambda n: RandomResize(n, s.smallest_side),
            recipe=resized,
            random=True,
            adaptive=EOT,
        ),
        plant("detached", frozenset({"zero-gradients"}), Detached),
        plant("nan-gradient", frozenset({"zero-gradients"}), NanGradient),
        plant("decoy-gradient", frozenset({"gradient-matches-change"}), lambda n: Decoy(n, seed)),
        plant("purified", frozenset({"optimises-inside"}), lambda n: Purified(n, s.purifying_steps)),
        plant("label-leaking", one_step_checks, recipe=one_step, eps=s.fgsm_eps, wanted="overfitted", adaptive=LONG),
        plant(
            "fgsm-rs-overfitted",
            masking | one_step_checks,
            recipe=overfitted,
            eps=s.fgsm_rs_eps,
            wanted="overfitted",
            adaptive=LONG,
        ),
        plant("fgsm-rs-masked", masking | one_step_checks, recipe=paper, eps=0.3, wanted="masked", adaptive=LONG),
        plant(
            "routed",
            frozenset({"transfer-beats-suite"}),
            adapted=lambda n: Routed(n.router, n.expert, soft=True),  # type: ignore[arg-type]
            recipe=expert,
            router=base,
            eps=0.1,
        ),
        plant("transfer-scored", frozenset({"made-for-another-network"}), transfer=True),
    )


STRENGTHS = {
    "A": Strengths(
        arch="strided", eps=0.1, levels=7, channels=8, smallest_side=24, sigma=0.1, saturation=1e4, temperature=100.0,
        frequency=2000.0, height=0.01, purifying_steps=3, fgsm_eps=0.3, fgsm_rs_eps=0.3,
    ),
    "B": Strengths(
        arch="strided-24", eps=0.15, levels=11, channels=12, smallest_side=22, sigma=0.2, saturation=1e6,
        temperature=50.0, frequency=3000.0, height=0.02, purifying_steps=5, fgsm_eps=0.2, fgsm_rs_eps=0.35,
    ),
    "C": Strengths(
        arch="strided-32", eps=0.12, levels=9, channels=10, smallest_side=23, sigma=0.15, saturation=1e5,
        temperature=70.0, frequency=2500.0, height=0.015, purifying_steps=4, fgsm_eps=0.25, fgsm_rs_eps=0.32,
    ),
    "D": Strengths(
        arch="strided-28", eps=0.13, levels=8, channels=9, smallest_side=21, sigma=0.12, saturation=3e5,
        temperature=80.0, frequency=2200.0, height=0.012, purifying_steps=6, fgsm_eps=0.28, fgsm_rs_eps=0.31,
    ),
    "E": Strengths(
        arch="strided-20", eps=0.14, levels=10, channels=11, smallest_side=20, sigma=0.18, saturation=5e5,
        temperature=60.0, frequency=2700.0, height=0.018, purifying_steps=2, fgsm_eps=0.22, fgsm_rs_eps=0.33,
    ),
}  # fmt: skip


def _elsewhere(seed: int) -> Zoo:
    """Other norms, colour, 3 and 100 classes: honest networks, and three defences that are blind on each of them."""
    kinds: tuple[tuple[str, str, dict[Norm, float]], ...] = (
        ("strided", "mnist", {"l2": 1.0, "l1": 8.0}),
        ("strided-tinted", "tinted", {"linf": 0.08, "l2": 1.0, "l1": 8.0}),
        ("strided-few", "few", {"linf": 0.12, "l2": 1.5}),
        ("strided-pairs", "pairs", {"linf": 0.06, "l2": 0.8}),
    )
    blind, saturated = frozenset({"zero-gradients", "step-function"}), frozenset({"saturated-loss"})
    honest, planted = [], []
    for number, (arch, data, budgets) in enumerate(kinds):
        plain = Recipe(arch=arch, seed=seed + number, data=data, epochs=4 if data == "pairs" else 2)
        trained = replace(plain, method="pgd", eps=0.1, epochs=4)
        for norm, eps in budgets.items():
            honest += [Honest(recipe=recipe, eps=eps, norm=norm) for recipe in (plain, trained)]
            planted += [
                Planted(kind="quantised", recipe=plain, eps=eps, norm=norm, expected=blind,
                        wrap=lambda n: Quantised(n, 9), adapted=lambda n: Quantised(n, 9, straight=True)),
                Planted(kind="saturated", recipe=plain, eps=eps, norm=norm, expected=saturated,
                        wrap=lambda n: Scaled(n, 2e5)),
                Planted(kind="detached", recipe=plain, eps=eps, norm=norm, expected=frozenset({"zero-gradients"}),
                        wrap=Detached),
            ]  # fmt: skip
    return Zoo(honest=tuple(honest), planted=tuple(planted))


LEFT_OUT_OF_D = {
    *("distillation-scaled", "noise", "random-resize", "detached", "nan-gradient", "transfer-scored"),
    *("fgsm-rs-overfitted", "fgsm-rs-masked"),
}
"""The first are flagged by checks that no attack of the suite has a part in, and D was run for what changed in the
suite. The last two train up to twenty networks each, and there was no time."""

ZOOS = {
    "A": Zoo(
        honest=_honest(100, ("report1-cnn", "report2-cnn", "strided", "mlp"), 1.0),
        planted=_planted(100, STRENGTHS["A"]),
    ),
    "B": Zoo(
        honest=_honest(2000, ("report1-cnn", "report2-cnn", "strided-24", "mlp"), 0.9),
        planted=_planted(2000, STRENGTHS["B"]),
    ),
    "C": Zoo(
        honest=_honest(4000, ("report1-cnn", "report2-cnn", "strided-32", "mlp"), 1.1),
        planted=_planted(4000, STRENGTHS["C"]),
    ),
    "D": Zoo(
        honest=_honest(6000, ("report1-cnn", "report2-cnn", "strided-28", "mlp"), 0.95),
        planted=tuple(model for model in _planted(6000, STRENGTHS["D"]) if model.kind not in LEFT_OUT_OF_D),
    ),
    "E": Zoo(
        honest=_honest(8000, ("report1-cnn", "report2-cnn", "strided-20", "mlp"), 1.05),
        planted=_planted(8000, STRENGTHS["E"]),
    ),
    "F": _elsewhere(10_000),
}
