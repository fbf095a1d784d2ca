"""Attacks as training methods want them: where red is handed to blue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Adversary, Batch
from secure_ai.blue.training.schedules import Schedule, constant
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.compute import device_of, exact_kernels
from secure_ai.core.errors import AttackSettingsError, UsageError
from secure_ai.core.seeds import uniform
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.attacks.pgd import TRAVEL, fgsm, pgd
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.math import projections
from secure_ai.red.evasion.math.input_gradient import input_gradient, requiring_grad
from secure_ai.red.evasion.math.losses import Loss, cross_entropy, margin
from secure_ai.red.evasion.refusal import nearest
from secure_ai.red.evasion.suite.catalogue import entry_named, runnable
from secure_ai.red.evasion.suite.parse import parse_attacks


def fgsm_on_the_fly(eps: float, classes: int) -> Adversary:
    """An adversary that attacks the network as it stands, in its training mode, true labels given."""
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        with _attackable(network, batch, classes) as target:
            return fgsm(target, batch.x, batch.y, budget=budget, generator=batch.generator)

    return adversary


def fgsm_random_start(eps: float, classes: int, step_size: float) -> Adversary:
    """FGSM-RS (Wong, Rice and Kolter, 2001.03994, algorithm 3): one step from a random point of the ball.

    The start may leave [0, 1], as in the algorithm: clipped, half of all starts on a black pixel would be the pixel.
    """
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        start = requiring_grad(batch.x + (2 * uniform(batch.x.shape, batch.generator, batch.x.device) - 1) * eps)
        with _attackable(network, batch, classes) as target:
            gradient = input_gradient(cross_entropy(target.logits(start), batch.y), start)
        step = step_size * projections.steepest(gradient, budget.norm)
        return projections.project(start.detach() + step, batch.x, budget)

    return adversary


def pgd_on_the_fly(eps: float, classes: int, steps: int) -> Adversary:
    """Madry et al. (1706.06083): PGD on the network as it stands.

    Note: a sample stops where it is first misclassified, a weaker adversary than theirs, which takes every step.
    """
    budget = PerturbationBudget("linf", eps)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        with _attackable(network, batch, classes) as target:
            return pgd(target, batch.x, batch.y, budget=budget, generator=batch.generator, steps=steps)

    return adversary


def likeliest_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Log-probability of the likeliest wrong class, (N,): what makes a confident error."""
    return logits.log_softmax(dim=1).scatter(1, y[:, None], -torch.inf).amax(dim=1)


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "margin": margin, "confident": likeliest_wrong}


def pgd_every_step(norm: Norm, eps: Schedule, steps: Schedule, loss: str = "cross-entropy") -> Adversary:
    """PGD for robust training: every sample takes every step from a random start (1706.06083, section 2.1).

    Steps are 2.5 eps / steps long. The network is in evaluation mode meanwhile, so that neither its batch statistics
    nor dropout hear of the attack.

    Args:
        norm: linf, l2 or l1.
        eps: 0 at a step returns the clean images.
        steps: gradient steps, rounded.
        loss: a key of `LOSSES`; or `kl`, the divergence from the clean prediction (TRADES, 1901.08573,
            algorithm 1).
    """

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        here, count = eps(batch.step, batch.steps), round(steps(batch.step, batch.steps))
        if not here:
            return batch.x
        with still(network):
            return pgd_examples(
                network, batch.x, batch.y, budget=PerturbationBudget(norm, here), steps=count,
                generator=batch.generator, loss=loss,
            )  # fmt: skip

    return adversary


@torch.no_grad()
def pgd_examples(
    network: nn.Module, x: Tensor, y: Tensor, *, budget: PerturbationBudget, steps: int, generator: torch.Generator,
    loss: str = "cross-entropy",
) -> Tensor:  # fmt: skip
    """The last iterates of `pgd_every_step`, (N, C, H, W), on a network that is `still`."""
    clean = network(x).float().softmax(dim=1) if loss == "kl" else None
    x_adv = projections.random_start(x, budget, generator)
    for _ in range(steps):
        point = requiring_grad(x_adv)
        with torch.enable_grad():
            logits = network(point).float()
            # the entropy of the clean prediction is left out of KL: it does not depend on the example
            value = LOSSES[loss](logits, y) if clean is None else -(clean * logits.log_softmax(dim=1)).sum(dim=1)
        step = TRAVEL / steps * budget.eps * projections.steepest(input_gradient(value, point), budget.norm)
        x_adv = projections.project(x_adv + step, x, budget)
    return x_adv


