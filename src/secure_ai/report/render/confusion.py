"""What a confusion matrix says: per-class precision and recall, and where the errors go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secure_ai.core.results import Rate, rate, rate_or_reason

Counts = Sequence[Sequence[int]]


def accuracy(counts: Counts) -> Rate:
    """Correct predictions of all, from (K, K) counts (row = true label). Raises EmptyDenominatorError when empty."""
    return rate(sum(row[label] for label, row in enumerate(counts)), sum(sum(row) for row in counts))


@dataclass(frozen=True, slots=True)
class ClassRates:
    """Precision and recall of one class; a rate over no samples has no value and says why."""

    label: int
    precision: Rate
    recall: Rate


def per_class(counts: Counts) -> list[ClassRates]:
    """Precision and recall of each class, each with n and interval."""
    rows = []
    for label, row in enumerate(counts):
        predicted = sum(other[label] for other in counts)
        precision = rate_or_reason(row[label], predicted, "never predicted")
        recall = rate_or_reason(row[label], sum(row), "no image of this class")
        rows.append(ClassRates(label, precision, recall))
    return rows


@dataclass(frozen=True, slots=True)
class ErrorPattern:
    """Where wrong predictions go.

    Attributes:
        errors: how many predictions are wrong.
        top_per_class: share of them that go to the most frequent wrong class of their true class.
        top_two: the two classes that receive most of them, most frequent first.
        top_two_share: share of them that those two receive.
    """

    errors: int
    top_per_class: float
    top_two: tuple[int, int]
    top_two_share: float


def error_pattern(counts: Counts) -> ErrorPattern | None:
    """The pattern of errors of (K, K) counts, or None without errors or with fewer than 3 classes."""
    wrong = [[0 if column == label else n for column, n in enumerate(row)] for label, row in enumerate(counts)]
    errors = sum(map(sum, wrong))
    if errors == 0 or len(wrong) < 3:
        return None
    received = [sum(row[label] for row in wrong) for label in range(len(wrong))]
    first, second = sorted(range(len(received)), key=lambda label: (-received[label], label))[:2]
    top = sum(max(row) for row in wrong)
    return ErrorPattern(errors, top / errors, (first, second), (received[first] + received[second]) / errors)


def equal_recall_p(counts: Counts) -> float | None:
    """Chi-square test that all classes have the same recall (K - 1 degrees of freedom).

    Returns:
        The p-value, or None with fewer than 2 classes that have images, or where all or none are right.
    """
    rows = [(row[label], sum(row)) for label, row in enumerate(counts) if sum(row)]
    hits, images = sum(right for right, _ in rows), sum(n for _, n in rows)
    if len(rows) < 2 or hits in (0, images):
        return None
    share = hits / images
    statistic = sum((right - n * share) ** 2 / (n * share * (1 - share)) for right, n in rows)
    from scipy.special import chdtrc  # lazily: scipy costs start-up time

    return float(chdtrc(len(rows) - 1, statistic))
