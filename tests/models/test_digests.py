"""What names a user's network: its code, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.errors import ArchError
from secure_ai.models.load import code_digest as code
from secure_ai.models.load.code_digest import code_digest
from secure_ai.models.target.access import Access
from secure_ai.models.target.answers import answers_digest
from secure_ai.models.target.target import NetworkTarget


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "net.py").write_text("def net(): return None\n")
    (tmp_path / "parts" / "layer.py").write_text("WIDTH = 1\n")
    return tmp_path / "net.py"


def change(path: str, text: str) -> Callable[[Path], None]:
    def done(folder: Path) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)

    return done


@pytest.mark.parametrize(
    ("do", "counts"),
    [
        (change("net.py", "def net(): return 1\n"), True),
        (change("parts/layer.py", "WIDTH = 2\n"), True),
        (change("helper.py", ""), True),
        (lambda folder: (folder / "parts" / "layer.py").rename(folder / "parts" / "other.py"), True),
        (change("notes.txt", "text"), False),
        (change(".venv/library.py", "WIDTH = 2\n"), False),
    ],
)
def test_every_python_file_of_the_folder_counts(net: Path, do: Callable[[Path], None], counts: bool) -> None:
    before = code_digest(f"{net}:net")
    assert code_digest(f"{net}:net") == before
    do(net.parent)
    assert (code_digest(f"{net}:net") != before) is counts


def test_in_a_crowded_folder_its_own_files_count(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MAX_FILES", 1)
    before = code_digest(f"{net}:net")
    (net.parent / "parts" / "layer.py").write_text("WIDTH = 2\n")
    assert code_digest(f"{net}:net") == before
    (net.parent / "helper.py").write_text("")
    assert code_digest(f"{net}:net") != before


def test_what_is_no_file_has_no_digest(net: Path) -> None:
    assert code_digest(None) == code_digest("report1-cnn") == code_digest("package.module:factory") == ""
    assert code_digest(f"{net}:net") != code_digest(f"{net}:other")
    net.write_text("def")
    with pytest.raises(ArchError):
        code_digest(f"{net}:net")


class Linear(nn.Module):
    def __init__(self, through: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 48).reshape(3, 16))
        self.through = through

    def forward(self, x: Tensor) -> Tensor:
        return self.through(x.flatten(1)) @ self.weight.T


class _SameForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


def digest_of(network: nn.Module, access: Access = "gradients") -> str | None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand((64, 1, 4, 4), generator=draw), torch.randint(0, 3, (64,), generator=draw)
    target = NetworkTarget(network, name="n", digest="", input_shape=(1, 4, 4), num_classes=3, access=access)
    found = answers_digest(target, x, y)
    assert (target.passes.forward, target.passes.backward) == (0, 0)
    return found


def test_one_network_has_one_digest_and_a_change_of_weights_or_of_its_gradient_another() -> None:
    plain = digest_of(Linear())
    assert plain is not None
    assert digest_of(Linear()) == plain
    other = Linear()
    other.weight.data[0, 0] += 1e-6
    assert digest_of(other) != plain
    doubled = Linear(_SameForward.apply)
    assert digest_of(doubled, "scores") == digest_of(Linear(), "scores")
    assert digest_of(doubled) != plain


def test_a_network_that_answers_otherwise_the_second_time_has_none() -> None:
    calls: list[int] = []

    def drifting(x: Tensor) -> Tensor:
        calls.append(1)
        return x + 1e-3 * len(calls)

    assert digest_of(Linear(drifting)) is None
    assert digest_of(Linear(lambda x: x + torch.rand(()))) is None
