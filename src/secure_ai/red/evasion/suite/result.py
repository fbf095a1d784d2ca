"""What a suite of attacks found: per-sample worst cases, one row an attack, and the rates made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import Rate, of_effective, rate, rate_or_reason
from secure_ai.models.target.access import Access
from secure_ai.red.evasion.contract import AttackPlan

Stopped = Literal["", "interrupt", "stop"]
NOTHING_FINISHED = "stopped before the first samples were through every attack"
NOTHING_CORRECT = "no sample was classified correctly before the attack"


@dataclass(frozen=True, slots=True)
class Queries:
    """Model calls per sample that a black-box attack worked on, without the harness's own verification."""

    mean: float
    max: int

    def as_json(self) -> dict[str, float | int]:
        """The `queries` of an attack's entry."""
        return {"mean": self.mean, "max": self.max}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRow:
    """One attack of the suite.

    Attributes:
        seconds: its share of the suite's wall time, its float32 verification included; of a suite that was stopped at
            most that.
        forward_passes: samples sent through the network, its verification included.
        attempted: samples it worked on: correct before, and (unless independent) not broken yet.
        broken: those of them that it broke.
        unmoved: those of them for which it gave the clean image back.
        robust_accuracy: the worst case so far.
        queries: of a black-box attack; None for others.
    """

    plan: AttackPlan
    seconds: float
    forward_passes: int
    backward_passes: int
    attempted: int
    broken: int
    unmoved: int
    robust_accuracy: Rate
    queries: Queries | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of `attacks`."""
        return {
            "name": self.plan.name,
            "settings": self.plan.all_settings,
            "knowledge": self.plan.entry.knowledge,
            "seconds": self.seconds,
            "forward_passes": self.forward_passes,
            "backward_passes": self.backward_passes,
            "attempted": self.attempted,
            "broken": self.broken,
            "queries": self.queries.as_json() if self.queries else None,
            "robust_accuracy": self.robust_accuracy.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuiteResult:
    """The outcome for N samples and A attacks; arrays are read-only.

    A suite that was stopped is marked incomplete: it speaks only of the `evaluated` samples, the leading shards that
    went through every attack, and all rates and rows are over those.

    Attributes:
        model_digest: of the network that was attacked.
        num_classes: of that network.
        complete: false after Ctrl-C (`stopped` is `interrupt`) or when the caller asked to stop (`stop`).
        interruption: what interrupted it, for the caller to raise again once the partial result is safe.
        evaluated: (N,) bool.
        clean_correct: (N,) bool.
        eligible: (N,) bool: correct before and, with a target label, of another class.
        robust: (N,) bool: correct on the clean image and under every attack.
        broken_by: (N,) int64: number of the attack that met the goal first, or -1.
        predictions: (N,) int64: the worst case's; the clean one where nothing was attacked; -1 if not evaluated.
        attempted: (A, N) bool: who was attacked.
        broken: (A, N) bool: whose goal was met by each attack.
        x_adv: (N, C, H, W) float32 worst cases if they were asked for; rows that are not evaluated hold zeros.
        target_label: the class that every sample was to be taken for; None: any wrong class.
        access: what the target offered to the attacks.
        n_effective: how many independent samples the N are worth; None: all. Intervals are made for as many.
        independent: every attack worked on every eligible sample, so that attacks can be compared one by one.
        ran_alone: why shards ran one after another although several threads were there; empty where they did not.
        shard_digests: one an evaluated shard, over its worst cases (`merge.shard_digest`): what a replay compares with.
    """

    budget: PerturbationBudget
    plans: tuple[AttackPlan, ...]
    rows: tuple[AttackRow, ...]
    model_digest: str
    num_classes: int
    seed: int
    independent: bool
    complete: bool
    stopped: Stopped
    seconds: float
    clean_passes: int
    evaluated: np.ndarray
    clean_correct: np.ndarray
    eligible: np.ndarray
    robust: np.ndarray
    broken_by: np.ndarray
    predictions: np.ndarray
    attempted: np.ndarray
    broken: np.ndarray
    x_adv: np.ndarray | None
    interruption: KeyboardInterrupt | None = None
    ran_alone: str = ""
    shard_digests: tuple[str, ...] = ()
    access: Access = "gradients"
    target_label: int | None = None
    n_effective: int | None = None

    def counted(self, successes: int, n: int) -> Rate:
        """`successes` of `n` >= 1 of the samples, with the interval of as many independent ones as they are worth."""
        found = rate(successes, n)
        return found if self.n_effective is None else of_effective(found, self.n_effective, len(self.evaluated))

    def _rate(self, successes: int, n: int, reason: str) -> Rate:
        return self.counted(successes, n) if n else rate_or_reason(successes, n, reason)

    @property
    def n(self) -> int:
        """Samples evaluated: the denominator of both accuracies."""
        return int(self.evaluated.sum())

    @property
    def clean_accuracy(self) -> Rate:
        """Correct on the clean image ÷ all."""
        return self._rate(int(self.clean_correct.sum()), self.n, NOTHING_FINISHED)

    @property
    def robust_accuracy(self) -> Rate:
        """Correct on the clean image and under every attack ÷ all: an upper bound of the true one."""
        return self._rate(int(self.robust.sum()), self.n, NOTHING_FINISHED)

    @property
    def attack_success_rate(self) -> Rate:
        """Goal met under some attack ÷ correct before (and not of the target class)."""
        reason = NOTHING_CORRECT if self.n else NOTHING_FINISHED
        return self._rate(int((self.broken_by >= 0).sum()), int(self.eligible.sum()), reason)

    def so_far(self, row: AttackRow) -> Rate:
        """The worst case up to `row`."""
        found = row.robust_accuracy
        return found if found.value is None else self.counted(found.successes, found.n)

    def as_json(self) -> dict[str, Any]:
        """The attack's part of `secure-ai attack --json`; model, data and trust are the caller's."""
        return {
            "budget": self.budget.as_json(),
            "clean_accuracy": self.clean_accuracy.as_json(),
            "robust_accuracy": self.robust_accuracy.as_json(),
            "attack_success_rate": self.attack_success_rate.as_json(),
            "attacks": [row.as_json() | {"robust_accuracy": self.so_far(row).as_json()} for row in self.rows],
            "complete": self.complete,
            "ran_alone": self.ran_alone,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExamplesScore:
    """How a network does on saved adversarial examples: a transfer attack unless they were made for this network.

    Attributes:
        model_digest: of the network that was scored.
        made_for: digest of the network that the examples were made for; empty when not known.
        clean_correct, adversarial_correct: (N,) bool, read-only.
        predictions: (N,) int64 on the examples.
    """

    budget: PerturbationBudget
    model_digest: str
    made_for: str
    clean_correct: np.ndarray
    adversarial_correct: np.ndarray
    predictions: np.ndarray

    @property
    def n(self) -> int:
        """All samples."""
        return len(self.predictions)

    @property
    def clean_accuracy(self) -> Rate:
        """Correct on the clean images ÷ all."""
        return rate_or_reason(int(self.clean_correct.sum()), self.n, NOTHING_FINISHED)

    @property
    def adversarial_accuracy(self) -> Rate:
        """Correct on the examples ÷ all, whatever the clean images gave: what both reports print."""
        return rate_or_reason(int(self.adversarial_correct.sum()), self.n, NOTHING_FINISHED)

    @property
    def robust_accuracy(self) -> Rate:
        """Correct on both ÷ all, by the glossary's definition."""
        return rate_or_reason(int((self.clean_correct & self.adversarial_correct).sum()), self.n, NOTHING_FINISHED)


def frozen_array(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """As a read-only array."""
    array = np.asarray(values)
    array.setflags(write=False)
    return array
