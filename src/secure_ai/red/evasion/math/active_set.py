"""What every attack keeps track of: which samples it still works on, what counts as success, the best it has found.

An attack takes `samples = best.samples()` of its shard (or, at a restart, `best.unbroken()`), offers what it finds with
`best.offer` or `best.offer_nearest`, and drops samples that are done with `keep_samples`; its result is `best.x_adv`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.math.losses import margin
from secure_ai.red.evasion.math.projections import distance

ROUNDING = 2e-6  # of the largest logit: what the order of summation changes in float32


def per_sample(values: Tensor) -> Tensor:
    """(R,) as (R, 1, 1, 1), to combine with images."""
    return values.view(-1, 1, 1, 1)


def where_samples(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Image by image `yes` where `chosen` (R,) bool, else `no`."""
    return torch.where(per_sample(chosen), yes, no)


def keep_samples(keep: Tensor, *states: Any) -> None:
    """Drop samples that are not in `keep` (R,) bool from all tensors of dataclasses, in place; the order may change.

    The last samples move into the places of those dropped: nothing else is copied. Every field is None or a tensor with
    R samples that the state owns, as `x[index]` is and `x` is not.
    """
    remaining = int(keep.sum())
    if remaining == len(keep):
        return
    holes = (~keep[:remaining]).nonzero().squeeze(1)
    movers = keep[remaining:].nonzero().squeeze(1) + remaining
    for state in states:
        for field in fields(state):
            value: Tensor | None = getattr(state, field.name)
            if value is not None:
                value[holes] = value[movers]
                setattr(state, field.name, value[:remaining])


@dataclass(frozen=True, slots=True)
class Criterion:
    """When an image is adversarial: predicted as any class but `y` (N,), or as `target_label` (N,) if that is given."""

    y: Tensor
    target_label: Tensor | None = None

    def at(self, index: Tensor) -> Criterion:
        """The criterion of these samples."""
        return Criterion(self.y[index], None if self.target_label is None else self.target_label[index])

    def is_adversarial(self, logits: Tensor) -> Tensor:
        """(R,) bool from logits (R, K), by the predicted class: a tie is won by the lower class, as in a prediction."""
        return self.is_adversarial_label(logits.argmax(dim=1))

    def is_adversarial_label(self, predicted: Tensor) -> Tensor:
        """(R,) bool from predicted classes (R,)."""
        return predicted != self.y if self.target_label is None else predicted == self.target_label

    def is_clearly_adversarial(self, logits: Tensor, margin: Tensor | None = None) -> Tensor:
        """The same by more than rounding, (R,): what ends a search. `margin` (R,) of these logits, where it is known.

        Minimum-norm attacks end on the boundary itself, where another batch size may round a prediction the other way.
        """
        margin = self.margin(logits) if margin is None else margin
        return margin > ROUNDING * logits.abs().amax(dim=1)

    def margin(self, logits: Tensor) -> Tensor:
        """By how much logits (R, K) are adversarial, (R,); below 0 when they are not."""
        return margin(logits, self.y) if self.target_label is None else -margin(logits, self.target_label)


@dataclass(slots=True)
class ActiveSamples:
    """R samples that an attack works on, the tensors its own.

    Attributes:
        index: (R,) in the shard.
        x: (R, C, H, W), the clean images.
        y: (R,) true labels.
        target_label: (R,), or None.
    """

    index: Tensor
    x: Tensor
    y: Tensor
    target_label: Tensor | None

    def __len__(self) -> int:
        """R."""
        return len(self.index)

    @property
    def criterion(self) -> Criterion:
        """Of these samples."""
        return Criterion(self.y, self.target_label)


@dataclass(slots=True)
class Best:
    """The best result of every sample of a shard so far: the nearest success, else the strongest attempt.

    Attributes:
        x: (N, C, H, W), the clean images.
        criterion: of all N samples.
        active: (A,) indices of the samples to work on.
        x_adv: (N, C, H, W); the clean image where nothing was offered.
        distance: (N,) of the nearest success, infinite where there is none.
        score: (N,) of the strongest attempt.
    """

    x: Tensor
    criterion: Criterion
    active: Tensor
    x_adv: Tensor
    distance: Tensor
    score: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, target_label: Tensor | None, active: Tensor | None) -> Best:
        """Nothing found yet; the arguments are an attack's own."""
        index = torch.arange(len(y), device=y.device) if active is None else active.nonzero().squeeze(1)
        never = x.new_full((len(x),), torch.inf)
        return cls(x, Criterion(y, target_label), index, x.clone(), never, -never)

    def empty(self) -> Best:
        """The same, with nothing found yet."""
        never = torch.full_like(self.distance, torch.inf)
        return Best(self.x, self.criterion, self.active, self.x.clone(), never, -never)

    def samples(self, farther_than: float | None = None) -> ActiveSamples:
        """The active samples; with `farther_than` only those without a success within that distance."""
        index = self.active.clone() if farther_than is None else self.active[self.distance[self.active] > farther_than]
        criterion = self.criterion.at(index)
        return ActiveSamples(index, self.x[index], criterion.y, criterion.target_label)

    def unbroken(self) -> ActiveSamples:
        """The active samples without any success."""
        return self.samples(farther_than=torch.finfo(self.distance.dtype).max)

    def unfinished(self, samples: ActiveSamples, eps: float, *, minimize: bool) -> Tensor:
        """(R,) bool: worth another step of a minimum-norm attack, which goes on after a success only to `minimize`."""
        return torch.full_like(samples.y, minimize, dtype=torch.bool) | (self.distance[samples.index] > eps)

    def offer(
        self, index: Tensor, x_adv: Tensor, *, adversarial: Tensor, score: Tensor, distance: Tensor | None = None
    ) -> None:
        """Take what is better than before.

        Args:
            index: (R,) in the shard.
            x_adv: (R, C, H, W).
            adversarial: (R,) bool.
            score: (R,) higher is stronger, among attempts that are not adversarial.
            distance: (R,) of x_adv; None: the first success stays.
        """
        distance = torch.zeros_like(score) if distance is None else distance
        before = self.distance[index]
        closer = adversarial & (distance < before)
        stronger = ~adversarial & torch.isinf(before) & (score > self.score[index])
        self.distance[index[closer]] = distance[closer]
        self.score[index[stronger]] = score[stronger]
        taken = closer | stronger
        self.x_adv[index[taken]] = x_adv[taken]

    def offer_nearest(
        self, samples: ActiveSamples, x_adv: Tensor, logits: Tensor, norm: Norm, least_margin: float = 0.0
    ) -> Tensor:
        """Offer iterates (R, C, H, W) of a minimum-norm attack by their logits (R, K).

        Args:
            least_margin: what their margin must reach to count.

        Returns:
            (R,) bool: which are adversarial.
        """
        found, moved = samples.criterion.margin(logits), distance(x_adv, samples.x, norm)
        adversarial = samples.criterion.is_clearly_adversarial(logits, found)
        if least_margin:
            adversarial &= found >= least_margin
        self.offer(samples.index, x_adv, adversarial=adversarial, distance=moved, score=found)
        return adversarial

    def add_success(self, index: Tensor, x_adv: Tensor) -> None:
        """Successes of an attack that does not look for the nearest one."""
        self.x_adv[index] = x_adv
        self.distance[index] = 0.0
