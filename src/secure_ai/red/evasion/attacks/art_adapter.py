"""The one adapter between ART's attacks and the contract: seeded, silent, counted, and trusted in nothing."""

from __future__ import annotations

import contextlib
import inspect
import io
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.errors import AttackOutputError, AttackSettingsError, SecureAIError
from secure_ai.models.target.target import Target
from secure_ai.red.evasion.contract import Knowledge
from secure_ai.red.evasion.math.active_set import Best

ART_NORMS: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
EPS_STEP_REL = 1 / 3  # in eps: what ART's defaults (eps_step 0.1, eps 0.3) come to


@dataclass(frozen=True, slots=True)
class ArtAttack:
    """What the table of ART's attacks says of one.

    Attributes:
        norms: that its `norm` takes, or the one it is made for; any for a search that takes none, since what it finds
            counts where it lies within eps.
        alone: ART takes the samples one after the other, so each gets its own random numbers; the others work on a
            whole shard at once.
        probabilities: it takes the softmax of the logits.
        targeted: the labels that it is given are those it aims at, always; without a target label it draws some.
        iterative: it takes more than one step.
    """

    knowledge: Knowledge
    norms: tuple[Norm, ...]
    alone: bool = False
    probabilities: bool = False
    targeted: bool = False
    iterative: bool = True


class _Network(nn.Module):
    """A target as the network that ART calls, so that passes are counted; it owns no weights that ART could change.

    Args:
        index: (1,) the sample that all calls are about; None where they are about several, which ART does not name.
    """

    def __init__(self, target: Target, probabilities: bool, index: Tensor | None) -> None:
        super().__init__()
        self._target, self._probabilities, self._index = target, probabilities, index

    def forward(self, x: Tensor) -> Tensor:
        index = None if self._index is None else self._index.expand(len(x))
        logits = self._target.logits(x.float(), rows=index)  # some attacks compute in float64
        return logits.softmax(dim=1) if self._probabilities else logits


def run_art(
    attack: Any,
    row: ArtAttack,
    target: Target,
    x: Tensor,
    y: Tensor,
    /,
    *,
    budget: PerturbationBudget,
    generator: torch.Generator,
    target_label: Tensor | None = None,
    active: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """Run an attack of ART's on one shard.

    ART draws from the global generators of NumPy, Python and torch: they are seeded from `generator` and put back
    after. So that neither batch size nor the attacks before change a result, an attack that takes samples one by one
    is seeded for each, and any other gets the whole shard in one batch, whichever samples are still `active`.

    Args:
        attack: ART's class.
        row: what the table says of it.
        target: see `Attack`, as for all arguments down to `active`.
        settings: keyword arguments of the class; `eps`, `norm`, `targeted` and the batch come from the others, and so
            does `eps_step` (a third of eps, ART's own ratio) where it is not given.

    Returns:
        x_adv (N, C, H, W), clipped to [0, 1]; it may lie outside the budget.

    Raises:
        AttackSettingsError: ART refuses the settings, or the attack cannot aim at a class.
        AttackOutputError: ART failed, or returned something that is not a batch of images.
        TargetError: the network failed.
    """
    where = f"art:{attack.__name__}"
    if target_label is not None and not (row.targeted or "targeted" in attack.attack_params):
        raise AttackSettingsError(
            "the attack cannot aim at a class", where=where, expected="no target label", got=where
        )
    best = Best.of(x, y, target_label, active)
    parts = best.active[:, None] if row.alone else torch.arange(len(x), device=x.device)[None]
    seeds = torch.randint(2**32, (len(x),), generator=generator, device="cpu").tolist()
    labels = nn.functional.one_hot(y if target_label is None else target_label, target.num_classes).float()
    decided = {"verbose": False, "targeted": target_label is not None, "norm": ART_NORMS.get(budget.norm)}
    decided |= {"eps": budget.eps, "eps_step": budget.eps * EPS_STEP_REL}
    found = x.clone()
    for part in parts if len(best.active) else ():
        with silent(), _seeded_globals(seeds[int(part[0])]), torch.enable_grad():
            network = _Network(target, row.probabilities, part if row.alone else None)
            maker = _made(attack, _classifier(target, network, x.device), decided | {"batch_size": len(part)}, settings)
            own_choice = row.targeted and target_label is None
            found[part] = _generated(maker, x[part], None if own_choice else labels[part], where)
    best.x_adv[best.active] = found[best.active]
    return best.x_adv


def _classifier(target: Target, network: _Network, device: torch.device) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=network,
        loss=nn.CrossEntropyLoss(),
        input_shape=target.input_shape,
        nb_classes=target.num_classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device.type == "cpu" else "gpu",
    )


def _made(attack: Any, classifier: Any, decided: dict[str, Any], given: dict[str, Any]) -> Any:
    """ART's attack with the settings that it takes of `decided`, and those `given`."""
    takes = inspect.signature(attack).parameters
    settings = {key: value for key, value in decided.items() if key in takes} | given
    try:
        return attack(classifier, **settings)
    except Exception as error:  # a foreign class may raise anything
        raise AttackSettingsError(
            "ART refuses these settings",
            where=f"art:{attack.__name__}",
            expected="what its class takes",
            got=str(error),
        ) from error


def _generated(maker: Any, x: Tensor, labels: Tensor | None, where: str) -> Tensor:
    """What ART returns for x (M, C, H, W) and one-hot `labels` (M, K), as images."""
    given = None if labels is None else labels.cpu().numpy()
    try:
        found = np.asarray(maker.generate(x=x.cpu().numpy().copy(), y=given), dtype=np.float32)
    except SecureAIError:
        raise
    except Exception as error:  # a foreign attack may raise anything
        got = f"{type(error).__name__}: {error}"
        raise AttackOutputError(
            "ART's attack raised an error", where=where, expected="a batch of images", got=got
        ) from error
    if found.shape != tuple(x.shape):
        raise AttackOutputError(
            "ART's attack did not return one image a sample", where=where, expected=tuple(x.shape), got=found.shape
        )
    return torch.from_numpy(found).to(x.device).clamp(0, 1)


class _Repeatable(np.random.RandomState):
    """What `RandomState()` makes while an attack runs: two of ART's ask for one without a seed."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(np.random.randint(2**32, dtype=np.uint32) if seed is None else seed)


@contextlib.contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    """Global generators, and those made without a seed, seeded inside, and after that as they were."""
    numpy_state, python_state, made = np.random.get_state(), random.getstate(), np.random.RandomState
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        setattr(np.random, "RandomState", _Repeatable)  # noqa: B010  # a type, to mypy
        try:
            yield
        finally:
            setattr(np.random, "RandomState", made)  # noqa: B010
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Progress bars, prints and warnings of another library go nowhere."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
