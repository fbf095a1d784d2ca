"""The tolerances of the reproduction table are the measured spread."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from secure_ai.runs.cases.report_1.figures import CLAIMS, FIGURES
from secure_ai.runs.cases.report_2 import figures as report_2
from secure_ai.runs.reproduction import tolerances
from secure_ai.runs.reproduction.judge import Tolerance

LAST_DIGIT = 1e-4  # of shares
LAST_FACTOR = 1e-3


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    for name in ("spread", "_record"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("spread")


def test_the_variance_of_a_run_is_that_between_and_within_stacks(spread: ModuleType) -> None:
    """By hand: means 1 and 3 have variance 2, each group variance 2, so 2 + 2 / 2 = 3; nu = 9 / (4 / 1 + 1 / 2) = 2."""
    found = spread.spread([[0.0, 2.0], [2.0, 4.0]])
    assert (found.variance, found.freedom) == pytest.approx((3.0, 2.0))
    assert found.limit == pytest.approx(4.30265 * math.sqrt(6), rel=1e-5)  # t(0.975, 2)


def test_runs_that_do_not_differ_leave_no_tolerance(spread: ModuleType) -> None:
    assert spread.spread([[0.5, 0.5], [0.5, 0.5]]).limit == 0


def test_stacks_that_are_alike_count_as_one_sample(spread: ModuleType) -> None:
    random = Random(0)
    limits = [spread.spread([[random.gauss(0, 1) for _ in range(5)] for _ in range(4)]).limit for _ in range(300)]
    assert sorted(limits)[150] == pytest.approx(2.093 * math.sqrt(2), rel=0.1)  # t(0.975, 19)


def test_every_measured_tolerance_is_what_the_runs_give(spread: ModuleType) -> None:
    measured = {
        name: found
        for name, found in vars(tolerances).items()
        if isinstance(found, Tolerance) and not name.startswith("FIXED_")
    }
    computed = spread.tolerances(spread.recorded())
    assert set(measured) == set(computed)
    for name, (runs, absolute, factor) in computed.items():
        ours = measured[name]
        assert ours.runs == runs == 20, name
        assert 0 <= ours.absolute - absolute <= LAST_DIGIT, name
        assert 0 <= ours.factor - factor <= LAST_FACTOR, name


def test_what_was_not_measured_says_so() -> None:
    fixed = {id(found) for name, found in vars(tolerances).items() if name.startswith("FIXED_")}
    first = [row.tolerance for row in (*FIGURES, *CLAIMS) if row.tolerance]
    second = [row.tolerance for row in (*report_2.FIGURES, *report_2.CLAIMS) if row.tolerance]
    assert all(tolerance.runs > 0 and id(tolerance) not in fixed for tolerance in first)
    assert all(tolerance.runs == 0 and id(tolerance) in fixed for tolerance in second)
    assert len(first) > 10
    assert len(second) > 5
