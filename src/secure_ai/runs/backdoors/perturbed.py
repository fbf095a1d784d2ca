"""Images made hard to learn by an attack on a network that the attacker has: for clean-label poisoning."""

from __future__ import annotations

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.pgd import pgd
from secure_ai.red.poisoning.plant import Perturb
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import load_subject, target_for

STEPS, CHUNK = 40, 256


def perturbing(
    spec: ModelSpec, dataset: Dataset, eps: float, seed: int, events: EventSink
) -> tuple[Perturb, NetworkTarget]:
    """PGD within `eps` in linf against the attacker's own network, away from the true label; and that network.

    Raises:
        UsageError: no such eps.
        SecureAIError: a network that cannot be loaded or offers no gradients.
    """
    if not 0 < eps <= 1:
        raise UsageError("no such eps", where="--perturb-eps", expected="above 0, at most 1", got=eps)
    target = target_for(load_subject(spec, dataset, events), dataset, spec)
    if target.access != "gradients":
        raise UsageError("it offers no gradients", where="--perturb-model", expected="a network", got=target.access)
    budget = PerturbationBudget("linf", eps)

    def perturb(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        x, y = images_to_float(images), torch.from_numpy(np.array(labels, dtype=np.int64))
        with target.attacked():
            parts = [
                pgd(target, a, b, budget=budget, generator=generator(seed, "perturb", number), steps=STEPS)
                for number, (a, b) in enumerate(zip(x.split(CHUNK), y.split(CHUNK), strict=True))
            ]
        changed = torch.cat(parts)
        whole = (255 * changed).round().to(torch.uint8) if images.dtype == np.uint8 else changed
        return np.asarray(whole.cpu().numpy())

    return perturb, target
