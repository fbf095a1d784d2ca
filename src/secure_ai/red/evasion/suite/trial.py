"""Copies of a user's own module, one a worker, after a trial that they compute what the original does.

What a module keeps in itself stays in its copy. State that copies share cannot all be seen: so the trial runs an attack
on the original alone and on two copies at once, compares every bit, and looks at what classes and globals hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secure_ai.core.errors import SecureAIError
from secure_ai.core.parallel import workers
from secure_ai.core.seeds import generator
from secure_ai.models.target.copies import Held, copies_of, outside_state, why_not_copied
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.watch import Watch, random_states
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.suite.shard import ShardTask

TRIAL_IMAGES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Copies that have passed the trial.

    Attributes:
        targets: one a worker.
        x: (M, C, H, W), the images of the trial.
        outside: what the copies share, as it was before.
    """

    targets: tuple[NetworkTarget, ...]
    x: Tensor
    outside: Mapping[str, Held]

    def still_agree(self, original: NetworkTarget) -> bool:
        """Whether every copy answers as the original does, bit for bit, and shares nothing that was written to.

        Raises:
            TargetError: a copy has changed its own weights, or raises an error.
        """
        with torch.no_grad():
            answers = replace(original, passes=PassCounter()).logits(self.x)
            for target in self.targets:
                if target.watch is not None:
                    target.watch.compare()
                if not torch.equal(replace(target, batch_size=original.batch_size).logits(self.x), answers):
                    return False
        return outside_state(original.network) == self.outside


def try_copies(target: NetworkTarget, attacks: Sequence[AttackPlan], first: ShardTask, count: int) -> Copies | str:
    """`count` copies for as many workers, or why all must run alone.

    Args:
        target: inside `attacked()`, with the batch size of a worker.
        first: the suite's first shard, of which 64 images are taken.
    """
    reason = why_not_copied(target.network, count)
    if reason:
        return reason
    networks = copies_of(target.network, count)
    if networks is None:
        return "the network cannot be copied, or its copies share memory"
    outside, drawn = outside_state(target.network), _random_numbers()
    copies = [
        replace(target, network=network, passes=PassCounter(), watch=Watch(network, target.name))
        for network in networks
    ]
    original = replace(target, passes=PassCounter())
    plan = next((plan for plan in attacks if plan.entry.knowledge == "white-box"), attacks[0])
    try:
        with workers(count, "trial") as pool:
            expected = pool.submit(_attacked, original, plan, first).result()
            found = [pool.submit(_attacked, one, plan, first) for one in copies[:2]]
            same = all([_same(one.result(), expected) for one in found])
    except SecureAIError:
        return "a copy of the network raised an error when two were called at once"
    if not same:
        return "two copies of the network at once computed something else than the original alone"
    if outside_state(target.network) != outside:
        return "the network keeps something in its class or in a global variable"
    if _random_numbers() != drawn:
        return "the network draws random numbers"
    return Copies(tuple(copies), first.x[:TRIAL_IMAGES], outside)


def _attacked(target: NetworkTarget, plan: AttackPlan, first: ShardTask) -> tuple[Tensor, Tensor]:
    x, y, aim = first.x[:TRIAL_IMAGES], first.y[:TRIAL_IMAGES], first.target_label
    x_adv = plan.entry.attack(
        target,
        x.clone(),
        y.clone(),
        budget=first.suite.budget,
        generator=generator(first.suite.seed, "trial of copies"),
        target_label=None if aim is None else aim[:TRIAL_IMAGES],
        active=None,
        **plan.settings,
    )
    with torch.no_grad():
        return x_adv, target.logits(x)


def _same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _random_numbers() -> tuple[object, ...]:
    return (*random_states(), torch.default_generator.get_state().tolist())
