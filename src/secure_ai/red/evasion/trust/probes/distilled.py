"""Does a small network that imitates this one give examples that break what the suite did not?

Attacks that follow gradients do not see a part of the network that chooses between others (a router, an early exit);
the imitation has one smooth gradient for the whole (substitute training, Papernot et al., 1602.02697, section 4).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.statistics import beyond_chance
from secure_ai.core.trust import Check, check
from secure_ai.models.networks.built_in import torch_initialise
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.transfer import transfer
from secure_ai.red.evasion.trust.probes.probe import Probe, drawn_among

ID = "transfer-beats-suite"
SAMPLES = 128
TAUGHT = 1000  # images whose answers the imitation learns, the survivors among them
ROUNDS = 3  # of learning, attacking the imitation, and asking the target about what came out
EPOCHS, MOST_UPDATES, BATCH, LEARNING_RATE = 16, 150, 64, 2e-3  # a round takes the fewer of epochs and updates
STEPS = 20
SHORTEST_SIDE = 8  # of images that the convolutions fit


def distilled_transfer(probe: Probe, x: np.ndarray | Tensor, y: np.ndarray | Tensor, robust: np.ndarray) -> Check:
    """Fails when examples made on an imitation break images that the suite did not.

    Black-box attacks beat white-box ones only where gradients mislead (1802.00420, section 3.1; 1902.06705, section
    4.4). In every round the imitation learns the target's answers to its own adversarial examples as well, so that it
    finds the way around what they did not break. At most (ROUNDS + 1) * TAUGHT forward passes.

    Args:
        robust: (N,) bool: what the suite counts as robust among all of `x`.
    """
    if probe.budget.norm == "l0" or probe.budget.eps == 0:
        return check(ID, None, f"no survivors of a suite to attack at {probe.budget}")
    if not robust.any():
        return check(ID, True, "the suite left no image to attack")
    images, labels = drawn_among(probe, x, y, robust, SAMPLES)
    n = len(labels)
    broken = torch.zeros_like(labels, dtype=torch.bool)
    known = torch.cat((images, _others(probe, x, TAUGHT - n)))
    pool, answers = known, _answers(probe, known)
    first = answers.argmax(dim=1)
    draw = probe.generator(ID)
    with torch.device("cpu"):  # its first weights are drawn there
        network = _small(probe.target)
    torch_initialise(network, draw)
    student = _as_target(network.to(probe.target.device), probe)
    for _ in range(ROUNDS):
        _teach(network, pool, answers, draw)
        x_adv = transfer(student, known, first, budget=probe.budget, generator=draw, network=student, steps=STEPS)
        found = _answers(probe, x_adv)
        broken |= found[:n].argmax(dim=1) != labels
        pool, answers = torch.cat((pool, x_adv)), torch.cat((answers, found))
    extra = int(broken.sum())
    evidence = (
        f"a small network, taught by {len(pool) - len(known)} answers of this one, gave examples that break {extra} of "
        f"{n} images that the suite did not"
    )
    return check(ID, not beyond_chance(extra, n), evidence)


def _others(probe: Probe, x: np.ndarray | Tensor, most: int) -> Tensor:
    chosen = torch.randperm(len(x), generator=probe.generator("others"), device="cpu")[:most]
    return images_to_float(x[chosen.numpy()] if isinstance(x, np.ndarray) else x[chosen]).to(probe.target.device)


@torch.no_grad()
def _answers(probe: Probe, x: Tensor) -> Tensor:
    return probe.target.logits(x).softmax(dim=1)


def _teach(network: nn.Module, images: Tensor, answers: Tensor, draw: torch.Generator) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(min(MOST_UPDATES, EPOCHS * math.ceil(len(images) / BATCH))):
            part = torch.randint(len(images), (BATCH,), generator=draw, device="cpu").to(images.device)
            loss = functional.cross_entropy(network(images[part]), answers[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _as_target(network: nn.Module, probe: Probe) -> NetworkTarget:
    shape, classes = probe.target.input_shape, probe.target.num_classes
    return NetworkTarget(network.eval(), name="imitation", digest="", input_shape=shape, num_classes=classes)


def _small(target: NetworkTarget) -> nn.Module:
    """Two strided convolutions and a linear layer; a layer of hidden units where images are too small for them."""
    channels, height, width = target.input_shape
    if min(height, width) < SHORTEST_SIDE:
        hidden = (nn.Flatten(), nn.Linear(target.dimensions, 256), nn.ReLU())
        return nn.Sequential(*hidden, nn.Linear(256, target.num_classes))
    convolutions = (nn.Conv2d(channels, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU())
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * (height // 4) * (width // 4), target.num_classes))
