"""What an attack is: one function, the same for all, with its `AttackEntry` beside it.

The rules: `y` is the true label and a target class has its own argument; the result has the shape and dtype of `x` and
lies inside [0, 1] and the budget; on failure it is the strongest attempt, never the clean image; the last iterate is
evaluated; no global random state, no printing; a minimum-norm attack returns the smallest success found, which counts
only within eps. Randomness belongs to the shard: draw for all of `x`, then drop what is not `active`, so that neither
batch size nor the attacks before change a result.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.math.active_set import Best

SHARD_SIZE = 256
MARGIN_LEFT = "margin_left"

Kind = Literal["budget", "minimal"]
Knowledge = Literal["white-box", "score-based", "decision-based", "transfer", "none"]
Role = Literal["gradient", "targeted", "query"]
Setting = int | float | str | bool
Settings = Mapping[str, Any]
Limits = tuple[float, float]

STEPS: Limits = (1, 100_000)
RESTARTS: Limits = (1, 1000)
TARGETS: Limits = (1, 1000)
EOT_SAMPLES: Limits = (1, 1000)
QUERIES: Limits = (1, 10_000_000)
SMALL: Limits = (1e-6, 100.0)
"""Limits that several attacks share: lowest and highest value of a setting."""


class Attack(Protocol):
    """An attack on one shard; its settings are keywords of its own, each with a default."""

    def __call__(self, target: Target, x: Tensor, y: Tensor, /, *_: Any, **keywords: Any) -> Tensor:
        """Search for adversarial examples.

        Args:
            target: inside `attacked()`.
            x: (N, C, H, W) float32 in [0, 1].
            y: (N,) int64 true labels.
            keywords: `budget` (PerturbationBudget), norm and eps; `generator` (torch.Generator), the only source of
                randomness; `target_label` (N,) int64, the wanted class, or None: any wrong class; `active` (N,) bool,
                samples to work on, or None: all (the others are returned as they came); and the attack's settings.

        Returns:
            x_adv: (N, C, H, W) float32.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """One shard as an attack works on it; `best` holds the images, their labels and what was found so far."""

    target: Target
    budget: PerturbationBudget
    generator: torch.Generator
    best: Best

    @property
    def y(self) -> Tensor:
        """The true labels (N,)."""
        return self.best.criterion.y

    @property
    def target_label(self) -> Tensor | None:
        """The wanted classes (N,), or None."""
        return self.best.criterion.target_label


def on_shard(search: Callable[..., None]) -> Attack:
    """The `Attack` that lets `search(shard, **settings)` work, without gradients, and returns the best it found."""

    @torch.no_grad()
    @functools.wraps(search)
    def attack(
        target: Target,
        x: Tensor,
        y: Tensor,
        *,
        budget: PerturbationBudget,
        generator: torch.Generator,
        target_label: Tensor | None = None,
        active: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        best = Best.of(x, y, target_label, active)
        search(Shard(target, budget, generator, best), **settings)
        return best.x_adv

    return attack


COMMON = frozenset({"budget", "generator", "target_label", "active"})
"""The keywords of an attack that are no settings."""


class Passes(NamedTuple):
    """Forward and backward passes of one sample that an attack never breaks."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.forward + self.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsAs:
    """What an attack counts as when a suite is judged, and with which least settings.

    Attributes:
        role: `gradient`: a gradient-based attack on the cross-entropy; `targeted`: a gradient-based attack on the
            margin to each of several classes; `query`: a query-based attack.
        everywhere: setting -> the least that counts, on every sample that no attack before it broke.
        near: the same, on samples of which little of the margin is left.
        near_l1: what `near` needs in l1 besides.
    """

    role: Role
    everywhere: Mapping[str, float]
    near: Mapping[str, float]
    near_l1: Mapping[str, float] = field(default_factory=dict)


def never_iterative(settings: Settings) -> bool:
    """Of an attack that takes one step, or never looks at this network."""
    return False


def settings_of(attack: Attack) -> dict[str, Setting]:
    """Name -> default of every setting, as the signature has them."""
    keywords = inspect.signature(attack).parameters.values()
    defaults = {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY and p.name not in COMMON}
    return {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackEntry:
    """All that is known of an attack without running it.

    Attributes:
        norms: in which it has a form.
        kind: `budget`: it searches within eps; `minimal`: its result is the smallest success found, be it outside eps,
            else (where its function says nothing else) the iterate with the highest margin.
        source: paper, section, equation.
        passes: (settings, number of classes, norm) -> passes of a sample that is never broken, without a target label;
            exact where the sample is never broken, an upper bound where an attack may stop earlier. None: not known.
        limits: number setting -> lowest and highest value.
        choices: word setting -> the words that it takes.
        iterative: settings -> whether it looks at this network again after its first step.
        counts_as: its part in a reliable verdict; None: none.
        names_samples: it says of each call which samples it is about, so that queries can be counted sample by sample.
        gives_back: where it fails it may return the clean image.
        settings: name -> default, whose type is the type accepted; left out: as the signature has them.
    """

    name: str
    attack: Attack
    norms: tuple[Norm, ...]
    knowledge: Knowledge
    kind: Kind
    source: str
    passes: Callable[[Settings, int, Norm], Passes] | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    iterative: Callable[[Settings], bool] = never_iterative
    counts_as: CountsAs | None = None
    names_samples: bool = True
    gives_back: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the settings off the signature where they are not given."""
        if not self.settings:
            object.__setattr__(self, "settings", settings_of(self.attack))


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """An attack chosen by name with its settings resolved: what a suite is made of.

    Attributes:
        margin_left: work only on samples of which the attacks before left at most this fraction of the clean margin
            (and on those that none of them tried): the rest is too far from another class for the price. None: on all.
        bound: what the attack was given besides its settings: a surrogate's digest, a file.
    """

    name: str
    entry: AttackEntry
    settings: Mapping[str, Setting]
    margin_left: float | None = None
    bound: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_settings(self) -> dict[str, Setting]:
        """The attack's own settings, what it is bound to, and `margin_left` where it is given."""
        near = {} if self.margin_left is None else {MARGIN_LEFT: self.margin_left}
        return dict(self.settings) | dict(self.bound) | near

    @property
    def iterative(self) -> bool:
        """Whether it looks at this network again after its first step."""
        return self.entry.iterative(self.settings)

    @property
    def text(self) -> str:
        """As it is written on the command line, e.g. `pgd:steps=40:restarts=1`; part of the name of its randomness."""
        return ":".join([self.name, *(f"{key}={value}" for key, value in sorted(self.all_settings.items()))])

    def __str__(self) -> str:
        """`text`: of a plan that is bound to nothing it reads back to the same plan."""
        return self.text

    @property
    def short_text(self) -> str:
        """`text` without the settings that are the attack's defaults, for reading."""
        defaults = self.entry.settings
        changed = {key: value for key, value in self.all_settings.items() if defaults.get(key) != value}
        return ":".join([self.name, *(f"{key}={value}" for key, value in sorted(changed.items()))])


Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """The callback for callers that show none."""
