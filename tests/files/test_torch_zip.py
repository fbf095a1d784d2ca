"""Torch state dicts end to end: what comes back is what torch itself reads, number by number."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.core.errors import NonFiniteError, PickleRefusedError
from secure_ai.files.open import FileBytes
from secure_ai.files.torch_state import read_torch_state


def saved(value: Any, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 5, generator=generator)
    return {
        "conv.weight": torch.randn(2, 1, 3, 3, generator=generator),
        "view": base.t()[1:, ::2],
        "tied": base,
        "scalar": torch.tensor(7),
        "half": torch.randn(3, generator=generator).half(),
        "brain": torch.randn(3, generator=generator).bfloat16(),
        "double": torch.randn(3, generator=generator).double(),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def as_torch_reads(content: bytes) -> dict[str, Any]:
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    return {
        name: (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in loaded.items()
    }


def test_every_tensor_comes_back_as_torch_reads_it() -> None:
    content = saved(state())
    read = read_torch_state(FileBytes("m.pt", content))
    expected = as_torch_reads(content)
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read[name], array)


def test_a_checkpoint_gives_the_tensors_under_its_known_key() -> None:
    inner = {"w": torch.ones(2)}
    content = saved({"state_dict": inner, "epoch": 3, "optimizer": {"lr": 0.1, "steps": [1, 2]}})
    read = read_torch_state(FileBytes("m.pt", content))
    assert list(read) == ["w"]
    np.testing.assert_array_equal(read["w"], [1, 1])


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before-1.6"])
@pytest.mark.parametrize("key", ["net", "model", "state_dict", "model_state_dict", "weights"])
def test_any_key_of_a_checkpoint_may_hold_the_weights(key: str, zipped: bool) -> None:
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    whole = {key: network.state_dict(), "epoch": 3, "acc": 91.5, "optimizer": optimizer.state_dict(), "best": None}
    read = read_torch_state(FileBytes("m.pt", saved(whole, zipped=zipped)))
    assert {name: tuple(array.shape) for name, array in read.items()} == {"weight": (2, 2), "bias": (2,)}


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before-1.6"])
def test_what_training_keeps_beside_the_weights_is_left_out(zipped: bool) -> None:
    """Optimisers, schedulers, the scaler of mixed precision and the random generator's state, as torch has them."""
    network = torch.nn.Linear(3, 2)
    adam, sgd = torch.optim.Adam(network.parameters()), torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 3)).sum().backward()
    adam.step()
    sgd.step()
    schedules = (
        torch.optim.lr_scheduler.StepLR(adam, 3),
        torch.optim.lr_scheduler.MultiStepLR(sgd, [3, 5]),
        torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 3),
    )
    content = {
        "net": network.state_dict(), "epoch": 3, "best": torch.tensor(0.9), "optimisers": [adam.state_dict(),
        sgd.state_dict()], "schedules": [one.state_dict() for one in schedules], "rng": torch.get_rng_state(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(), "history": {"loss": [0.3, 0.2], "acc": (1, None)},
    }  # fmt: skip
    found = read_torch_state(FileBytes("c.pt", saved(content, zipped=zipped)))
    assert found.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(found["weight"], network.weight.detach().numpy())


def test_of_several_state_dicts_one_must_be_named() -> None:
    file = FileBytes("m.pt", saved({"model": {"w": torch.ones(2)}, "ema": {"w": torch.zeros(2)}, "epoch": 3}))
    with pytest.raises(PickleRefusedError) as raised:
        read_torch_state(file)
    assert raised.value.got == "model, ema"
    assert raised.value.hint == "--weights-key model"
    assert read_torch_state(file, "ema")["w"].tolist() == [0, 0]
    for key in ("epoch", "nothing"):
        with pytest.raises(PickleRefusedError):
            read_torch_state(file, key)


def test_the_format_before_1_6_comes_back_as_torch_reads_it() -> None:
    content = saved(state(), zipped=False)
    read = read_torch_state(FileBytes("m.pt", content))
    expected = as_torch_reads(content)
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_weights_that_are_not_finite_are_named() -> None:
    weights = {"first": torch.ones(2), "second.bias": torch.tensor([1.0, float("nan")])}
    with pytest.raises(NonFiniteError) as raised:
        read_torch_state(FileBytes("m.pt", saved(weights)))
    assert "second.bias" in raised.value.where
    assert "first" not in raised.value.where


def test_tensors_of_one_view_share_one_array_and_nobody_can_write_into_it() -> None:
    weight = torch.arange(6.0)
    read = read_torch_state(FileBytes("m.pt", saved({"a": weight, "b": weight, "part": weight[2:4]})))
    assert read["a"] is read["b"]
    assert read["part"].tolist() == [2.0, 3.0]
    assert not any(array.flags.writeable for array in read.values())


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "good.pt").write_bytes(saved(state()))
    code = (
        "import sys; from secure_ai.files.open import read_file\n"
        "from secure_ai.files.torch_state import read_torch_state\n"
        "print(len(read_torch_state(read_file(sys.argv[1], max_bytes=100000))), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "good.pt")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{len(state())} False\n"


def test_a_refusal_imports_neither_torch_nor_keras(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(saved(torch.nn.Linear(1, 1)))
    code = (
        "import sys; from secure_ai.core.errors import PickleRefusedError; from secure_ai.files.open import read_file\n"
        "from secure_ai.files.torch_state import read_torch_state\n"
        "import secure_ai.files.keras\n"
        "try: read_torch_state(read_file(sys.argv[1], max_bytes=100000))\n"
        "except PickleRefusedError: print(sorted({'torch', 'keras', 'h5py', 'safetensors'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bad.pt")], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
