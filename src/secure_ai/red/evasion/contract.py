"""What an attack is: one function, the same for all.

The rules: `y` is the true label and a target class has its own argument; the result has the shape and dtype of `x` and
lies inside [0, 1] and the budget; on failure it is the strongest attempt, never the clean image; the last iterate is
evaluated; no global random state, no printing; a minimum-norm attack returns the smallest success found, which counts
only within eps. Randomness belongs to the shard: draw for all of `x`, then drop what is not `active`, so that neither
batch size nor the attacks before change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.models.target.target import Target

SHARD_SIZE = 256
MARGIN_LEFT = "margin_left"

Kind = Literal["budget", "minimal"]
Knowledge = Literal["white-box", "score-based", "decision-based", "transfer", "none"]
Setting = int | float | str | bool


class Attack(Protocol):
    """An attack on one shard."""

    def __call__(
        self,
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
        """Search for adversarial examples.

        Args:
            target: inside `attacked()`.
            x: (N, C, H, W) float32 in [0, 1].
            y: (N,) int64 true labels.
            budget: norm and eps.
            generator: the only source of randomness.
            target_label: (N,) int64 wanted class; None: any wrong class.
            active: (N,) bool; samples to work on (default all). The others are returned as they came.
            settings: the attack's own, as its catalogue entry lists them.

        Returns:
            x_adv: (N, C, H, W) float32.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackEntry:
    """A row of the catalogue.

    Attributes:
        settings: name -> default; the type of the default is the type accepted.
        limits: name -> (lowest, highest) for numbers.
        source: paper, section, equation.
        tells_rows: it says of each call which samples it is about, so that queries can be counted sample by sample.
    """

    attack: Attack
    norms: tuple[Norm, ...]
    knowledge: Knowledge
    kind: Kind
    source: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tells_rows: bool = True


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """An attack chosen by name with its settings resolved: what a suite is made of.

    Attributes:
        margin_left: work only on samples of which the attacks before left at most this share of the clean margin
            (and on those that none of them tried): the rest is too far from the goal for the price. None: on all.
    """

    name: str
    entry: AttackEntry
    settings: Mapping[str, Setting]
    margin_left: float | None = None

    @property
    def all_settings(self) -> dict[str, Setting]:
        """The attack's own settings, and `margin_left` where it is given."""
        return dict(self.settings) | ({} if self.margin_left is None else {MARGIN_LEFT: self.margin_left})

    @property
    def text(self) -> str:
        """As it is written on the command line, e.g. `pgd:steps=40:restarts=1`."""
        return ":".join([self.name, *(f"{key}={value}" for key, value in sorted(self.all_settings.items()))])

    @property
    def short_text(self) -> str:
        """`text` without the settings that are the attack's defaults, for reading."""
        defaults = self.entry.settings
        changed = {key: value for key, value in self.all_settings.items() if defaults.get(key) != value}
        return ":".join([self.name, *(f"{key}={value}" for key, value in sorted(changed.items()))])


Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """The callback for callers that show none."""
