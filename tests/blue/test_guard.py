"""The threshold of a guard: its rate of false refusals holds for new inputs, and nothing passes for want of a score."""

from __future__ import annotations

import numpy as np
import pytest

from secure_ai.blue.guards.guard import guard_by
from secure_ai.core.errors import TargetError

SHAPE = (1, 1, 1)


def scores(x: np.ndarray) -> np.ndarray:
    """The pixel itself."""
    return x.reshape(len(x)).astype(np.float64)


def inputs(*values: float) -> np.ndarray:
    return np.array(values).reshape(-1, *SHAPE)


@pytest.mark.parametrize(("n", "rate"), [(100, 0.01), (100, 0.05), (199, 0.01)])
def test_new_clean_inputs_are_refused_at_most_at_the_rate(n: int, rate: float) -> None:
    """Scores are uniform: the threshold is the chance that a new input passes."""
    draws = np.random.default_rng(0).random((2000, n))
    refused = [1 - _threshold(row, rate) for row in draws]
    assert np.mean(refused) <= rate * 1.05
    assert np.mean(refused) >= rate * 0.5  # a control: no guard that lets everything pass


def _threshold(clean: np.ndarray, rate: float) -> float:
    """The highest clean score that passes."""
    guarded = guard_by(scores, inputs(*clean), rate)(inputs(*clean))
    return float(guarded.score[~guarded.refused].max())


def test_an_input_without_a_score_is_refused() -> None:
    guard = guard_by(scores, inputs(*np.linspace(0, 1, 200)), 0.01)
    assert guard(inputs(np.nan, 0.5, 2.0)).refused.tolist() == [True, False, True]


def test_clean_inputs_without_a_score_set_no_threshold() -> None:
    with pytest.raises(TargetError) as caught:
        guard_by(scores, inputs(*np.linspace(0, 1, 200), np.nan), 0.01)
    assert caught.value.where == "clean"
