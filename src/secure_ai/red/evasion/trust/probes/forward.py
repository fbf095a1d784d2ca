"""What happens inside a forward pass: is it random, and does it optimise?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from secure_ai.core.trust import Check, check
from secure_ai.models.preflight.calls import difference
from secure_ai.red.evasion.contract import AttackPlan
from secure_ai.red.evasion.trust.probes.probe import Probe

CALLS = 4  # repeated on the same images; AutoAttack compares 5 runs (flags_doc.md of fra31/auto-attack)
SAME = 1e-5  # AutoAttack's tolerance (checks.py); one thread count and batch repeat far better
FEW = 32
DIFFERENTIATE = frozenset({torch.autograd.grad, torch.autograd.backward, Tensor.backward, Tensor.requires_grad_})


def random_without_eot(probe: Probe, attacks: Sequence[AttackPlan]) -> Check:
    """Fails when answers differ between calls on the same images and no attack averages over that (EOT).

    CALLS - 1 forward passes a sample.
    """
    apart, flipped = 0.0, 0
    for _ in range(CALLS - 1):
        with torch.no_grad():
            logits = probe.target.logits(probe.x)
        apart = max(apart, difference(probe.logits, logits))
        flipped = max(flipped, int((logits.argmax(dim=1) != probe.logits.argmax(dim=1)).sum()))
    averaging = [plan.name for plan in attacks if int(plan.settings.get("eot_samples", 1)) > 1]
    evidence = (
        f"{CALLS} calls on the same {len(probe.x)} images differ by up to {apart:.1e} of their size and in "
        f"{flipped} predictions; attacks that average over calls: {', '.join(averaging) or 'none'}"
    )
    return check("random-without-eot", apart <= SAME or bool(averaging), evidence)


class _Differentiations(TorchFunctionMode):
    """Counts calls that take a gradient, or ask for one, while the mode is on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        switched_off = function is Tensor.requires_grad_ and False in (*args[1:], *(kwargs or {}).values())
        if function in DIFFERENTIATE and not switched_off:
            self.found.append(getattr(function, "__name__", "backward"))
        return function(*args, **(kwargs or {}))


def optimises_inside(probe: Probe) -> Check:
    """Fails when the forward pass itself takes gradients: an optimisation that attacks do not see through.

    AutoAttack's flag for dynamic defences (flags_doc.md). FEW forward passes.
    """
    with torch.no_grad(), _Differentiations() as seen:
        probe.target.logits(probe.x[:FEW])
    names = ", ".join(sorted(set(seen.found)))
    evidence = f"{len(seen.found)} gradient calls inside one forward pass" + (f": {names}" if names else "")
    return check("optimises-inside", not seen.found, evidence)
