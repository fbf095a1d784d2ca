"""The peers' attacks as functions with every shared parameter set explicitly; what a peer has no name for is absent.

Each function takes a network in evaluation mode, images (N, C, H, W) float32, labels (N,), eps, a seed and a batch
size, and returns adversarial examples; whether they are any is judged elsewhere, the same for all.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _package import Norm, PerturbationBudget, Protocol
from torch import Tensor, nn

PeerAttack = Callable[[nn.Module, Tensor, Tensor, float, int, int], Tensor]
VERSIONS = ("foolbox", "adversarial-robustness-toolbox", "torchattacks", "pyautoattack")


@dataclass(frozen=True, slots=True)
class Settings:
    """What both sides are given. Our own list is `ours`, with `{step_rel}` for `step` in eps and `{queries}`."""

    norm: Norm
    ours: str
    steps: int = 0
    step: float = 0.0
    queries: int = 0
    extra: Mapping[str, Any] | None = None


PGD40 = Settings("linf", "pgd:steps=40:step_size_rel={step_rel}:random_start=true", steps=40, step=0.01)
SETTINGS: dict[str, Settings] = {
    "fgsm": Settings("linf", "fgsm"),
    "pgd": PGD40,
    "apgd-ce": Settings("linf", "apgd-ce:steps=100:restarts=1", steps=100),
    "apgd-dlr": Settings("linf", "apgd-dlr:steps=100:restarts=1", steps=100),
    "apgd-t": Settings("linf", "apgd-t:steps=100:restarts=1:targets=9", steps=100),
    "fab": Settings("linf", "fab:steps=100:restarts=1", steps=100),
    "fab-t": Settings("linf", "fab-t:steps=100:restarts=1:targets=9", steps=100),
    "square": Settings("linf", "square:query_budget={queries}:restarts=1:p_init=0.8", queries=1000),
    "square-rescaled": Settings("linf", "square:query_budget={queries}:restarts=1:p_init=0.8:rescale_schedule=true",
                                queries=1000),
    "ddn": Settings("l2", "ddn:steps=100:gamma=0.05", steps=100),
    "fmn": Settings("l2", "fmn:steps=100", steps=100),
    "cw": Settings("l2", "cw:steps=200:binary_search_steps=5:learning_rate=0.01:initial_const=0.001", steps=200,
                   step=0.01, extra={"searches": 5, "const": 1e-3}),
    "cw-one-const": Settings("l2", "cw:steps=200:binary_search_steps=1:learning_rate=0.01:initial_const=1.0", steps=200,
                             step=0.01, extra={"const": 1.0}),
    "deepfool": Settings("l2", "deepfool:steps=50:overshoot=0.02:targets=9", steps=50),
    "hopskipjump": Settings("l2", "hopskipjump:query_budget={queries}:initial_gradient_queries=100", steps=8),
}  # fmt: skip


def seed_everything(seed: int) -> None:
    """Peers draw from global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def in_batches(work: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, batch: int) -> Tensor:
    """For peers that leave batching to their caller."""
    return torch.cat([work(a, b).detach() for a, b in zip(x.split(batch), y.split(batch), strict=True)])


# --- foolbox ----------------------------------------------------------------------------------------------------------


def _foolbox(name: str, minimal: bool, **settings: Any) -> PeerAttack:
    def new_attack() -> Any:
        import foolbox

        return getattr(foolbox.attacks, name)(**settings)

    return _run_foolbox(new_attack, minimal)


def _run_foolbox(new_attack: Callable[[], Any], minimal: bool) -> PeerAttack:
    def run(network: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, batch: int) -> Tensor:
        import foolbox

        seed_everything(seed)
        attack = new_attack()
        model = foolbox.models.pytorch.PyTorchModel(network, bounds=(0, 1), device="cpu")
        # a minimum-norm attack is asked for its smallest success; whether that lies within eps is judged elsewhere
        return in_batches(lambda a, b: attack(model, a, b, epsilons=None if minimal else eps)[0], x, y, batch)

    return run


def _one_by_one(attack: PeerAttack) -> PeerAttack:
    """Foolbox 3.3.4 normalises HopSkipJump's noise and gradient over the batch: the larger that is, the weaker."""

    def run(network: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, batch: int) -> Tensor:
        return attack(network, x, y, eps, seed, 1)

    return run


