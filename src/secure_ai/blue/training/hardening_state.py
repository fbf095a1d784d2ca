"""Everything that a hardening needs to go on from a check as if it had never stopped, as tensors and as bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Protocol

from torch import Tensor

from secure_ai.core.errors import StateMismatchError
from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.models.tensors import array_to_tensor

GROUPS = ("network", "optimizer", "average", "best")


@dataclass(slots=True)
class Checks:
    """One entry a check: after which step, mean training loss since the last, and what was measured on held-out images.

    Attributes:
        clean, one_step, robust: fractions of the held-out training images classified correctly: as they are, under
            one gradient step, and under the attack that chooses the checkpoint.
        seconds: of training alone since the check before.
        check_seconds: of the check itself.
        rolled_back: steps at which single-step training had collapsed and the last good weights came back.
        diverged: the step at which the loss was no longer finite; empty: none.
        chosen: index of the check whose weights are kept, never of one that was rolled back; -1 before the first.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)
    one_step: list[float] = field(default_factory=list)
    robust: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    check_seconds: list[float] = field(default_factory=list)
    rolled_back: list[int] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)
    chosen: int = -1

    @property
    def best(self) -> float:
        """Robust accuracy of the weights that are kept; -1 before the first check."""
        return self.robust[self.chosen] if self.chosen >= 0 else -1.0


@dataclass(frozen=True, slots=True, eq=False)
class HardeningState:
    """State after a check, or at the end of a training.

    Attributes:
        tensors: by group: `network`, `optimizer`, `average` (weights averaged so far; empty without averaging) and
            `best` (of the check `checks.chosen`).
        step: steps done; a training that ended early did fewer than `steps`.
        steps: steps in all, fixed when the training began.
    """

    tensors: dict[str, dict[str, Tensor]]
    step: int
    steps: int
    checks: Checks

    def to_bytes(self, key: str) -> bytes:
        """A safetensors file; `key` names the request that it belongs to."""
        arrays = {
            f"{group}.{name}": value.detach().cpu().numpy()
            for group, tensors in self.tensors.items()
            for name, value in tensors.items()
        }
        facts = {
            "key": key,
            "step": str(self.step),
            "steps": str(self.steps),
            "checks": json.dumps(asdict(self.checks)),
        }
        return safetensors_bytes(arrays, facts)


def hardening_state(content: bytes, name: str) -> tuple[HardeningState, str]:
    """The inverse of `to_bytes`: the state and its key. Raises SafetensorsError or StateMismatchError."""
    read = read_safetensors(FileBytes(name, content))
    try:
        facts = read.metadata
        key, step, steps = facts["key"], int(facts["step"]), int(facts["steps"])
        checks = Checks(**json.loads(facts["checks"]))
        if not 0 <= checks.chosen < len(checks.robust):
            raise ValueError(checks.chosen)
    except (KeyError, ValueError, TypeError):
        raise StateMismatchError("not the state of a hardening", where=name, expected="key, step and checks") from None
    tensors: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for full, value in read.tensors.items():
        group, _, rest = full.partition(".")
        tensors.setdefault(group, {})[rest] = array_to_tensor(value)
    return HardeningState(tensors, step, steps, checks), key


class Checkpoint(Protocol):
    """Where the state after each check is kept until the training is whole."""

    def load(self) -> HardeningState | None:
        """The last state saved for this request, or None."""
        ...

    def save(self, state: HardeningState) -> None:
        """Keep `state` in place of the one before."""
        ...
