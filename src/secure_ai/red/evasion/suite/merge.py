"""Shards put together into the result of a suite."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.results import rate_or_reason
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.access import COUNTED
from secure_ai.red.evasion.suite.result import NOTHING_FINISHED, AttackRow, Queries, Stopped, SuiteResult, frozen_array
from secure_ai.red.evasion.suite.shard import Cost, ShardResult, SuiteTask


def merge_shards(
    shards: Sequence[ShardResult],
    labels: Tensor,
    *,
    target: Target,
    suite: SuiteTask,
    keep_examples: bool,
    interruption: BaseException | None,
    ran_alone: str,
    seconds: float,
) -> SuiteResult:
    """Put the finished leading shards together.

    Args:
        shards: in order; fewer than the labels ask for if the suite was stopped.
        labels: (N,) int64, of all samples.
        seconds: of wall time; the attacks' are their shares of it.
    """
    attacks = suite.attacks
    clean = _joined([shard.clean for shard in shards], torch.zeros(0, dtype=torch.int64, device="cpu"))
    nobody = torch.zeros((len(attacks), 0), dtype=torch.bool, device="cpu")
    wrong = _joined([shard.wrong for shard in shards], nobody)
    met = _joined([shard.met for shard in shards], nobody)
    attempted = _joined([shard.attempted for shard in shards], nobody)
    y, n = labels[: len(clean)], len(labels)
    correct = clean == y
    broken_by = torch.where(met.any(dim=0), met.int().argmax(dim=0), -1)
    x_adv = None
    if keep_examples:
        parts = [shard.x_adv for shard in shards]
        x_adv = frozen_array(
            torch.cat([*parts, torch.zeros((n - len(clean), *target.input_shape), device="cpu")]).numpy()
        )
    return SuiteResult(
        budget=suite.budget,
        plans=attacks,
        rows=_rows(shards, attacks, seconds, correct=correct, wrong=wrong, met=met, attempted=attempted),
        model_digest=target.digest,
        num_classes=target.num_classes,
        access=target.access,
        target_label=suite.target_label,
        seed=suite.seed,
        independent=suite.independent,
        complete=interruption is None,
        stopped=_stopped(interruption),
        interruption=interruption if isinstance(interruption, KeyboardInterrupt) else None,
        ran_alone=ran_alone,
        seconds=seconds,
        clean_passes=sum(shard.clean_cost.forward for shard in shards),
        evaluated=_padded(torch.ones_like(correct), n, fill=0),
        clean_correct=_padded(correct, n, fill=0),
        eligible=_padded(suite.eligible(correct, y), n, fill=0),
        robust=_padded(correct & ~wrong.any(dim=0), n, fill=0),
        broken_by=_padded(broken_by, n, fill=-1),
        predictions=_padded(_joined([shard.predictions for shard in shards], clean[:0]), n, fill=-1),
        attempted=_padded(attempted, n, fill=0),
        broken=_padded(met, n, fill=0),
        x_adv=x_adv,
        shard_digests=tuple(shard_digest(shard) for shard in shards),
    )


def shard_digest(shard: ShardResult) -> str:
    """SHA-256 (hex) over a shard's worst cases as float32, shape first: equal only if every bit is."""
    examples = shard.x_adv.contiguous().numpy()
    digest = hashlib.sha256(f"secure-ai x_adv 1\n{examples.dtype.name} {examples.shape}\n".encode())
    digest.update(examples.data)
    return digest.hexdigest()


def _stopped(interruption: BaseException | None) -> Stopped:
    if interruption is None:
        return ""
    return "interrupt" if isinstance(interruption, KeyboardInterrupt) else "stop"


def _rows(
    shards: Sequence[ShardResult],
    attacks: tuple[AttackPlan, ...],
    seconds: float,
    *,
    correct: Tensor,
    wrong: Tensor,
    met: Tensor,
    attempted: Tensor,
) -> tuple[AttackRow, ...]:
    rows = []
    costs = [sum((shard.costs[number] for shard in shards), start=Cost()) for number in range(len(attacks))]
    worked = sum(cost.seconds for cost in costs) + sum(shard.clean_cost.seconds for shard in shards)
    share = min(1.0, seconds / worked) if worked else 1.0  # shards side by side work longer than goes by
    for number, (plan, cost) in enumerate(zip(attacks, costs, strict=True)):
        robust = correct & ~wrong[: number + 1].any(dim=0)
        rows.append(
            AttackRow(
                plan=plan,
                seconds=share * cost.seconds,
                forward_passes=cost.forward,
                backward_passes=cost.backward,
                attempted=int(attempted[number].sum()),
                broken=int(met[number].sum()),
                unmoved=sum(int(shard.unmoved[number].sum()) for shard in shards),
                robust_accuracy=rate_or_reason(int(robust.sum()), len(correct), NOTHING_FINISHED),
                queries=_queries(plan, [shard.queries[number] for shard in shards], attempted[number]),
            )
        )
    return tuple(rows)


def _queries(plan: AttackPlan, queries: list[Tensor], attempted: Tensor) -> Queries | None:
    """Mean and most over the samples it worked on; None for attacks that do not count, or that had none."""
    if plan.entry.knowledge not in COUNTED or not plan.entry.names_samples or not bool(attempted.any()):
        return None
    asked = torch.cat(queries)[attempted]
    return Queries(float(asked.double().mean()), int(asked.max()))


def _joined(parts: list[Tensor], empty: Tensor) -> Tensor:
    """The shards' values along the last axis; `empty` where there is no shard."""
    return torch.cat([empty, *parts], dim=-1)


def _padded(values: Tensor, n: int, *, fill: int) -> np.ndarray:
    """Filled up to `n` samples along the last axis, for those that were not evaluated; read-only."""
    missing = values.new_full((*values.shape[:-1], n - values.shape[-1]), fill)
    return frozen_array(torch.cat([values, missing], dim=-1).numpy())
