"""Bookkeeping of an attack in progress: which samples are still worked on, what counts as success, what was found.

Samples that are done leave by moving the last ones into their places: nothing else is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from secure_ai.red.evasion.math.losses import margin

ROUNDING = 2e-6  # of the largest logit: what the order of summation changes in float32


def active_rows(y: Tensor, active: Tensor | None) -> Tensor:
    """Indices (R,) of the samples to work on; all where `active` is None."""
    return torch.arange(len(y)) if active is None else active.nonzero().squeeze(1)


def per_sample(values: Tensor) -> Tensor:
    """(R,) as (R, 1, 1, 1), to combine with images."""
    return values.view(-1, 1, 1, 1)


def where_rows(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Image by image `yes` where `chosen` (R,) bool, else `no`."""
    return torch.where(per_sample(chosen), yes, no)


def keep_rows(state: Any, alive: Tensor) -> None:
    """Drop the rows that are not `alive` (R,) bool from every tensor of a dataclass, in place; the order may change.

    Every field is a tensor with R rows that the state owns, or None.
    """
    remaining = int(alive.sum())
    if remaining == len(alive):
        return
    holes = (~alive[:remaining]).nonzero().squeeze(1)
    movers = alive[remaining:].nonzero().squeeze(1) + remaining
    for field in fields(state):
        value: Tensor | None = getattr(state, field.name)
        if value is not None:
            value[holes] = value[movers]
            setattr(state, field.name, value[:remaining])


@dataclass(frozen=True, slots=True)
class Goal:
    """What an attack is after: any class but `y` (N,), or `target_label` (N,) where that is given."""

    y: Tensor
    target_label: Tensor | None = None

    def at(self, rows: Tensor) -> Goal:
        """The goal of these samples."""
        return Goal(self.y[rows], None if self.target_label is None else self.target_label[rows])

    def met(self, logits: Tensor) -> Tensor:
        """(R,) bool from logits (R, K), by the predicted class: a tie is won by the lower class, as in a prediction."""
        return self.met_by(logits.argmax(dim=1))

    def surely_met(self, logits: Tensor, strength: Tensor | None = None) -> Tensor:
        """The same by more than rounding, (R,): what ends a search. `strength` (R,) of these logits, where it is known.

        Minimum-norm attacks end on the boundary itself, where another batch size may round a prediction the other way.
        """
        strength = self.strength(logits) if strength is None else strength
        return strength > ROUNDING * logits.abs().amax(dim=1)

    def met_by(self, predicted: Tensor) -> Tensor:
        """(R,) bool from predicted classes (R,)."""
        return predicted != self.y if self.target_label is None else predicted == self.target_label

    def strength(self, logits: Tensor) -> Tensor:
        """How near the goal is, (R,): the logit margin, above 0 when it is met."""
        return margin(logits, self.y) if self.target_label is None else -margin(logits, self.target_label)


@dataclass(slots=True, kw_only=True)
class UnderWay:
    """The samples an attack still works on, R rows; what it keeps of each beside these are a subclass's fields.

    Every tensor must be its own, as `x[rows]` is and `x` is not: `keep_rows` moves rows in place.

    Attributes:
        row: index in the shard.
        x: the clean images.
        target_label: None unless the goal is one class.
    """

    row: Tensor
    x: Tensor
    y: Tensor
    target_label: Tensor | None

    @property
    def goal(self) -> Goal:
        """Of these samples."""
        return Goal(self.y, self.target_label)


@dataclass(slots=True)
class Record:
    """The best result of every sample so far: the nearest success, else the strongest attempt.

    Attributes:
        x_adv: (N, C, H, W).
        distance: (N,) of the nearest success, infinite where there is none.
        strength: (N,) of the strongest attempt.
    """

    x_adv: Tensor
    distance: Tensor
    strength: Tensor

    @classmethod
    def empty(cls, x: Tensor) -> Record:
        """Nothing found yet for the samples `x`, which are copied."""
        return cls(x.clone(), x.new_full((len(x),), torch.inf), x.new_full((len(x),), -torch.inf))

    def offer(self, rows: Tensor, x_adv: Tensor, *, met: Tensor, distance: Tensor, strength: Tensor) -> Tensor:
        """Take what is better than before; all arguments have R rows.

        Returns:
            (R,) bool: a success nearer than all before.
        """
        before = self.distance[rows]
        closer = met & (distance < before)
        stronger = ~met & torch.isinf(before) & (strength > self.strength[rows])
        self.distance[rows[closer]] = distance[closer]
        self.strength[rows[stronger]] = strength[stronger]
        taken = closer | stronger
        self.x_adv[rows[taken]] = x_adv[taken]
        return closer

    def take_success(self, rows: Tensor, x_adv: Tensor) -> None:
        """Successes of an attack that does not look for the nearest one."""
        self.x_adv[rows] = x_adv
        self.distance[rows] = 0.0
