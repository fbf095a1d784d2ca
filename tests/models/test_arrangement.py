"""Labels in another order and turned images are found by name; what is merely inaccurate, or symmetric, is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.trust import CheckOutcome
from secure_ai.models.preflight.arrangement import TURNS, label_order_check, orientation_check
from secure_ai.models.target.target import NetworkTarget

CLASSES, N = 10, 400


def labels() -> Tensor:
    return torch.arange(N) % CLASSES


def right_with_noise(share_wrong: float) -> Tensor:
    """Right, but for a share of answers that are drawn evenly."""
    generator, y = torch.Generator().manual_seed(0), labels()
    drawn = torch.randint(CLASSES, (N,), generator=generator)
    return torch.where(torch.rand(N, generator=generator) < share_wrong, drawn, y)


def renumbered(order: list[int], share_wrong: float = 0.1) -> Tensor:
    return torch.tensor(order)[right_with_noise(share_wrong)]


@pytest.mark.parametrize(
    ("order", "moved"),
    [
        ([0, 1, 2, 5, 4, 3, 6, 7, 8, 9], ("output 3 is label 5", "output 5 is label 3")),
        ([9, 0, 1, 2, 3, 4, 5, 6, 7, 8], ("output 9 is label 0", "output 0 is label 1")),
    ],
)
def test_classes_in_another_order_are_found(order: list[int], moved: tuple[str, ...]) -> None:
    found = label_order_check(renumbered(order), labels(), CLASSES, 0.1)
    assert found.outcome is CheckOutcome.FAIL
    assert all(text in found.evidence for text in moved)


@pytest.mark.parametrize(
    "predictions",
    [right_with_noise(0.0), right_with_noise(0.5), right_with_noise(1.0), torch.zeros(N, dtype=torch.int64)],
    ids=["right", "half noise", "all noise", "collapsed"],
)
def test_what_is_merely_inaccurate_is_not_called_another_order(predictions: Tensor) -> None:
    assert label_order_check(predictions, labels(), CLASSES, 0.1).outcome is CheckOutcome.PASS


def test_more_classes_than_images_and_too_few_images() -> None:
    y = torch.arange(60) * 15
    assert label_order_check(y, y, 1000, 1 / 60).outcome is CheckOutcome.PASS
    assert label_order_check((y + 15) % 900, y, 1000, 1 / 60).outcome is CheckOutcome.PASS  # one image a class: unseen
    assert label_order_check(y[:19], y[:19], 1000, 1 / 19).outcome is CheckOutcome.NOT_RUN


class Corner(nn.Module):
    """Four classes by where the brightest of four spots is; it tells every way to lay the image."""

    def __init__(self, before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.before = before
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)[:, 0]
        return self.scale * torch.stack([x[:, 0, 1], x[:, 0, 4], x[:, 3, 0], x[:, 5, 2]], dim=1)


def spots() -> tuple[Tensor, Tensor]:
    generator, y = torch.Generator().manual_seed(1), torch.arange(80) % 4
    x = 0.2 * torch.rand(80, 1, 6, 6, generator=generator)
    for index, (row, column) in enumerate(((0, 1), (0, 4), (3, 0), (5, 2))):
        x[y == index, 0, row, column] = 0.9
    return x, y


def asked(network: nn.Module, channels_last: bool = False) -> str:
    x, y = spots()
    target = NetworkTarget(network, name="t", digest="", input_shape=(1, 6, 6), num_classes=4)
    hits = network(x).argmax(dim=1) == y
    found = orientation_check(target, (x[:40], y[:40]), (x, y), hits, 0.25)
    return f"{found.outcome}: {found.evidence}"


@pytest.mark.parametrize(("name", "turn"), TURNS, ids=[name for name, _ in TURNS])
def test_every_way_to_turn_an_image_is_found_by_name(name: str, turn: Callable[[Tensor], Tensor]) -> None:
    found = asked(Corner(turn))
    assert found.startswith("fail: ")
    undone = {"turned by 90 degrees": "turned by 270 degrees", "turned by 270 degrees": "turned by 90 degrees"}
    assert undone.get(name, name) in found


def test_right_and_symmetric_networks_pass() -> None:
    assert asked(Corner()).startswith("pass: 40 of 40")
    assert asked(Corner(lambda x: (x + x.flip(3)) / 2)).startswith("pass: ")


def test_the_labels_are_named_where_the_data_name_them() -> None:
    order = [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]
    found = label_order_check(renumbered(order), labels(), CLASSES, 0.1, [f"name-{k}" for k in range(CLASSES)])
    assert "output 3 is label 5 name-5" in found.evidence
