"""Names of random streams and texts of attacks are data: a rename that changes what is drawn fails here.

The network picks pixels, so that nothing is summed and a digest does not depend on the machine.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import generator
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.parse import parse_attacks


class Picking(nn.Module):
    """The pixels of the diagonal as scores of four classes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, ::5]


@pytest.mark.parametrize(
    ("attack", "digest"),
    [
        ("noise", "af4ec8753f9b"),
        ("pgd:steps=3", "072b93312858"),
        ("apgd-ce:steps=4", "96043f30e69e"),
        ("apgd-t:steps=4:targets=2", "224256cf18f3"),
        ("odi-pgd", "6e3b7ebc6318"),
        ("square:query_budget=30", "1fc097e8d45f"),
    ],
)
def test_a_suite_gives_the_bits_that_it_always_gave(attack: str, digest: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = 0.3 * torch.rand((20, 1, 4, 4), generator=draw), torch.arange(20) % 4
    x[torch.arange(20), 0, y, y] += 0.5
    found = run_suite(
        NetworkTarget(Picking(), name="picking", digest="", input_shape=(1, 4, 4), num_classes=4),
        x,
        y,
        budget=PerturbationBudget("linf", 0.05),
        attacks=parse_attacks(attack),
        seed=3,
        keep_examples=True,
    )
    assert found.robust_accuracy.successes == 20
    assert found.shard_digests[0][:12] == digest


def test_the_generator_of_a_name_draws_what_it_always_drew() -> None:
    assert torch.randint(1000, (4,), generator=generator(3, "noise", 0)).tolist() == [210, 500, 442, 167]
    assert torch.randint(1000, (4,), generator=generator(3, "other", 0)).tolist() != [210, 500, 442, 167]


class Drawing(Picking):
    """Draws in every pass, and notes what."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        return super().forward(x)


def drawn_in(attacks: str, seed: int = 3) -> list[float]:
    network, x = Drawing(), torch.full((4, 1, 4, 4), 0.1)
    y = torch.arange(4)
    x[y, 0, y, y] = 0.9
    target = NetworkTarget(
        network, name="d", digest="", input_shape=(1, 4, 4), num_classes=4, deterministic=False, batch_size=4
    )
    budget = PerturbationBudget("linf", 0.05)
    run_suite(target, x, y, budget=budget, attacks=parse_attacks(attacks), seed=seed)
    return network.drawn


def test_what_a_network_draws_depends_on_the_seed_and_the_attack_and_on_no_other_attack() -> None:
    alone, other = drawn_in("pgd:steps=3"), drawn_in("pgd:steps=3", seed=4)
    after = drawn_in("noise:draws=2,pgd:steps=3")
    clean, searched = alone[0], alone[-5:]  # four evaluations and the verification
    assert clean == after[0]
    assert searched == after[-5:]
    assert not set(searched) & set(other)
    assert clean not in searched
    assert not set(searched) & set(after[1:-5])
    assert len(set(after)) == len(after)
