"""Ours and a peer on the same network and images: one judge for both, times, paired differences."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _package import (
    NetworkTarget,
    PerturbationBudget,
    allowed_distance,
    mcnemar_exact,
    measured_distance,
    parse_attacks,
    run_suite,
    silent,
    wilson,
)
from _peers import PeerAttack
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One side's answer: who stayed robust, (N,) bool, and the seconds from the first call to the verified result.

    `cpu_seconds` is the processor time of the whole call, where it was taken.
    """

    robust: np.ndarray
    seconds: float
    cpu_seconds: float = 0.0


class Counted(nn.Module):
    """A network that counts samples forward and backward, to give both sides the same queries."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forwarded, self.backwarded = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self.forwarded += len(x)
        logits: Tensor = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwarded += len(gradient)


def peers_network(target: NetworkTarget, *, our_compute: bool) -> nn.Module:
    """A copy as a peer's user would have it, or with what ours does to it: frozen and channels last."""
    network = _laid_out(copy.deepcopy(target.network).eval(), torch.contiguous_format)
    for parameter in network.parameters():
        parameter.requires_grad_(not our_compute)
    if not our_compute:
        return network
    return _laid_out(network, torch.channels_last)


def _laid_out(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stub lacks this form
    return network


def predicted(network: nn.Module, x: Tensor) -> Tensor:
    """Classes, in float32."""
    with torch.no_grad():
        return torch.cat([network(part).argmax(dim=1) for part in x.split(500)])


def verified(judge: NetworkTarget, x_adv: Tensor, x: Tensor, y: Tensor, budget: PerturbationBudget) -> np.ndarray:
    """Who stayed robust: only a misclassified image inside [0, 1] and the budget counts as broken."""
    within = measured_distance(x_adv, x, budget) <= allowed_distance(budget)
    within &= (
        torch.isfinite(x_adv).flatten(1).all(dim=1) & (x_adv.flatten(1).amin(1) >= 0) & (x_adv.flatten(1).amax(1) <= 1)
    )
    wrong = predicted(judge.network, x_adv) != y
    return (~(within & wrong)).numpy()


def run_peer(
    attack: PeerAttack, network: nn.Module, judge: NetworkTarget, x: Tensor, y: Tensor, budget: PerturbationBudget,
    seed: int, batch: int, *, clean_pass: bool = False,
) -> Round:  # fmt: skip
    """A peer on images that are all classified correctly; with `clean_pass` that pass counts, too.

    The clock stops when the peer's own network has classified the examples, which is how its user gets a robust
    accuracy; our judge's pass is not counted.
    """
    began, spent = time.perf_counter(), time.process_time()
    with silent():
        if clean_pass:
            predicted(network, x)
        x_adv = attack(network, x, y, budget.eps, seed, batch).contiguous().float()
        predicted(network, x_adv)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    return Round(verified(judge, x_adv, x, y, budget), seconds, cpu_seconds)


def run_ours(
    target: NetworkTarget,
    attacks: str,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    seed: int,
    *,
    whole: bool = False,
) -> Round:
    """Ours; seconds of the attacks with their verification, with `whole` those of the suite with its clean pass."""
    spent = time.process_time()
    result = run_suite(target, x, y, budget=budget, attacks=parse_attacks(attacks, budget.norm), seed=seed)
    seconds = result.seconds if whole else sum(row.seconds for row in result.rows)
    return Round(np.asarray(result.robust), seconds, time.process_time() - spent)


def compare(ours: np.ndarray, peer: np.ndarray) -> dict[str, Any]:
    """Robust accuracies on the same images, in percent; `points` above 0 means that ours found less."""
    n = len(ours)
    only_ours, only_peer = int((~ours & peer).sum()), int((ours & ~peer).sum())
    return {
        "n": n,
        "ours_accuracy": round(100 * float(ours.mean()), 3),
        "peer_accuracy": round(100 * float(peer.mean()), 3),
        "ours_interval": [round(100 * end, 2) for end in wilson(int(ours.sum()), n)],
        "points": round(100 * (float(ours.mean()) - float(peer.mean())), 3),
        "only_ours_breaks": only_ours,
        "only_peer_breaks": only_peer,
        "p": round(mcnemar_exact(only_ours, only_peer), 5),
    }


def best_batch(run: Callable[[int], float], batches: tuple[int, ...]) -> int:
    """The batch size at which `run` took the fewest seconds, each tried twice."""
    run(batches[0])  # warm up
    return min(batches, key=lambda batch: min(run(batch), run(batch)))


def interleaved(ours: Callable[[], Round], peer: Callable[[], Round], pairs: int) -> dict[str, Any]:
    """Median ratio (peer's seconds over ours) of pairs run one after the other, and both sides' seconds.

    `cpu_ratio` is of processor time: what the ratio would be if nothing else ran on the machine.
    """
    rounds = [(ours(), peer()) for _ in range(pairs)]
    ratios = [theirs.seconds / mine.seconds for mine, theirs in rounds]
    return {
        "pairs": pairs,
        "ratio": round(statistics.median(ratios), 3),
        "cpu_ratio": round(statistics.median(theirs.cpu_seconds / mine.cpu_seconds for mine, theirs in rounds), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ours_seconds": round(statistics.median(mine.seconds for mine, _ in rounds), 3),
        "peer_seconds": round(statistics.median(theirs.seconds for _, theirs in rounds), 3),
    }
