"""The harness: runs a suite of attacks and trusts none of them."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.errors import (
    EmptyDataError,
    LabelError,
    PairCountError,
    ShapeError,
    TargetError,
)
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan, Progress, ignore_progress
from secure_ai.red.evasion.suite.engine import Arrangement, arrange, run_shards
from secure_ai.red.evasion.suite.merge import merge_shards
from secure_ai.red.evasion.suite.parse import Suite, as_suite
from secure_ai.red.evasion.suite.result import ExamplesScore, SuiteResult, frozen_array
from secure_ai.red.evasion.suite.shard import ShardResult, ShardTask, StopAskedError, SuiteTask, cut_shard, run_shard
from secure_ai.red.evasion.suite.verify import checked_logits, verify

Images = np.ndarray | Tensor
PARTED = "a copy of the network came to answer otherwise than the original"


def run_suite(
    target: NetworkTarget,
    x: Images,
    y: Images,
    *,
    budget: PerturbationBudget,
    attacks: Suite | Sequence[AttackPlan],
    seed: int,
    target_label: int | None = None,
    independent: bool = False,
    keep_examples: bool = False,
    progress: Progress = ignore_progress,
    stop: Callable[[], bool] | None = None,
) -> SuiteResult:
    """Attack a target with every plan in turn and count the worst case per sample.

    Shard by shard (256 samples in order): a clean pass in float32, then attack by attack on the samples that are
    classified correctly and not broken yet. What an attack returns is verified in float32; only that counts.

    Args:
        x: (N, C, H, W) uint8, or float32 in [0, 1].
        y: (N,) integers, the true labels.
        attacks: in the order to be run; a suite that was parsed for this target and data is not checked again.
        seed: the run's; the randomness of a shard depends on it, on the attack's text and on the shard's first index.
        target_label: the class every sample shall be taken for; samples of that class are not attacked.
        independent: attack every eligible sample with every attack, to compare attacks; the worst case is the same or
            lower.
        keep_examples: keep the worst case of every sample in float32.
        progress: called with samples times attacks done, and their total; like `stop` one call at a time, but perhaps
            on another thread.
        stop: asked before every attack of a shard; on yes, or on Ctrl-C, the result is marked incomplete and speaks of
            the leading shards that were finished.

    Raises:
        AttackOutputError: an attack broke its contract.
        AttackSettingsError: no attacks, one that does not know the norm, or one that needs more than the target offers.
        BudgetError, EmptyDataError, PairCountError, ShapeError, PixelRangeError, LabelError: bad input.
        CostLimitError: more passes asked for than anyone can wait for.
        TargetError: fewer than two classes, NaN logits, or a network that changes its own weights.
    """
    labels = _checked_labels(target, x, y, target_label)
    parse_budget(budget.norm, budget.eps, target.dimensions, allow_zero=True)
    plans = as_suite(attacks, budget.norm, target.access, len(labels), target.num_classes).plans
    suite = SuiteTask(budget=budget, attacks=plans, seed=seed, target_label=target_label, independent=independent)
    started = time.perf_counter()
    with target.attacked():
        shards, interruption, alone = _run_shards(target, suite, x, labels, progress, stop or (lambda: False))
    return merge_shards(
        shards,
        labels,
        target=target,
        suite=suite,
        keep_examples=keep_examples,
        interruption=interruption,
        ran_alone=alone,
        seconds=time.perf_counter() - started,
    )


def _run_shards(
    target: NetworkTarget, suite: SuiteTask, x: Images, labels: Tensor, progress: Progress, stop: Callable[[], bool]
) -> tuple[list[ShardResult], BaseException | None, str]:
    shards: list[ShardResult] = []
    caller = _Caller(progress, stop, len(labels) * len(suite.attacks))

    def cut(number: int) -> ShardTask:
        return cut_shard(suite, x, labels, number, device=target.device)

    def work(judge: NetworkTarget, searched: NetworkTarget, number: int) -> ShardResult:
        task = cut(number)
        done = functools.partial(caller.add, len(task.y))
        return run_shard(judge, task, searched=searched, done=lambda _: done(), stop=caller.stop)

    arrangement = Arrangement(1)
    try:
        arrangement = arrange(target, suite.attacks, len(labels), cut(0))
        numbers = range(math.ceil(len(labels) / SHARD_SIZE))
        with contextlib.closing(run_shards(target, arrangement, work, numbers)) as results:
            for shard in results:
                if shard is None:
                    shards.clear()
                    caller.restart()
                    arrangement = Arrangement(1, alone=PARTED)
                else:
                    shards.append(shard)
    except (KeyboardInterrupt, StopAskedError) as interruption:
        return shards, interruption, arrangement.alone
    return shards, None, arrangement.alone


class _Caller:
    """The caller's functions, one call at a time, whichever thread makes it."""

    def __init__(self, progress: Progress, stop: Callable[[], bool], total: int) -> None:
        self._progress, self._stop, self._total = progress, stop, total
        self._done, self._lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        """So many samples times attacks are done."""
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)

    def restart(self) -> None:
        """All is run again."""
        self._done = 0

    def stop(self) -> bool:
        """Whether to stop."""
        with self._lock:
            return self._stop()