def _projecting_fmn() -> Any:
    """Foolbox 3.3.4's L2FMNAttack with a projection: its own divides the norms by themselves and never projects."""
    import foolbox

    def project(x: Any, x0: Any, epsilon: Any) -> Any:
        delta = (x - x0).raw
        scale = (epsilon.raw / delta.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp_max(1)
        return x0 + delta * scale[:, None, None, None]

    attacks: Any = foolbox.attacks
    attack = attacks.L2FMNAttack(steps=100, max_stepsize=1.0, gamma=0.05)
    attack.project = project
    return attack


# --- ART --------------------------------------------------------------------------------------------------------------


def _art(name: str, *, takes_eps: bool = True, step_is_eps: bool = False, **settings: Any) -> PeerAttack:
    def run(network: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, batch: int) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        seed_everything(seed)
        classifier = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0), device_type="cpu"
        )
        quiet: dict[str, Any] = {} if name == "FastGradientMethod" else {"verbose": False}
        quiet |= ({"eps": eps} if takes_eps else {}) | ({"eps_step": eps} if step_is_eps else {})
        attack = getattr(evasion, name)(classifier, batch_size=batch, **quiet, **settings)
        return torch.from_numpy(np.asarray(attack.generate(x.numpy(), y=y.numpy()), dtype=np.float32))

    return run


# --- torchattacks -----------------------------------------------------------------------------------------------------


def _torchattacks(name: str, *, takes_eps: bool = True, seeded: bool = False, **settings: Any) -> PeerAttack:
    def run(network: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, batch: int) -> Tensor:
        import torchattacks

        seed_everything(seed)
        more = ({"eps": eps} if takes_eps else {}) | ({"seed": seed} if seeded else {})
        attack = getattr(torchattacks, name)(network, **more, **settings)
        return in_batches(attack, x, y, batch)

    return run


# --- pyautoattack -----------------------------------------------------------------------------------------------------


_STANDARD: dict[str, Any] = {
    "members": ["apgd-ce", "apgd-t", "fab-t", "square"],
    "apgd-ce": {"n_iter": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "use_largereps": False},
    "apgd-t": {"n_iter": 100, "n_restarts": 1, "n_target_classes": 9, "thr_decr": 0.75, "use_largereps": False},
    "fab": {"n_iter": 100, "n_restarts": 1, "n_target_classes": 9},
    "square": {"n_queries": 5000, "n_restarts": 1, "p_init": 0.8},
}
_L1 = _STANDARD | {
    "apgd-ce": _STANDARD["apgd-ce"] | {"n_restarts": 5, "use_largereps": True},
    "apgd-t": _STANDARD["apgd-t"] | {"n_target_classes": 5, "use_largereps": True},
}
_PLUS = _STANDARD | {
    "members": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
    "apgd-ce": _STANDARD["apgd-ce"] | {"n_restarts": 5},
    "fab": _STANDARD["fab"] | {"n_restarts": 5},  # before `fab-t` the reference goes back to 1
}
_RAND = _PLUS | {  # FAB is not run
    "members": ["apgd-ce", "apgd-dlr"],
    "apgd-ce": _STANDARD["apgd-ce"] | {"eot_iter": 20},
}
PROTOCOL: dict[tuple[Protocol, Norm], dict[str, Any]] = {
    ("standard", "linf"): _STANDARD,
    ("standard", "l2"): _STANDARD,
    ("standard", "l1"): _L1,
    ("plus", "linf"): _PLUS,
    ("plus", "l2"): _PLUS,
    ("rand", "linf"): _RAND,
    ("rand", "l2"): _RAND,
}
"""(version, norm) -> members in order and their parameters, by 2003.01690 and, for l1, 2103.01208."""


def reference(
    network: nn.Module, budget: PerturbationBudget, seed: int, attacks: list[str] | None = None,
    version: Protocol = "standard",
) -> Any:  # fmt: skip
    """AutoAttack (or some of its members) with its parameters asserted against the protocol."""
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    found = AutoAttack(network, eps=budget.eps, norm=budget.norm.capitalize(), seed=seed, version=version)
    parts = {"apgd-ce": found.apgd, "apgd-t": found.apgd_targeted, "fab": found.fab, "square": found.square}
    protocol = PROTOCOL[version, budget.norm]
    parameters = {"members": list(found.attacks_to_run)} | {
        name: {parameter: getattr(part, parameter) for parameter in protocol[name]} for name, part in parts.items()
    }
    if parameters != protocol:
        raise SystemExit(f"pyautoattack departs from the protocol: {parameters} instead of {protocol}")
    if {(part.norm, part.eps) for part in parts.values()} != {(found.norm, budget.eps)}:
        raise SystemExit(f"pyautoattack attacks in another budget than {budget}")
    if attacks is not None:
        found.attacks_to_run = attacks
    return found


