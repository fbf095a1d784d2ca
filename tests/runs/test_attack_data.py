"""`secure_ai.attack` on tensors, arrays, data sets and loaders of the caller's, and what its result can do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import secure_ai
from secure_ai.core.errors import (
    BudgetError,
    EmptyDataError,
    FormatError,
    LabelError,
    NonFiniteError,
    PairCountError,
    PixelRangeError,
    SecureAIError,
    ShapeError,
    TargetError,
    UsageError,
)
from secure_ai.core.events import ignore_event
from secure_ai.data.dataset import Dataset
from secure_ai.runs.given_data import Data, dataset_of
from secure_ai.runs.model_spec import ModelSpec

N = 24


@pytest.fixture
def x() -> Tensor:
    """(N, 3, 6, 5); row k of the first channel is bright in class k."""
    images = torch.rand(N, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 0.2
    images[torch.arange(N), 0, torch.arange(N) % 4] += 0.6
    return images


@pytest.fixture
def y() -> Tensor:
    return torch.arange(N) % 4


def rows() -> nn.Sequential:
    """The sum over row k of the first channel scores class k."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 4, bias=False), nn.Dropout(0.5))
    weight = torch.zeros(4, 3, 6, 5)
    weight[torch.arange(4), 0, torch.arange(4)] = 1
    network[1].weight.data = weight.flatten(1)
    return network


def given(data: Data, n: int | None = None) -> Dataset:
    return dataset_of(data, split="test", n=n, seed=0, events=ignore_event)


