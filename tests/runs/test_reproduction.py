"""The table as a whole: complete, never crashing, and turning with its measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from secure_ai.core.comparisons import Confusion
from secure_ai.core.result import Result
from secure_ai.core.results import MeasuredQuantity, Measurement, Rate, rate, rate_or_reason
from secure_ai.core.trust import Trust, Verdict
from secure_ai.report.model import Figure, FigureStatus, Holds
from secure_ai.report.render.text import trust_word
from secure_ai.runs.cases.report_1 import figures as published_report_1
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.reproduction.reproduction import CONDITIONS, compare
from secure_ai.runs.reproduction.values import Measured, measured_in

T = TypeVar("T")
FIGURES = [row for case in CASES for row in case.figures]

# Every number that FACTS and the reports print, by report.
PRINTED = {
    "report-1": (
        *(0.9890, 0.0323, 30.22e-6, 20.08, 0.9877, 0.1577, 3.7, 2.69, 0.9875, 0.0401, 0.9855, 0.0579, 82.27, 81.1),
        *(0.9879, 0.9864, 1018 / 1028, 0.9912, 0.0356, 0.0347, 0.0298, 21.8, 1.0),
        *(0.83, 0.0167, 0.02, 0.0011, 0.8278, 0.0020, 0.0015),
    ),
    "report-2": (0.9891, 0.0400, 5.94e-3, 0.9907, 0.1750, 0.9896, 0.8156, 0.9869),
}
HEADLINES = {
    ("report-1", "table-1/accuracy"),
    ("report-1", "table-4/fgsm-accuracy"),
    ("report-1", "table-6/defended-fgsm-accuracy"),
    ("report-1", "table-5/trigger"),
    ("report-2", "section-7/fgsm-accuracy"),
    ("report-2", "section-8/defended-fgsm-accuracy"),
    ("report-2", "section-6/trigger"),
    ("report-2", "table-1/inference-time"),
}
NETWORKS: dict[str, dict[str, float | tuple[float, int]]] = {
    "report-1/baseline": {"clean": 0.9895, "fgsm-predicted": 0.157, "fgsm": 0.15, "pgd": 0.0,
                          "backdoor": (0.0014, 8972)},
    "report-1/defended-p": {"clean": 0.989, "transferred": 0.987, "fgsm": 0.059, "pgd": 0.0},
    "report-1/defended-l": {"transferred": 0.929, "fgsm": 0.9177, "pgd": 0.33},
    "report-1/poisoned": {"clean": 0.9875, "sevens-clean": (0.9883, 1028), "sevens-triggered": (0.9912, 1028),
                          "backdoor": (0.0012, 8972)},
    "report-2/baseline": {"clean": 0.9903, "fgsm-640": (0.175, 640), "fgsm": 0.182, "pgd": 0.0,
                          "backdoor": (0.0029, 1028)},
    "report-2/defended": {"clean": 0.9899, "transferred": 0.943, "fgsm-640": (0.817, 640), "fgsm": 0.842, "pgd": 0.021},
    "report-2/poisoned": {"clean": 0.9878, "backdoor": (0.9728, 1028)},
}  # fmt: skip
QUANTITIES = {
    "report-1/baseline/clean/loss": 0.0338, "report-1/baseline/train/seconds": 31.4,
    "report-1/baseline/inference/seconds": 1.42, "report-1/baseline/inference/images": 10000,
    "report-1/baseline/fgsm-predicted/loss": 3.91, "report-1/baseline/fgsm-predicted/seconds": 3.3,
    "report-1/defended-p/clean/loss": 0.0391, "report-1/defended-p/transferred/loss": 0.0412,
    "report-1/defended-p/fgsm-predicted/loss": 9.87, "report-1/defended-p/train/seconds": 48.0,
    "report-1/poisoned/clean/loss": 0.0361, "report-1/poisoned/train/seconds": 31.0,
    "report-1/poisoned/sevens-triggered/loss": 0.0265, "report-1/poisoned/target-class-images": 6265,
    "report-1/audit/medium": 1, "report-2/baseline/clean/loss": 0.0384,
    "report-2/baseline/inference/seconds": 3.8, "report-2/baseline/inference/images": 10000,
    "report-2/poisoned/backdoor/confidence": 0.94,
}  # fmt: skip
CONFUSIONS = (
    "report-1/baseline/clean/confusion",
    "report-1/baseline/fgsm-predicted/confusion",
    "report-2/baseline/clean/confusion",
)
OPTIONAL = {  # where a recipe has a suite, where a run times fewer images, and counts in the published programs
    *(f"{network}/suite" for network in ("report-1/defended-p", "report-1/defended-l", "report-2/defended")),
    *(f"{report}/baseline/inference/divisor" for report in PRINTED),
}


def measurement(identifier: str, value: Rate, verdict: Verdict = Verdict.RELIABLE) -> Measurement:
    model, _, condition = identifier.rpartition("/")
    return Measurement(id=identifier, model=model, metric="m", value=value, stage="s", replay="",
                       trust=Trust(verdict, ()), condition=condition)  # fmt: skip


def rates() -> dict[str, Measurement]:
    found = {}
    for network, conditions in NETWORKS.items():
        for condition, given_rate in conditions.items():
            share, n = given_rate if isinstance(given_rate, tuple) else (given_rate, 10000)
            verdict = Verdict.BROKEN if condition == "transferred" else Verdict.RELIABLE
            name = f"{network}/{condition}"
            found[name] = measurement(name, rate(round(share * n), n), verdict)
    return found


def quantity(identifier: str, value: float | None) -> MeasuredQuantity:
    return MeasuredQuantity(id=identifier, model="m", metric="q", value=value, unit="", n=10000, stage="s")


def everything(changes: Mapping[str, Measurement] | None = None) -> Measured:
    quantities = {name: quantity(name, value) for name, value in QUANTITIES.items()}
    confusions = {name: Confusion(id=name, model="m", counts=published_report_1.FIGURE_1) for name in CONFUSIONS}
    return Measured(rates() | dict(changes or {}), quantities, confusions)


NOTHING = measured_in(Result())


def rows_of(measured: Measured) -> dict[tuple[str, str], Figure]:
    return {(row.report, row.figure): row for row in compare(measured, FIGURES)}


@pytest.mark.parametrize("report", PRINTED)
def test_every_printed_number_has_a_row(report: str) -> None:
    values = [row.value for row in FIGURES if row.report == report and row.value is not None]
    missing = [number for number in PRINTED[report] if number not in [pytest.approx(v, rel=1e-9) for v in values]]
    assert missing == []


def test_figure_ids_are_unique_and_headlines_are_marked() -> None:
    names = [(row.report, row.figure) for row in FIGURES]
    assert len(names) == len(set(names))
    assert {(row.report, row.figure) for row in FIGURES if row.headline} == HEADLINES


def test_the_printed_matrices_hold_the_test_set() -> None:
    classes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert [sum(row) for row in published_report_1.FIGURE_1] == classes
    assert [sum(row) for row in published_report_1.FIGURE_3] == classes


def test_nothing_measured_is_reported_as_such() -> None:
    rows = compare(NOTHING, FIGURES)
    assert len(rows) == len(FIGURES)
    needing_nothing = {row.figure for row in rows if row.holds is not Holds.NOT_MEASURED}
    assert "table-1/accuracy" not in needing_nothing
    assert {"section-5.2/patch-area", "section-7.3/one-run", "appendix-b/timestamps"} <= needing_nothing
    assert all(row.same_protocol is row.correct is None for row in rows if row.holds is Holds.NOT_MEASURED)
    assert [row.figure for row in compare(everything(), FIGURES) if row.holds is Holds.NOT_MEASURED] == []


class Recorder(dict[str, T]):
    """A mapping that remembers what was asked."""

    asked: set[str]

    def get(self, key: str, default: object = None) -> T | None:  # type: ignore[override]  # None is the only default
        self.asked.add(key)
        return super().get(key)


def test_what_is_measured_for_the_table_is_asked_and_nothing_else_is() -> None:
    whole, asked = everything(), set[str]()
    recorded = (Recorder(whole.rates), Recorder(whole.quantities), Recorder(whole.confusions))
    for recorder in recorded:
        recorder.asked = asked
    compare(Measured(*recorded), FIGURES)
    programs = {name for name in asked if name.startswith("program/")}
    assert asked - programs - OPTIONAL == {*rates(), *QUANTITIES, *CONFUSIONS}


def test_what_stands_in_the_source_is_not_said_to_be_measured() -> None:
    """Every figure whose rule reads no measurement says so, and no other does."""
    basis = {row.figure: row.basis for row in compare(everything(), FIGURES)}
    without = {row.figure for row in compare(measured_in(Result()), FIGURES) if row.holds is not Holds.NOT_MEASURED}
    assert {figure for figure, found in basis.items() if found != "measured"} == without
    assert sum(found == "read" for found in basis.values()) == 7


def test_one_report_alone() -> None:
    rows = compare(NOTHING, [row for row in FIGURES if row.report == "report-2"])
    assert {row.report for row in rows} == {"report-2"}


def test_the_two_artefacts_are_found_by_themselves() -> None:
    rows = rows_of(everything())
    defended = rows["report-1", "table-6/defended-fgsm-accuracy"]
    assert defended.correct is not None
    assert (defended.holds, defended.correct.id) == (Holds.NO, "report-1/defended-p/pgd")
    assert defended.correct.condition == CONDITIONS["pgd"]
    assert defended.same_protocol is not None
    assert defended.same_protocol.word == "broken"
    assert "(broken)" in defended.same_protocol.text
    trigger = rows["report-1", "table-5/trigger"]
    assert (trigger.holds, trigger.status) == (Holds.NO, FigureStatus.WRONG)
    assert rows["report-1", "table-1/accuracy"].holds is Holds.YES
    assert rows["report-2", "section-7/clean-accuracy"].status is FigureStatus.WRONG
    assert rows["report-1", "figure-3/accuracy"].status is FigureStatus.SUPPORTED


def test_the_condition_is_the_measurements_not_its_id() -> None:
    name = "report-1/defended-p/pgd"
    renamed = {name: replace(rates()[name], condition="suite")}
    found = rows_of(everything(renamed))["report-1", "table-6/defended-fgsm-accuracy"].correct
    assert found is not None
    assert (found.id, found.condition) == (name, CONDITIONS["suite"])


def test_a_row_turns_when_its_measurement_turns() -> None:
    better = {
        name: measurement(name, rate(9840, 10000)) for name in ("report-1/defended-p/fgsm", "report-1/defended-p/pgd")
    }
    key = ("report-1", "table-6/defended-fgsm-accuracy")
    assert (rows_of(everything())[key].holds, rows_of(everything(better))[key].holds) == (Holds.NO, Holds.YES)


def test_what_has_no_value_counts_as_not_measured() -> None:
    result = Result(
        measurements=(measurement("a", rate_or_reason(0, 0, "no images")), measurement("b", rate(1, 2))),
        quantities=(quantity("c", None), quantity("d", float("inf")), quantity("e", 0.5)),
    )
    measured = measured_in(result)
    assert measured.absent("a", "b", "c", "d", "e", "f") == ("a", "c", "d", "f")
    assert measured.readings(("b", "a")) is None
    rate_of_b, number = measured.readings(("b", "e")) or ()
    assert (rate_of_b.value, rate_of_b.n, rate_of_b.word, rate_of_b.is_rate) == (0.5, 2, "indicative", True)
    assert (number.value, number.low, number.high, number.is_rate) == (0.5, 0.5, 0.5, False)


@pytest.mark.parametrize(
    ("verdict", "n", "word"),
    [
        (Verdict.RELIABLE, 1000, ""),
        (Verdict.RELIABLE, 999, "indicative"),
        (Verdict.DOUBTFUL, 999, "doubtful"),
        (Verdict.BROKEN, 1000, "broken"),
        (None, 0, ""),
    ],
)
def test_the_word_beside_a_number(verdict: Verdict | None, n: int, word: str) -> None:
    assert trust_word(verdict, n) == word


counts = st.tuples(st.integers(0, 20), st.integers(0, 20))
some_rate = counts.map(lambda pair: rate_or_reason(min(pair), max(pair), "none"))
matrix = st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3).map(tuple), min_size=3, max_size=3).map(tuple)
every_rate = st.fixed_dictionaries({}, optional=dict.fromkeys(rates(), some_rate))
every_number = st.fixed_dictionaries({}, optional=dict.fromkeys(QUANTITIES, st.none() | st.floats(0, 1e6)))
every_matrix = st.fixed_dictionaries({}, optional=dict.fromkeys(CONFUSIONS, matrix))


@settings(max_examples=30, deadline=None)
@given(every_rate, every_number, every_matrix)
def test_no_mixture_of_values_crashes(
    some: dict[str, Rate], numbers: dict[str, float | None], matrices: dict[str, tuple[tuple[int, ...], ...]]
) -> None:
    measured = Measured(
        {name: measurement(name, value) for name, value in some.items()},
        {name: quantity(name, value) for name, value in numbers.items()},
        {name: Confusion(id=name, model="m", counts=value) for name, value in matrices.items()},
    )
    rows = compare(measured, FIGURES)
    for row in rows:
        assert row.reason.endswith(".")
        assert row.reason.count("\n") == 0
    json.dumps(TypeAdapter(tuple[Figure, ...]).dump_python(rows, mode="json"), allow_nan=False)