def _checked_labels(target: NetworkTarget, x: Images, y: Images, target_label: int | None) -> Tensor:
    """The labels as int64, after everything that can be told without the network."""
    labels = labels_to_tensor(y)
    if not len(labels):
        raise EmptyDataError("nothing to attack", expected="at least one sample")
    if len(labels) != len(x):
        raise PairCountError("images and labels differ in number", expected=len(x), got=len(labels))
    if tuple(x.shape[1:]) != target.input_shape:
        raise ShapeError(
            "the images do not fit the model", where=target.name, expected=target.input_shape, got=tuple(x.shape[1:])
        )
    if target.num_classes < 2:
        raise TargetError("a model of one class cannot be fooled", where=target.name, expected="2 classes or more")
    for name, low, high in (
        ("y", int(labels.min()), int(labels.max())),
        *([("target_label", target_label, target_label)] if target_label is not None else []),
    ):
        if low < 0 or high >= target.num_classes:
            raise LabelError(
                "a label the model does not know",
                where=name,
                expected=f"0 to {target.num_classes - 1}",
                got=(low, high),
            )
    return labels


def score_examples(
    target: NetworkTarget, x_adv: Images, y: Images, x: Images, *, budget: PerturbationBudget, made_for: str
) -> ExamplesScore:
    """Score saved adversarial examples in float32, after the same checks as an attack's result.

    Args:
        x_adv: (N, C, H, W) float32 or uint8, the examples.
        y: (N,) the true labels.
        x: (N, C, H, W), the clean images they were made from.
        made_for: digest of the network that they were made for; empty when not known.

    Raises:
        AttackOutputError: an example outside [0, 1] or the budget.
        EmptyDataError, PairCountError, ShapeError, LabelError, PixelRangeError: bad input.
        TargetError: NaN logits.
    """
    labels = _checked_labels(target, x, y, None)
    parse_budget(budget.norm, budget.eps, target.dimensions, allow_zero=True)
    if tuple(x_adv.shape) != tuple(x.shape):
        raise ShapeError("examples and clean images differ", where="x_adv", expected=tuple(x.shape), got=x_adv.shape)
    clean, adversarial = [], []
    with target.attacked():
        for first in range(0, len(labels), SHARD_SIZE):
            part = slice(first, first + SHARD_SIZE)
            examples, images = (images_to_float(some[part]).to(target.device) for some in (x_adv, x))
            verify(
                examples,
                images,
                attack="saved examples",
                budget=budget,
                kind="budget",
                rows=torch.arange(len(images), device=target.device),
                first=first,
            )
            clean.append(checked_logits(target, images).argmax(dim=1).cpu())
            adversarial.append(checked_logits(target, examples).argmax(dim=1).cpu())
    predictions = torch.cat(adversarial)
    return ExamplesScore(
        budget=budget,
        model_digest=target.digest,
        made_for=made_for,
        clean_correct=frozen_array((torch.cat(clean) == labels).numpy()),
        adversarial_correct=frozen_array((predictions == labels).numpy()),
        predictions=frozen_array(predictions.numpy()),
    )