class Items(TorchDataset[tuple[np.ndarray, int]]):
    """What a user's own data set returns: arrays and plain numbers; an index past the end wraps around."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.x[index % N].numpy(), int(self.y[index % N])


def test_every_form_of_the_same_data_has_the_same_digest(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=y.numpy())
    forms: list[Data] = [
        (x, y),
        (x.numpy(), y.numpy()),
        (x.permute(0, 2, 3, 1).numpy(), y.tolist()),
        (x.double(), y.int()),
        TensorDataset(x, y),
        Items(x, y),
        DataLoader(TensorDataset(x, y), batch_size=7),
        str(tmp_path / "d.npz"),
        tmp_path / "d.npz",
        given((x, y)),
    ]
    assert {given(form).digest for form in forms} == {given((x, y)).digest}
    assert {given(form, n=10).digest for form in forms} == {given((x[:10], y[:10])).digest}
    assert {given(form, n=10).drawn for form in forms} == {"first"}


def shuffled(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))


def once(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield x, y


@pytest.mark.parametrize(
    ("make", "error", "hint"),
    [
        (shuffled, UsageError, "shuffle=False"),
        (once, UsageError, "loader"),
        (lambda x, y: DataLoader(TensorDataset(x[:0], y[:0])), EmptyDataError, ""),
        (lambda x, y: [], EmptyDataError, ""),
        (lambda x, y: TensorDataset(x), FormatError, ""),
        (lambda x, y: TensorDataset(x, y, y), FormatError, ""),
        (lambda x, y: (x, y, y), FormatError, ""),
        (lambda x, y: 3, FormatError, ""),
        (lambda x, y: [(x, y[:-1])], ShapeError, ""),
        (lambda x, y: [(x, y), (x[..., :4], y)], ShapeError, ""),
        (lambda x, y: (x, y[:-1]), PairCountError, ""),
        (lambda x, y: (x[:, 0, 0], y), ShapeError, ""),
        (lambda x, y: (x, y.float()), LabelError, ""),
        (lambda x, y: (x, y - 1), LabelError, ""),
        (lambda x, y: ((x - 0.5) / 0.2, y), PixelRangeError, "mean="),
        (lambda x, y: (x * 255, y), PixelRangeError, "255"),
        (lambda x, y: (x / 0, y), NonFiniteError, ""),
    ],
)
def test_data_that_cannot_be_used_is_refused(
    make: Callable[[Tensor, Tensor], Any], error: type[SecureAIError], hint: str, x: Tensor, y: Tensor
) -> None:
    with pytest.raises(error) as raised:
        given(make(x, y))
    assert type(raised.value) is error
    assert hint in raised.value.hint


def test_tensors_and_a_number_give_what_the_command_would(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=y.numpy())
    network = rows()
    ours = secure_ai.attack(network, (x, y), norm="linf", eps=0.4, attack="pgd:steps=5")
    text = secure_ai.attack(network, str(tmp_path / "d.npz"), norm="linf", eps="2/5", attack="pgd:steps=5")
    assert (ours.clean_accuracy.value, ours.robust_accuracy.value) == (1.0, 0.0)
    assert text.robust_accuracy == ours.robust_accuracy
    assert text.trust.verdict is ours.trust.verdict
    assert network.training
    weak = secure_ai.attack(network, (x, y), norm="linf", eps=0.1, attack="pgd:steps=5")
    assert weak.robust_accuracy.value == 1.0
    with pytest.raises(BudgetError):
        secure_ai.attack(network, (x, y), norm="linf", eps=8)
    with pytest.raises(TargetError):
        secure_ai.attack(network, (x, y + 1), norm="linf", eps=0.1, attack="fgsm")


def test_the_normalisation_is_an_argument(x: Tensor, y: Tensor) -> None:
    plain = secure_ai.attack(rows(), (x, y), norm="linf", eps=0.3, attack="fgsm")

    class Denormalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = rows()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x * 0.25 + 0.5)
            return logits

    fed = secure_ai.attack(Denormalised(), (x, y), norm="linf", eps=0.3, attack="fgsm", mean=(0.5,), std=(0.25,))
    assert fed.robust_accuracy == plain.robust_accuracy
    assert fed.clean_accuracy.value == 1.0


def test_a_function_of_labels(x: Tensor, y: Tensor) -> None:
    network = rows().eval()
    report = secure_ai.attack(
        lambda images: network(torch.from_numpy(images)).argmax(1),
        (x, y), norm="linf", eps=0.4, attack="noise", access="labels",
    )  # fmt: skip
    assert report.result.access == "labels"


def test_a_model_is_said_in_one_way(x: Tensor, y: Tensor) -> None:
    for arguments in ({"arch": "report1-cnn"}, {"access": "gradients"}):
        model: Any = rows() if "arch" in arguments else (lambda images: images)
        with pytest.raises(UsageError):
            secure_ai.attack(model, (x, y), norm="linf", eps=0.1, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        secure_ai.attack(ModelSpec(model="m.pt"), (x, y), norm="linf", eps=0.1, mean=(0.1,))


def test_a_file_may_be_named_by_its_path(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(90, 4, bias=False), nn.Dropout(0.5))\n"
    )
    torch.save(rows().state_dict(), tmp_path / "mine.pt")
    report = secure_ai.attack(
        tmp_path / "mine.pt", (x, y), arch=f"{tmp_path}/net.py:build", norm="linf", eps=0.4, attack="pgd:steps=5"
    )
    assert report.robust_accuracy.value == 0.0
    assert report.command == ""


def test_the_result_shows_and_keeps_itself(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    network = rows().eval()
    report = secure_ai.attack(network, (x, y), norm="linf", eps=0.4, attack="pgd:steps=5")
    assert len(repr(report)) < 200
    assert report.trust.verdict.value in repr(report)
    html = report._repr_html_()
    assert html.count("<tr>") == 2 + 1 + sum(check.outcome.value != "pass" for check in report.trust.checks)
    assert not re.findall(r"<(?!/?(div|p|b|br|table|tr|td|th)>)", html)
    report.save(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(json.dumps(report.as_json()))
    examples = report.examples
    assert (examples.x_adv.shape, str(examples.x_adv.dtype)) == ((N, 3, 6, 5), "float32")
    assert np.array_equal(examples.y, y.numpy())
    with torch.no_grad():
        assert np.array_equal(network(torch.from_numpy(examples.x_adv.copy())).argmax(1).numpy(), examples.predictions)
    assert (examples.predictions != examples.y).all()
    report.save_examples(tmp_path / "e.npz")
    again = secure_ai.attack(network, (x, y), norm="linf", eps=0.4, attack=f"examples:{tmp_path / 'e.npz'}")
    assert again.robust_accuracy.value == 0.0
    with pytest.raises(UsageError):
        report.save(tmp_path / "r.txt")
    with pytest.raises(UsageError):
        report.save_examples(tmp_path / "e.pt")
    lean = secure_ai.attack(network, (x, y), norm="linf", eps=0.4, attack="fgsm", keep_examples=False)
    with pytest.raises(UsageError):
        _ = lean.examples


def test_an_exception_of_the_users_module_is_the_cause(x: Tensor, y: Tensor) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("mine")

    with pytest.raises(TargetError) as raised:
        secure_ai.attack(Broken(), (x, y), norm="linf", eps=0.1, attack="fgsm")
    causes = [raised.value.__cause__, getattr(raised.value.__cause__, "__cause__", None)]
    assert any(isinstance(cause, KeyError) for cause in causes)


def test_a_gpu_that_is_not_there_is_an_error_of_the_environment(x: Tensor, y: Tensor) -> None:
    with pytest.raises(UsageError):
        secure_ai.attack(rows(), (x, y), norm="linf", eps=0.1, device="tpu")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(SecureAIError) as raised:
            secure_ai.attack(rows(), (x, y), norm="linf", eps=0.1, device="cuda")
        assert (raised.value.code, raised.value.exit_code) == ("E_ENVIRONMENT", 3)
