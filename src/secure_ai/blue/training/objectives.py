"""What robust training minimises, given a batch and its adversarial examples; an attack makes a method of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from secure_ai.blue.training.methods import Adversary, Batch, BatchLoss, Method, cross_entropy_loss
from secure_ai.core.seeds import normal

Objective = Callable[[nn.Module, Batch, Tensor], BatchLoss]
TINY = 1e-12


def against(adversary: Adversary, objective: Objective) -> Method:
    """The method that minimises `objective` on the examples that `adversary` makes for every batch."""

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        return objective(network, batch, adversary(network, batch))

    return method


def on_examples(network: nn.Module, batch: Batch, x_adv: Tensor) -> BatchLoss:
    """Cross-entropy of the adversarial examples alone (Madry et al., 1706.06083, eq. 2.1)."""
    return cross_entropy_loss(network, x_adv, batch.y)


def trades(beta: float) -> Objective:
    """CE(x, y) + beta KL(p(x) || p(x_adv)) (TRADES, 1901.08573, eq. 5); `correct` counts clean predictions.

    Args:
        beta: weight of the second term; the paper uses 1 and 6.
    """

    def objective(network: nn.Module, batch: Batch, x_adv: Tensor) -> BatchLoss:
        clean, attacked = network(torch.cat([batch.x, x_adv])).float().chunk(2)
        loss = functional.cross_entropy(clean, batch.y) + beta * _kl(clean, attacked).mean()
        return BatchLoss(loss, (clean.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))

    return objective


def mart(beta: float) -> Objective:
    """BCE(x_adv, y) + beta KL(p(x) || p(x_adv)) (1 - p_y(x)) (MART, ICLR 2020, eq. 11).

    BCE is -log p_y(x_adv) - log(1 - largest p of another class); `correct` counts the adversarial examples.
    """

    def objective(network: nn.Module, batch: Batch, x_adv: Tensor) -> BatchLoss:
        clean, attacked = network(torch.cat([batch.x, x_adv])).float().chunk(2)
        probability = attacked.softmax(dim=1)
        other = probability.scatter(1, batch.y[:, None], 0.0).amax(dim=1)
        boosted = functional.cross_entropy(attacked, batch.y, reduction="none") - torch.log1p(-other + TINY)
        doubt = 1 - clean.softmax(dim=1).gather(1, batch.y[:, None]).squeeze(1)
        loss = (boosted + beta * _kl(clean, attacked) * doubt).mean()
        return BatchLoss(loss, (attacked.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))

    return objective


def _kl(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(x) || p(x_adv)) of each sample, (B,)."""
    expected = clean.log_softmax(dim=1)
    return (expected.exp() * (expected - attacked.log_softmax(dim=1))).sum(dim=1)


class _Shifted(nn.Module):
    """A network at other weights, as a network; its gradients reach the original weights."""

    def __init__(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._shifted: Callable[[Tensor], Tensor] = lambda x: functional_call(network, weights, (x,))

    def forward(self, x: Tensor) -> Tensor:
        return self._shifted(x)


def weight_perturbed(objective: Objective, gamma: float, begins: float) -> Objective:
    """Adversarial weight perturbation (AWP, 2004.05884, section 4): `objective` at the worst weights nearby.

    One step up the gradient, its length `gamma` times the norm of each tensor of weights; biases and scales of
    normalisation (one dimension) stay, and so do weights that the loss does not depend on.

    Args:
        gamma: relative size, e.g. 5e-3.
        begins: fraction of the training after which it begins.
    """

    def perturbed(network: nn.Module, batch: Batch, x_adv: Tensor) -> BatchLoss:
        weights = {name: w for name, w in network.named_parameters() if w.dim() > 1 and w.requires_grad}
        if batch.step < begins * batch.steps or not weights:
            return objective(network, batch, x_adv)
        loss = objective(network, batch, x_adv).loss
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        moved = {
            name: weight + gamma * weight.detach().norm() / gradient.norm().clamp_min(TINY) * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            if gradient is not None
        }
        return objective(_Shifted(network, moved), batch, x_adv)

    return perturbed


def gaussian(sigma: float) -> Method:
    """Cross-entropy under Gaussian noise (Cohen et al., 1902.02918, section 3.3): training for randomised smoothing.

    Args:
        sigma: standard deviation, on pixels in [0, 1]; the noisy images are not clipped, as certification does not.
    """

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        noise = normal(batch.x.shape, batch.generator, batch.x.device)
        return cross_entropy_loss(network, batch.x + sigma * noise, batch.y)

    return method
