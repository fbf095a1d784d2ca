"""SAU: unlearning adversarial examples that the suspected network and the repaired one share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors.repair import Repair, batches, trainable

EPOCHS, BATCH, LEARNING_RATE = 10, 128, 1e-3
BUDGET, STEP, STEPS = 0.2, 0.2, 5  # Linf, and five steps of it


def shared_adversarial(repair: Repair) -> nn.Module:
    """Fine-tuning that forbids the classes to which shared adversarial examples go (Wei et al., 2307.10562, eq. 8-9).

    Images with the trigger are among the examples that mislead the suspected network. An example is shared where the
    repaired network goes to the same wrong class: there it learns not to.

    Note: the terms of the search have equal weights, and what the suspected network answers counts as well.
    """
    network = trainable(repair.network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for x, y in batches(repair, "sau", EPOCHS, BATCH):
        loss = functional.cross_entropy(network(x), y) + unshared_loss(network, repair.network, x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network


def unshared_loss(network: nn.Module, suspected: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Minus log(1 - p) of the suspected network's class, on shared adversarial examples that go to a wrong one."""
    changed = x + shared_change(network, suspected, x, y)
    with torch.no_grad():
        wrong = suspected(changed).argmax(dim=1)
    p = network(changed).softmax(dim=1).gather(1, wrong[:, None])[:, 0]
    losses = -torch.log((1 - p).clamp_min(1e-6)) * (wrong != y)
    mean: Tensor = losses.mean()
    return mean


def shared_change(network: nn.Module, suspected: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Changes within BUDGET that mislead both networks in the same way."""
    change = torch.zeros_like(x)
    for _ in range(STEPS):
        change.requires_grad_()
        own, other = network(x + change).log_softmax(dim=1), suspected(x + change).log_softmax(dim=1)
        gain = functional.nll_loss(own, y) + functional.nll_loss(other, y) - divergence(own, other).mean()
        (gradient,) = torch.autograd.grad(gain, change)
        change = (change.detach() + STEP * gradient.sign()).clamp(-BUDGET, BUDGET)
        change = (x + change).clamp(0, 1) - x
    return change.detach()


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of rows of log probabilities, (N,) in nats."""
    p, q = log_p.exp(), log_q.exp()
    log_m = (0.5 * (p + q)).clamp_min(1e-12).log()
    return 0.5 * ((p * (log_p - log_m)).sum(dim=1) + (q * (log_q - log_m)).sum(dim=1))