def one_step_with_noise(eps: Schedule, noise: float = 2.0, norm: Norm = "linf") -> Adversary:
    """N-FGSM (de Jorge et al., 2202.01181, algorithm 1): one step of eps from noise of `noise` eps, not projected.

    Note: clipped to [0, 1], as pixels are; the paper leaves even that out.
    """

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        here = eps(batch.step, batch.steps)
        draws = 2 * uniform(batch.x.shape, batch.generator, batch.x.device) - 1
        start = requiring_grad(batch.x + draws * noise * here)
        with still(network):
            gradient = input_gradient(cross_entropy(network(start).float(), batch.y), start)
        return (start.detach() + here * projections.steepest(gradient, norm)).clamp_(0, 1)

    return adversary


def named_attack(text: str, norm: Norm, eps: Schedule, classes: int) -> Adversary:
    """One attack of the catalogue as the training adversary, e.g. `cw:steps=20`; `pgd` takes every step.

    What a minimum-norm attack finds beyond eps is brought back to the ball.

    Raises:
        AttackSettingsError: no such attack, a suite, an attack that is not the catalogue's own, or another norm.
        UsageError: a setting that training does not use.
    """
    plan = _adversary_plan(text, norm)
    _refuse_unused(plan)
    if plan.name == "pgd":
        return pgd_every_step(norm, eps, constant(float(plan.settings["steps"])))
    attack: Callable[..., Tensor] = plan.entry.attack
    settings = dict(plan.settings)

    def adversary(network: nn.Module, batch: Batch) -> Tensor:
        here = eps(batch.step, batch.steps)
        if not here:
            return batch.x
        budget = PerturbationBudget(norm, here)
        with still(network), _attackable(network, batch, classes) as target:
            x_adv = attack(target, batch.x, batch.y, budget=budget, generator=batch.generator, **settings)
        return projections.project(x_adv, batch.x, budget)

    return adversary


def _adversary_plan(text: str, norm: Norm) -> AttackPlan:
    able = runnable(norm, "gradients")
    name = text.partition(":")[0].strip().lower()
    if name not in able or "," in text:
        entry = entry_named(name)
        other_norm = entry is not None and norm not in entry.norms
        raise AttackSettingsError(
            f"{name} has no {norm} form" if other_norm else "not an attack to train against", where="--adversary",
            expected=f"for {norm} one of {', '.join(able)}", got=text, hint="" if other_norm else nearest(name, able),
        )  # fmt: skip
    try:
        return parse_attacks(text, norm)[0]
    except AttackSettingsError as error:
        where = error.where.replace("--attack", "--adversary")
        raise AttackSettingsError(
            error.message, where=where, expected=error.expected, got=error.got, hint=error.hint
        ) from None


def _refuse_unused(plan: AttackPlan) -> None:
    used = ["steps"] if plan.name == "pgd" else list(plan.settings)
    changed = {key for key, value in plan.all_settings.items() if plan.entry.settings.get(key) != value}
    unused = sorted(changed.difference(used))
    if unused:
        raise UsageError(
            "training does not use this setting", where="--adversary",
            expected=f"for {plan.name}: {', '.join(used) or 'no setting'}", got=", ".join(unused),
        )  # fmt: skip


@contextlib.contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters and exact kernels inside; all as they were after."""
    modes = [(module, module.training) for module in network.modules()]
    parameters = [p for p in network.parameters() if p.requires_grad]
    network.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with exact_kernels(device_of(network)):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _attackable(network: nn.Module, batch: Batch, classes: int) -> Iterator[NetworkTarget]:
    """The network in training as a target: parameters frozen, its mode and the precision of the training kept."""
    _, channels, height, width = batch.x.shape
    target = NetworkTarget(
        network,
        name="network in training",
        digest="",
        input_shape=(channels, height, width),
        num_classes=classes,
    )
    parameters = [p for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield target
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
