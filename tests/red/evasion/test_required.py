"""What a reliable number may lack is a table: everything else must have run."""

from __future__ import annotations

from typing import get_args

import pytest

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.trust import CheckOutcome, check
from secure_ai.red.evasion.trust.required import MAY_LACK, required_check

EPS: dict[Norm, float] = {"linf": 0.1, "l2": 1.0, "l1": 5.0, "l0": 3.0}


def test_every_norm_has_its_rule() -> None:
    assert set(MAY_LACK) == set(get_args(Norm))


@pytest.mark.parametrize(
    ("norm", "missing", "outcome"),
    [
        ("linf", "binarisation", CheckOutcome.PASS),
        ("linf", "pgd-falls-short", CheckOutcome.FAIL),
        ("l2", "pgd-falls-short", CheckOutcome.FAIL),
        ("l1", "pgd-falls-short", CheckOutcome.PASS),
        ("l1", "longer-attack", CheckOutcome.FAIL),
        ("l0", "binarisation", CheckOutcome.FAIL),
        ("linf", "a-check-of-tomorrow", CheckOutcome.FAIL),
    ],
)
def test_a_check_that_did_not_run_lowers_the_verdict_unless_it_may_be_lacking(
    norm: Norm, missing: str, outcome: CheckOutcome
) -> None:
    made = [check("complete", True, ""), check(missing, None, "")]
    assert required_check(made, PerturbationBudget(norm, EPS[norm])).outcome is outcome
    ran = [check("complete", True, ""), check(missing, True, "")]
    assert required_check(ran, PerturbationBudget(norm, EPS[norm])).outcome is CheckOutcome.PASS


def test_at_eps_zero_there_is_nothing_to_ask() -> None:
    assert required_check([check("x", None, "")], PerturbationBudget("linf", 0.0)).outcome is CheckOutcome.NOT_RUN
