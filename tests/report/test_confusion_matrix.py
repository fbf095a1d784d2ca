"""What a confusion matrix says, against hand-computed answers."""

from __future__ import annotations

import pytest

from secure_ai.report.render.confusion import accuracy, equal_recall_p, error_pattern, per_class

MATRIX = [[8, 2, 0], [1, 9, 0], [3, 1, 6]]


def test_accuracy_counts_the_diagonal() -> None:
    found = accuracy(MATRIX)
    assert (found.successes, found.n) == (23, 30)


def test_per_class_precision_and_recall() -> None:
    rows = per_class(MATRIX)
    assert [(row.precision.successes, row.precision.n) for row in rows] == [(8, 12), (9, 12), (6, 6)]
    assert [(row.recall.successes, row.recall.n) for row in rows] == [(8, 10), (9, 10), (6, 10)]


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    row = per_class([[0, 4], [0, 6]])[0]
    assert row.precision.value is None
    assert row.precision.reason == "never predicted"


def test_error_pattern() -> None:
    pattern = error_pattern(MATRIX)
    assert pattern is not None
    assert (pattern.errors, pattern.top_two) == (7, (0, 1))
    assert pattern.top_per_class == pytest.approx((2 + 1 + 3) / 7)
    assert pattern.top_two_share == pytest.approx(1.0)
    assert error_pattern([[5, 0, 0], [0, 5, 0], [0, 0, 5]]) is None


def test_equal_recall_by_hand() -> None:
    # Recalls 8/10, 9/10, 6/10, pooled p = 23/30: sum((hits - 10p)^2 / (10p(1 - p))) = 2.6087 with 2 degrees.
    assert equal_recall_p(MATRIX) == pytest.approx(0.27135, abs=1e-4)
    assert equal_recall_p([[5, 0], [0, 5]]) is None
    small = equal_recall_p([[990, 10], [400, 600]])
    assert small is not None
    assert small < 1e-10