def _pyautoattack(member: str, queries: int = 5000) -> PeerAttack:
    def run(network: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int, batch: int) -> Tensor:
        found = reference(network, PerturbationBudget("linf", eps), seed, [member])
        found.square.n_queries = queries
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x_adv: Tensor = found.run_standard_evaluation(x, y, batch_size=batch)[0]
        return x_adv

    return run


_HOP_SKIP_JUMP = _foolbox("HopSkipJumpAttack", True, steps=8, initial_gradient_eval_steps=100,
                          max_gradient_eval_steps=10000, constraint="l2")  # fmt: skip
PEERS: dict[tuple[str, str], PeerAttack] = {
    ("fgsm", "foolbox"): _foolbox("LinfFastGradientAttack", False, random_start=False),
    ("fgsm", "art"): _art("FastGradientMethod"),
    ("fgsm", "torchattacks"): _torchattacks("FGSM"),
    ("pgd", "foolbox"): _foolbox("LinfProjectedGradientDescentAttack", False, steps=40, abs_stepsize=0.01,
                                 random_start=True),
    ("pgd", "art"): _art("ProjectedGradientDescent", max_iter=40, eps_step=0.01, num_random_init=1),
    ("pgd", "torchattacks"): _torchattacks("PGD", steps=40, alpha=0.01, random_start=True),
    ("apgd-ce", "pyautoattack"): _pyautoattack("apgd-ce"),
    ("apgd-ce", "torchattacks"): _torchattacks("APGD", seeded=True, norm="Linf", steps=100, n_restarts=1, loss="ce"),
    ("apgd-ce", "art"): _art("AutoProjectedGradientDescent", max_iter=100, nb_random_init=1,
                             step_is_eps=True, loss_type="cross_entropy"),
    ("apgd-dlr", "pyautoattack"): _pyautoattack("apgd-dlr"),
    ("apgd-dlr", "torchattacks"): _torchattacks("APGD", seeded=True, norm="Linf", steps=100, n_restarts=1, loss="dlr"),
    ("apgd-t", "pyautoattack"): _pyautoattack("apgd-t"),
    ("apgd-t", "torchattacks"): _torchattacks("APGDT", seeded=True, norm="Linf", steps=100, n_restarts=1, n_classes=10),
    ("fab", "pyautoattack"): _pyautoattack("fab"),
    ("fab-t", "pyautoattack"): _pyautoattack("fab-t"),
    ("fab-t", "torchattacks"): _torchattacks("FAB", seeded=True, norm="Linf", steps=100, n_restarts=1,
                                             multi_targeted=True, n_classes=10),
    ("square", "pyautoattack"): _pyautoattack("square", queries=1000),
    ("square", "torchattacks"): _torchattacks("Square", seeded=True, norm="Linf", n_queries=1000, n_restarts=1,
                                              p_init=0.8, resc_schedule=False),
    ("square-rescaled", "torchattacks"): _torchattacks("Square", seeded=True, norm="Linf", n_queries=1000, n_restarts=1,
                                                       p_init=0.8, resc_schedule=True),
    # ART always spreads the window sizes over its iterations, each of which asks the network two to three times
    ("square-rescaled", "art"): _art("SquareAttack", max_iter=1000, nb_restarts=1, p_init=0.8),
    ("ddn", "foolbox"): _foolbox("DDNAttack", True, steps=100, gamma=0.05, init_epsilon=1.0),
    ("fmn", "foolbox"): _foolbox("L2FMNAttack", True, steps=100, max_stepsize=1.0, gamma=0.05),
    ("fmn", "foolbox, projection mended"): _run_foolbox(_projecting_fmn, True),
    ("cw", "foolbox"): _foolbox("L2CarliniWagnerAttack", True, binary_search_steps=5, steps=200, stepsize=0.01,
                                confidence=0, initial_const=1e-3, abort_early=False),
    ("cw-one-const", "torchattacks"): _torchattacks("CW", takes_eps=False, c=1, kappa=0, steps=200, lr=0.01),
    ("deepfool", "foolbox"): _foolbox("L2DeepFoolAttack", True, steps=50, candidates=10, overshoot=0.02, loss="logits"),
    ("deepfool", "art"): _art("DeepFool", takes_eps=False, max_iter=50, epsilon=0.02, nb_grads=10),
    ("hopskipjump", "foolbox"): _HOP_SKIP_JUMP,
    ("hopskipjump", "foolbox, one image a batch"): _one_by_one(_HOP_SKIP_JUMP),
}  # fmt: skip
"""(attack, peer) -> the peer's attack with the parameters of SETTINGS."""
