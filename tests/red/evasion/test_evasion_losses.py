"""Losses against hand-computed values and their laws."""

from __future__ import annotations

import pytest
import torch

from secure_ai.red.evasion.math.losses import cross_entropy, dlr, dlr_targeted, margin

LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [1.0, 5.0, 2.0, -1.0]])
Y = torch.tensor([0, 2])


def test_margin_is_the_best_other_minus_the_true_logit() -> None:
    assert margin(LOGITS, Y).tolist() == [-1.0, 3.0]
    assert margin(LOGITS - 100, Y).tolist() == [-1.0, 3.0]


def test_cross_entropy_of_equal_logits_is_log_k() -> None:
    assert cross_entropy(torch.zeros((1, 4)), torch.tensor([1])).item() == pytest.approx(1.3862943611)


def test_dlr_by_hand() -> None:
    # -(4 - 3) / (4 - 1) and -(2 - 5) / (5 - 1)
    assert dlr(LOGITS, Y).tolist() == pytest.approx([-1 / 3, 3 / 4])


def test_dlr_targeted_by_hand() -> None:
    # -(4 - 1) / (4 - (1 + 0) / 2) and -(2 - 1) / (5 - (1 + -1) / 2)
    assert dlr_targeted(LOGITS, Y, torch.tensor([1, 0])).tolist() == pytest.approx([-3 / 3.5, -1 / 5])


def test_dlr_does_not_change_with_shift_and_scale_of_the_logits() -> None:
    logits = torch.randn((50, 10), generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 10
    torch.testing.assert_close(dlr(7 * logits + 3, y), dlr(logits, y))
    torch.testing.assert_close(dlr_targeted(7 * logits + 3, y, (y + 1) % 10), dlr_targeted(logits, y, (y + 1) % 10))


@pytest.mark.parametrize("loss", [dlr, margin])
def test_positive_exactly_where_misclassified(loss: object) -> None:
    assert callable(loss)
    logits = torch.randn((200, 6), generator=torch.Generator().manual_seed(1))
    y = torch.arange(200) % 6
    assert torch.equal(loss(logits, y) > 0, logits.argmax(dim=1) != y)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_use_the_margin_and_never_crash(classes: int) -> None:
    logits = torch.randn((20, classes), generator=torch.Generator().manual_seed(2))
    y, other = torch.zeros(20, dtype=torch.int64), torch.ones(20, dtype=torch.int64)
    assert torch.equal(dlr(logits, y), margin(logits, y))
    assert torch.equal(dlr_targeted(logits, y, other), logits[:, 1] - logits[:, 0])


def test_losses_do_not_mix_samples() -> None:
    for loss in (cross_entropy, margin, dlr):
        torch.testing.assert_close(loss(LOGITS, Y)[1:], loss(LOGITS[1:], Y[1:]))
