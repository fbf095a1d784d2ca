"""The rows of `scripts/bench evasion`."""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _duel import (
    Counted,
    Round,
    best_batch,
    compare,
    interleaved,
    peers_network,
    predicted,
    run_ours,
    run_peer,
    verified,
)
from _package import (
    AUTOATTACK,
    SHARD_SIZE,
    WORKER_BATCH,
    NetworkTarget,
    Norm,
    Passes,
    PerturbationBudget,
    Protocol,
    parse_attacks,
    run_suite,
    silent,
    wilson,
)
from _peers import PEERS, PGD40, PROTOCOL, SETTINGS, Settings, reference
from _processes import spent
from torch import nn
from torch.nn import functional

FLOAT32 = "torch.float32"  # what every row computes in, and part of what an entry is about
EPS = {"natural": {"linf": 0.1, "l2": 1.0, "l1": 5.0}}
EPS_DEFENDED = {"linf": 0.3, "l2": 2.0, "l1": 10.0}
PEER_BATCHES, OUR_BATCHES = (128, 256, 500, 1000), (64, 128, 256)  # ours works in shards of 256
ATTACK_SEEDS = 5  # of attacks that draw: two runs of one differ by up to a percentage point
PGD_SEEDS = 25  # with 5, one peer's luck was 0.5 points on the PGD network; foolbox and torchattacks share their draws
DRAWN = ("apgd-ce", "apgd-dlr", "square", "square-rescaled")  # on every network
DRAWN_AND_SLOW = ("apgd-t",)  # on the FGSM-RS network, where runs differ most
MEMORY_RUNS = 3  # what the allocator keeps differs between runs of the same job
SUITES_ELSEWHERE: tuple[tuple[str, Norm, Protocol], ...] = (
    ("autoattack", "l2", "standard"),
    ("fast", "l2", "standard"),
    ("autoattack", "l1", "standard"),
    ("fast", "l1", "standard"),
    ("plus", "linf", "plus"),
    ("plus", "l2", "plus"),
)
"""Our suite, the norm, the reference's version."""


def budget_of(network: str, norm: Norm) -> PerturbationBudget:
    """EPS_DEFENDED; smaller for an undefended network, where those leave nothing to compare."""
    return PerturbationBudget(norm, EPS.get(network.rpartition("-seed")[0], EPS_DEFENDED)[norm])


def attack_seeds_of(network: str, attack: str) -> int:
    """How many seeds an attack is run with."""
    if attack == "pgd":
        return PGD_SEEDS
    repeated = DRAWN + DRAWN_AND_SLOW if network.startswith("fgsm-rs") else DRAWN
    return ATTACK_SEEDS if attack in repeated else 1


def our_list(settings: Settings, eps: float, queries: int = 0) -> str:
    """Our attack with the settings shared with the peer."""
    return settings.ours.format(step_rel=settings.step / eps, queries=settings.queries or queries)


# --- quality ----------------------------------------------------------------------------------------------------------


def quality(bench: Any) -> None:
    """Robust accuracy on the same images with the same settings, attack by attack and peer by peer."""
    arguments = bench.arguments
    chosen = arguments.attacks.split(",") if arguments.attacks else list(SETTINGS)
    peers = arguments.peers.split(",") if arguments.peers else [peer.partition(",")[0] for _, peer in PEERS]
    for name in arguments.names.split(","):
        target = bench.target(name)
        x, y = bench.correct(target)

        @functools.cache
        def ours(
            text: str, budget: PerturbationBudget, seed: int, target: NetworkTarget = target, x: Any = x, y: Any = y
        ) -> Round:
            return run_ours(target, text, x, y, budget, seed)

        for attack, peer in PEERS:
            if attack in chosen and peer.partition(",")[0] in peers:
                budget = budget_of(name, SETTINGS[attack].norm)
                seeds = arguments.quality_seeds or attack_seeds_of(name, attack)
                key = {"network": name, "attack": attack, "peer": peer, "budget": str(budget), "seeds": seeds}
                work = functools.partial(_duel, ours, target, attack, peer, x, y, budget, range(seeds))
                bench.measure("quality", key, work)


