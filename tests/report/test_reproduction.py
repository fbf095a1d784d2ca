"""The table as a whole: complete, never crashing, and documented by its keys."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.results import rate, rate_or_reason
from secure_ai.runs.cases.report_1 import figures as published_report_1
from secure_ai.runs.reproduction.reproduction import HEADLINES, PUBLISHED, compare
from secure_ai.runs.reproduction.values import VALUE_KEYS, confusion_counts, reading, values_from_measurements

# Every number that FACTS and the reports print, by report.
PRINTED = {
    "report-1": (
        *(0.9890, 0.0323, 30.22e-6, 20.08, 0.9877, 0.1577, 3.7, 2.69, 0.9875, 0.0401, 0.9855, 0.0579, 82.27, 81.1),
        *(0.9879, 0.9864, 1018 / 1028, 0.9912, 0.0356, 0.0347, 0.0298, 21.8, 1.0),
        *(0.83, 0.0167, 0.02, 0.0011, 0.8278, 0.0020, 0.0015),
    ),
    "report-2": (0.9891, 0.0400, 5.94e-3, 0.9907, 0.1750, 0.9896, 0.8156, 0.9869),
}


class Recorder(dict[str, Any]):
    """A mapping that remembers what was asked."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("report", PRINTED)
def test_every_printed_number_has_a_row(report: str) -> None:
    values = [row.value for row in PUBLISHED if row.report == report and row.value is not None]
    missing = [number for number in PRINTED[report] if number not in [pytest.approx(v, rel=1e-9) for v in values]]
    assert missing == []


def test_figure_ids_are_unique_and_headlines_exist() -> None:
    names = [(row.report, row.figure) for row in PUBLISHED]
    assert len(names) == len(set(names))
    assert set(HEADLINES) <= set(names)


def test_the_printed_matrices_hold_the_test_set() -> None:
    classes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert [sum(row) for row in published_report_1.FIGURE_1] == classes
    assert [sum(row) for row in published_report_1.FIGURE_3] == classes


def test_nothing_measured_is_reported_as_such(sample: ModuleType) -> None:
    rows = compare({})
    assert len(rows) == len(PUBLISHED)
    needing_nothing = {row["figure"] for row in rows if row["holds"] != "not_measured"}
    assert "table-1/accuracy" not in needing_nothing
    assert {"section-5.2/patch-area", "section-7.3/one-run", "appendix-b/timestamps"} <= needing_nothing
    for row in rows:
        if row["holds"] == "not_measured":
            assert row["reason"].startswith("This run did not measure ")
    measured = compare(sample.values())
    assert [row["figure"] for row in measured if row["holds"] == "not_measured"] == []


def test_keys_are_documented_and_used(sample: ModuleType) -> None:
    values = Recorder(sample.values())
    compare(values)
    assert values.asked == set(VALUE_KEYS)


def test_one_report_alone() -> None:
    assert {row["report"] for row in compare({}, reports=("report-2",))} == {"report-2"}


def test_the_two_artefacts_are_found_by_themselves(sample: ModuleType) -> None:
    rows = {(row["report"], row["figure"]): row for row in compare(sample.values())}
    defended = rows["report-1", "table-6/defended-fgsm-accuracy"]
    assert (defended["holds"], defended["correct"]["id"]) == ("no", "report-1/defended-p/pgd")
    assert defended["same_protocol"]["word"] == "broken"
    assert "(broken)" in defended["same_protocol"]["text"]
    trigger = rows["report-1", "table-5/trigger"]
    assert (trigger["holds"], trigger["status"]) == ("no", "wrong")
    assert rows["report-1", "table-1/accuracy"]["holds"] == "yes"
    assert rows["report-2", "section-7/clean-accuracy"]["status"] == "wrong"
    assert rows["report-1", "figure-3/accuracy"]["status"] == "supported"


def test_a_row_turns_when_its_measurement_turns(sample: ModuleType) -> None:
    values = sample.values()
    better = {name: rate(9840, 10000) for name in ("report-1/defended-p/fgsm", "report-1/defended-p/pgd")}

    def holds(content: dict[str, Any]) -> str:
        rows = {row["figure"]: row["holds"] for row in compare(content, reports=("report-1",))}
        return str(rows["table-6/defended-fgsm-accuracy"])

    assert (holds(values), holds(values | better)) == ("no", "yes")


def test_a_rate_without_a_value_counts_as_not_measured() -> None:
    assert reading({"a": rate_or_reason(0, 0, "no images").as_json()}, "a") is None
    assert reading({"a": True}, "a") is None
    assert reading({"a": "99 %"}, "a") is None
    assert confusion_counts({"a": [[1, 2], [3]]}, "a") is None
    assert confusion_counts({"a": "text"}, "a") is None
    found = reading({"a": rate(1, 2)}, "a")
    assert found is not None
    assert (found.value, found.n, found.word) == (0.5, 2, "indicative")


def test_values_of_measurements_carry_their_trust(report: dict[str, Any]) -> None:
    values = values_from_measurements(report["measurements"])
    found = reading(values, "report-1/defended-p/transferred")
    assert found is not None
    assert found.word == "broken"


raw = st.one_of(
    st.none(),
    st.floats(0, 1e6, allow_nan=False),
    st.builds(
        lambda a, b: rate_or_reason(min(a, b), max(a, b), "none").as_json(), st.integers(0, 20), st.integers(0, 20)
    ),
    st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=3, max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(VALUE_KEYS, raw)))
def test_no_mixture_of_values_crashes(values: dict[str, Any]) -> None:
    for row in compare(values):
        assert row["holds"] in ("yes", "no", "not_measured", "not_comparable")
        assert row["reason"].endswith(".")
        assert row["reason"].count("\n") == 0
    json.dumps(compare(values), allow_nan=False)
