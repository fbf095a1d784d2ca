"""The one place that decides threads and precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from secure_ai.core import compute
from secure_ai.core.compute import configure, lower_precision
from secure_ai.core.errors import UsageError
from secure_ai.core.machine import describe_machine
from secure_ai.core.parallel import torch_threads


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1025", "1.5", " 2", "2,1", "\u0663", "9" * 30])
def test_a_bad_number_of_threads_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(UsageError) as caught:
        configure()
    assert (caught.value.where, caught.value.exit_code) == ("OMP_NUM_THREADS", 2)


def test_threads_are_the_callers_and_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for count in (1, 2):
        torch.set_num_threads(count)
        assert configure().threads == torch.get_num_threads() == count
    with torch_threads(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("flags", "training"),
    [
        (frozenset(), torch.float32),
        (frozenset({"avx512_bf16"}), torch.bfloat16),
        (frozenset({"amx_bf16", "avx512_bf16"}), torch.bfloat16),
    ],
)
def test_precision_follows_the_processor(
    flags: frozenset[str], training: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "cpu_flags", lambda: flags)
    assert configure().training_dtype is training
    assert configure("float32").training_dtype is torch.float32


def test_lower_precision_is_a_switch() -> None:
    x = torch.ones(4, 4)
    with lower_precision(torch.float32):
        assert (x @ x).dtype is torch.float32
    with lower_precision(torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
    assert (x @ x).dtype is torch.float32


def test_what_is_written_down_about_the_machine_names_neither_host_nor_user() -> None:
    assert set(describe_machine()) == {"system", "processor", "cores", "bf16_units", "python"}
    assert configure("float32").as_json() == {
        "threads": torch.get_num_threads(),
        "training_dtype": "float32",
        "device": "cpu",
    }