def _duel(
    run: Callable[[str, PerturbationBudget, int], Round], target: NetworkTarget, attack: str, peer: str, x: Any, y: Any,
    budget: PerturbationBudget, seeds: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """Both sides with every seed.

    The test pairs images and seeds, which are not independent where there are several of them; `points_by_seed` shows
    how the difference moves. The interval is over the images, at the mean of the seeds.
    """
    counted = Counted(peers_network(target, our_compute=False))
    theirs = [run_peer(PEERS[attack, peer], counted, target, x, y, budget, seed, 256) for seed in seeds]
    # for HopSkipJump, whose peer has steps and not queries; the pass after the attack is none of it
    queries = round(counted.forwarded / len(x) / len(seeds)) - 1
    text = our_list(SETTINGS[attack], budget.eps, queries)
    ours = [run(text, budget, seed) for seed in seeds]
    return {
        "settings": text,
        **compare(_all_robust(ours), _all_robust(theirs)),
        "n": len(x),
        "ours_interval": [round(100 * end, 2) for end in wilson(_mean_robust(ours), len(x))],
        "points_by_seed": [compare(a.robust, b.robust)["points"] for a, b in zip(ours, theirs, strict=True)],
        "ours_seconds": _median_seconds(ours),
        "peer_seconds": _median_seconds(theirs),
        "peer_forward_a_sample": queries,
        "peer_backward_a_sample": round(counted.backwarded / len(x) / len(seeds), 1),
    }


def _mean_robust(rounds: Sequence[Round]) -> int:
    return round(statistics.fmean(int(found.robust.sum()) for found in rounds))


def _all_robust(rounds: Sequence[Round]) -> np.ndarray:
    return np.concatenate([found.robust for found in rounds])


def _median_seconds(rounds: Sequence[Round]) -> float:
    return round(statistics.median(found.seconds for found in rounds), 2)


# --- protocol ---------------------------------------------------------------------------------------------------------


class _Unbreakable(nn.Module):
    """Ten classes, class 0 far ahead of the others, gradients everywhere."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", 0.001 * torch.randn(784, 10, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("bias", torch.cat([torch.tensor([5.0]), torch.linspace(0, 1, 9)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return x.flatten(1) @ self.weight + self.bias


def protocol(bench: Any) -> None:
    """Passes that a never-broken sample costs, member by member, ours and the reference's."""
    x, y = bench.x[:4].contiguous(), torch.zeros(4, dtype=torch.int64)
    for version, norm in PROTOCOL:
        budget = budget_of("", norm)
        for text in AUTOATTACK[version][norm].split(","):
            key = {"suite": version, "budget": str(budget), "attack": text}
            bench.measure("protocol", key, functools.partial(_passes, text, version, budget, x, y))


def _passes(
    text: str, version: Protocol, budget: PerturbationBudget, x: torch.Tensor, y: torch.Tensor
) -> dict[str, Any]:
    # said to be random: Square then asks about every window, also about one that changes nothing
    target = NetworkTarget(
        _Unbreakable(), name="unbreakable", digest="", input_shape=(1, 28, 28), num_classes=10, deterministic=False
    )
    plans = parse_attacks(text, budget.norm)
    member = plans[0].name
    (row,) = run_suite(target, x, y, budget=budget, attacks=plans, seed=0).rows
    counted = Counted(_Unbreakable())
    found = reference(counted, budget, 0, [], version)
    with silent():  # the checks and the clean pass that every evaluation begins with
        found.run_standard_evaluation(x, y, batch_size=len(x))
        before = counted.forwarded, counted.backwarded
        found.attacks_to_run = [member]
        found.run_standard_evaluation(x, y, batch_size=len(x))
    theirs = counted.forwarded - 2 * before[0], counted.backwarded - 2 * before[1]
    passes = plans[0].entry.passes
    declared = passes(plans[0].settings, 10, budget.norm) if passes else Passes(0, 0)
    return {
        "ours": [row.forward_passes // len(x), row.backward_passes // len(x)],
        "declared": [declared.forward + 1, declared.backward],  # and the verification
        "peer": [theirs[0] // len(x), theirs[1] // len(x)],
        "n": len(x),
    }


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(bench: Any, row: str, attack: str, budget: PerturbationBudget, peers: tuple[str, ...], whole: bool) -> None:
    """Ours against each peer as documented, and with our compute settings."""
    name = bench.arguments.speed_network
    plain = bench.target(name)
    x, y = bench.correct(plain)
    text = our_list(SETTINGS[attack], budget.eps)

    def ours(batch: int) -> Round:
        target = bench.target(name, batch_size=batch)
        return run_ours(target, text, x, y, budget, 0, whole=whole)

    for peer in bench.arguments.peers.split(",") if bench.arguments.peers else peers:
        for our_compute in (setting == "ours" for setting in bench.arguments.peer_settings.split(",")):
            network = peers_network(plain, our_compute=our_compute)

            def theirs(batch: int, network: nn.Module = network, peer: str = peer) -> Round:
                return run_peer(PEERS[attack, peer], network, plain, x, y, budget, 0, batch, clean_pass=whole)

            def work(ours: Callable[[int], Round] = ours, theirs: Callable[[int], Round] = theirs) -> dict[str, Any]:
                chosen = OUR_BATCHES if torch.get_num_threads() == 1 else (WORKER_BATCH,)  # shards side by side
                mine = best_batch(lambda batch: ours(batch).seconds, chosen)
                other = best_batch(lambda batch: theirs(batch).seconds, PEER_BATCHES)
                found = interleaved(lambda: ours(mine), lambda: theirs(other), bench.arguments.pairs)
                speed = round(len(x) / found["ours_seconds"], 1), round(len(x) / found["peer_seconds"], 1)
                return found | {"n": len(x), "batches": [mine, other], "images_a_second": speed, "load": _load()}

            key = {"network": name, "peer": peer, "budget": str(budget), "dtype": FLOAT32,
                   "pairs": bench.arguments.pairs,
                   "peer_settings": "ours" if our_compute else "documented"}  # fmt: skip
            bench.measure(row, key, work)


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def pgd_speed(bench: Any) -> None:
    """PGD-40, linf 0.3, images a second."""
    budget = budget_of(bench.arguments.speed_network, "linf")
    _speed(bench, "pgd-speed", "pgd", budget, ("foolbox", "torchattacks", "art"), False)


def fgsm_speed(bench: Any) -> None:
    """FGSM from images to the robust accuracy as each side's user gets it, the clean pass counted."""
    budget = budget_of(bench.arguments.speed_network, "linf")
    _speed(bench, "fgsm-speed", "fgsm", budget, ("foolbox", "torchattacks", "art"), True)


def _reference_round(
    network: nn.Module,
    judge: NetworkTarget,
    bench: Any,
    budget: PerturbationBudget,
    seed: int,
    version: Protocol = "standard",
) -> Round:
    began, spent = time.perf_counter(), time.process_time()  # it ends with its own robust accuracy
    with silent():
        found = reference(network, budget, seed, version=version)
        x_adv = found.run_standard_evaluation(bench.x, bench.y, batch_size=250)[0]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - spent
    return Round(verified(judge, x_adv, bench.x, bench.y, budget), seconds, cpu_seconds)


def autoattack_speed(bench: Any) -> None:
    """The suites `autoattack` and `fast` against the reference on all images, clean pass and verification counted.

    The reference runs once for both, as documented and with our compute settings.
    """
    name, budget = bench.arguments.speed_network, PerturbationBudget("linf", 0.3)
    suites = bench.arguments.attacks.split(",") if bench.arguments.attacks else ("autoattack", "fast")
    plain = bench.target(name)
    target = bench.target(name)
    for pair in range(bench.arguments.slow_pairs):

        @functools.cache
        def ours(suite: str, target: NetworkTarget = target, pair: int = pair) -> Round:
            return run_ours(target, suite, bench.x, bench.y, budget, pair, whole=True)

        for our_compute in (setting == "ours" for setting in bench.arguments.peer_settings.split(",")):

            @functools.cache
            def theirs(our_compute: bool = our_compute, pair: int = pair) -> Round:
                network = peers_network(plain, our_compute=our_compute)
                return _reference_round(network, plain, bench, budget, pair)

            facts = {"network": name, "dtype": FLOAT32, "pair": pair, "budget": str(budget),
                     "peer": "pyautoattack", "peer_settings": "ours" if our_compute else "documented"}  # fmt: skip
            for suite in suites:
                key = facts | {"suite": suite}
                bench.measure("autoattack-speed", key, functools.partial(_suite_duel, ours, theirs, suite))


def _suite_duel(ours: Callable[[str], Round], theirs: Callable[[], Round], suite: str) -> dict[str, Any]:
    mine, other = ours(suite), theirs()
    return {
        **compare(mine.robust, other.robust),
        "ratio": round(other.seconds / mine.seconds, 3),
        "cpu_ratio": round(other.cpu_seconds / mine.cpu_seconds, 3),
        "ours_seconds": round(mine.seconds, 2),
        "peer_seconds": round(other.seconds, 2),
        "load": _load(),
    }


def autoattack_seeds(bench: Any) -> None:
    """AutoAttack on the FGSM-RS networks, ours and the reference on the same weights.

    Every training seed with the first attack seed, the first training seed with all.
    """
    budget = PerturbationBudget("linf", 0.3)
    attack_seeds = [int(text) for text in bench.arguments.attack_seeds.split(",")]
    training_seeds = bench.arguments.training_seeds.split(",")
    for training in training_seeds:
        name = f"{bench.arguments.training_recipe}-seed{training}"
        target = bench.target(name)
        network = peers_network(target, our_compute=True)
        for seed in attack_seeds if training == training_seeds[0] else attack_seeds[:1]:

            def work(seed: int = seed, target: NetworkTarget = target, network: nn.Module = network) -> dict[str, Any]:
                mine = run_ours(target, "autoattack", bench.x, bench.y, budget, seed, whole=True)
                theirs = _reference_round(network, target, bench, budget, seed)
                return {
                    **compare(mine.robust, theirs.robust),
                    "ours_seconds": round(mine.seconds, 2),
                    "peer_seconds": round(theirs.seconds, 2),
                }

            bench.measure("autoattack-seeds", {"network": name, "attack_seed": seed, "peer": "pyautoattack"}, work)


def autoattack_norms(bench: Any) -> None:
    """The suites in l2 and l1, and `plus`, against the reference: on the same network, images and seed."""
    for name in bench.arguments.names.split(","):
        target = bench.target(name)

        @functools.cache
        def theirs(version: Protocol, budget: PerturbationBudget, target: NetworkTarget = target) -> Round:
            return _reference_round(peers_network(target, our_compute=True), target, bench, budget, 0, version)

        asked, norms = bench.arguments.attacks, bench.arguments.norms
        for suite, norm, version in SUITES_ELSEWHERE:
            if suite not in (asked or suite).split(",") or norm not in (norms or norm).split(","):
                continue
            budget = budget_of(name, norm)

            def work(
                suite: str = suite,
                budget: PerturbationBudget = budget,
                version: Protocol = version,
                target: NetworkTarget = target,
            ) -> dict[str, Any]:
                mine, other = run_ours(target, suite, bench.x, bench.y, budget, 0, whole=True), theirs(version, budget)
                return compare(mine.robust, other.robust) | {
                    "ours_seconds": round(mine.seconds, 2),
                    "peer_seconds": round(other.seconds, 2),
                }

            key = {"network": name, "suite": suite, "budget": str(budget), "attack_seed": 0, "peer": "pyautoattack"}
            bench.measure("autoattack-norms", key, work)


def fast_seeds(bench: Any) -> None:
    """The suite `fast` on the same networks, by training and attack seed."""
    budget = PerturbationBudget("linf", 0.3)
    for training in bench.arguments.training_seeds.split(","):
        name = f"{bench.arguments.training_recipe}-seed{training}"
        target = bench.target(name)
        for seed in (int(text) for text in bench.arguments.attack_seeds.split(",")):

            def work(seed: int = seed, target: NetworkTarget = target) -> dict[str, Any]:
                found = run_ours(target, "fast", bench.x, bench.y, budget, seed, whole=True)
                robust = int(found.robust.sum())
                return {
                    "n": len(bench.x),
                    "accuracy": round(100 * robust / len(bench.x), 3),
                    "interval": [round(100 * end, 2) for end in wilson(robust, len(bench.x))],
                    "seconds": round(found.seconds, 2),
                }

            bench.measure("fast-seeds", {"network": name, "attack_seed": seed}, work)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(bench: Any) -> None:
    """Peak memory of fresh processes that load one side, the images and the network, and attack.

    `autoattack` attacks two shards at most: with two threads they are searched side by side, which costs most.
    """
    name, asked = bench.arguments.speed_network, bench.arguments.n
    for attack, n, sides in (
        ("pgd", asked, ("ours", "foolbox", "torchattacks", "art")),
        ("autoattack", min(asked, 2 * SHARD_SIZE), ("ours", "pyautoattack")),
    ):
        if attack not in (bench.arguments.attacks or attack).split(","):
            continue
        for side in sides:
            key = {"network": name, "attack": attack, "side": side, "n": n}
            bench.measure("memory", key, functools.partial(_peak, bench, side, attack, name, n))


def _peak(bench: Any, side: str, attack: str, network: str, n: int) -> dict[str, Any]:
    options = ["--networks", str(bench.arguments.networks), "--work", str(bench.arguments.work),
               "--images", bench.arguments.images, "--n", str(n), "--precision", bench.arguments.precision]  # fmt: skip
    words = [sys.executable, str(Path(__file__).with_name("evasion.py")), *options]
    words += ["--one", side, attack, network, str(n)]
    runs = [spent(words, log=bench.arguments.work / "memory.log") for _ in range(MEMORY_RUNS)]
    peaks = [round(1024 * run.peak_gib, 1) for run in runs]
    return {"peak_mib": statistics.median(peaks), "peaks_mib": peaks}


def one_side(bench: Any, side: str, attack: str, network: str, n: str) -> None:
    """What a process of the memory row does; everything before the attack is the same for all."""
    budget = PerturbationBudget("linf", 0.3)
    target = bench.target(network)
    x, y = bench.x[: int(n)], bench.y[: int(n)]
    if side == "ours":
        run_ours(target, "autoattack" if attack == "autoattack" else our_list(PGD40, 0.3), x, y, budget, 0)
    elif attack == "autoattack":
        _reference_round(peers_network(target, our_compute=False), target, bench, budget, 0)
    else:
        run_peer(PEERS[attack, side], peers_network(target, our_compute=False), target, x, y, budget, 0, 256)


# --- profile ----------------------------------------------------------------------------------------------------------


def profile(bench: Any) -> None:
    """What a step of PGD-40 costs beside a bare forward and backward pass, on images that are never broken."""
    name = bench.arguments.speed_network
    key = {"network": name, "dtype": FLOAT32, "pairs": bench.arguments.pairs}
    bench.measure("profile", key, functools.partial(_profile, bench, name))


def _profile(bench: Any, name: str) -> dict[str, Any]:
    target = bench.target(name)
    x = bench.x[:256].contiguous()
    y = predicted(target.network, x)
    budget = PerturbationBudget("linf", 1e-4)  # too small to break anyone, so every step has all images
    steps = 40

    def bare() -> Round:
        began, spent = time.perf_counter(), time.process_time()
        with target.attacked(), torch.enable_grad():
            for _ in range(steps):
                point = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
                loss = functional.cross_entropy(target.logits(point), y, reduction="sum")
                torch.autograd.grad(loss, point)
        return Round(y.numpy() >= 0, time.perf_counter() - began, time.process_time() - spent)

    text = f"pgd:steps={steps}"
    found = interleaved(lambda: run_ours(target, text, x, y, budget, 0), bare, bench.arguments.pairs)
    return {
        "n": len(x),
        "step_ms": round(1000 * found["ours_seconds"] / steps, 2),
        "bare_ms": round(1000 * found["peer_seconds"] / steps, 2),
        "overhead": round(1 / found["ratio"] - 1, 3),
        "load": _load(),
    }


ROWS: dict[str, Callable[[Any], None]] = {
    "quality": quality,
    "protocol": protocol,
    "pgd-speed": pgd_speed,
    "fgsm-speed": fgsm_speed,
    "autoattack-speed": autoattack_speed,
    "autoattack-seeds": autoattack_seeds,
    "autoattack-norms": autoattack_norms,
    "fast-seeds": fast_seeds,
    "memory": memory,
    "profile": profile,
}
