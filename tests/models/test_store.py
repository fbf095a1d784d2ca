import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.errors import (
    ArchError,
    FileMissingError,
    FormatError,
    PickleRefusedError,
    SecureAIError,
    ShapeError,
    StateMismatchError,
    UsageError,
)
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.load.artifact import BUILT_IN, read_arch, read_artifact
from secure_ai.models.load.store import LoadedModel, load_model, make_target, model_bytes, save_model
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.tensors import state_digest, to_channels_last

Events = list[tuple[str, dict[str, Any]]]

FACTORY = """
from __future__ import annotations
from dataclasses import dataclass
import torch

@dataclass
class Sizes:
    classes: int = 3

def build():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(99)
    print("building")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, Sizes().classes, dtype=torch.float32))
"""


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def saved(path: Path, net: nn.Module, arch: str = "") -> Path:
    save_model(net, path, arch=arch)
    return path


def code(folder: Path, text: str = FACTORY, name: str = "net.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return f"{folder / name}:build"


def sink(events: Events) -> Any:
    def record(kind: str, data: Mapping[str, Any]) -> None:
        events.append((kind, dict(data)))

    return record


# --- what is saved is what is loaded ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_network_comes_back_without_arch(name: str, tmp_path: Path) -> None:
    original, events = build_network(name, generator=torch.Generator().manual_seed(0)), Events()
    path = saved(tmp_path / "model.bin", original, name)
    loaded = load_model(path, classes=10, input_shape=(1, 28, 28), events=sink(events))
    assert (loaded.arch, loaded.format, loaded.name) == (name, "safetensors", "model.bin")
    assert loaded.digest == state_digest(original.state_dict())
    assert not loaded.user_code
    assert not loaded.network.training
    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.network(x), original(x))
    assert [kind for kind, _ in events] == ["model_read", "model_loaded"]
    assert events[0][1] == {"name": "model.bin", "format": "safetensors", "sha256": loaded.file_sha256}


def test_equal_weights_give_equal_bytes() -> None:
    first, second = (build_network("report1-cnn", generator=torch.Generator().manual_seed(0)) for _ in range(2))
    to_channels_last(second)
    metadata = {"note": "n", "seed": "0", "method": "natural"}
    content = model_bytes(first, "report1-cnn", metadata)
    assert model_bytes(second, "report1-cnn", dict(reversed(metadata.items()))) == content
    assert model_bytes(first, "report1-cnn") != content


def test_a_torch_state_dict_comes_back(tmp_path: Path) -> None:
    original = build_network("report1-cnn", generator=torch.Generator().manual_seed(0))
    torch.save(original.state_dict(), tmp_path / "model.safetensors")  # the name says nothing
    loaded = load_model(tmp_path / "model.safetensors", arch="report1-cnn")
    assert loaded.format == "torch_zip"
    assert loaded.digest == state_digest(original.state_dict())


# --- the user's code --------------------------------------------------------------------------------------------------


def test_a_factory_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, events = network(), Events()
    path, text = saved(tmp_path / "m", net, "net.py:build"), code(tmp_path)
    before = torch.get_rng_state()
    loaded = load_model(path, arch=text, events=sink(events))
    assert loaded.user_code
    assert (loaded.arch, loaded.input_shape, loaded.num_classes) == ("net.py:build", None, None)
    x = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.network(x), net(x))
    assert [kind for kind, _ in events] == ["model_read", "user_code", "model_loaded"]
    assert events[1][1] == {"arch": "net.py:build", "sha256": read_arch(text).code_sha256}
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
    assert capsys.readouterr() == ("", "building\n")
    assert str(tmp_path) not in sys.path


def test_a_factory_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code(tmp_path, name="my_nets.py")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_model(saved(tmp_path / "m", network()), arch="my_nets:build")
    assert loaded.user_code
    assert loaded.arch == "my_nets:build"


def test_a_factory_may_import_its_neighbour(tmp_path: Path) -> None:
    code(tmp_path, name="neighbour_of_net.py")
    text = code(tmp_path, "from neighbour_of_net import build\n")
    assert load_model(saved(tmp_path / "m", network()), arch=text).arch == "net.py:build"


def test_a_factory_knows_its_own_file(tmp_path: Path) -> None:
    text = code(tmp_path, "from pathlib import Path\nexec(Path(__file__).with_name('part.py').read_text())\n")
    code(tmp_path, name="part.py")
    assert load_model(saved(tmp_path / "m", network()), arch=text).arch == "net.py:build"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise OSError('gone')", "OSError: gone"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("def other(): ...", "nothing of that name"),
        ("build = 3", "int"),
        ("import torch\nbuild = torch.nn.ReLU()", "ReLU"),
        ("def build(size): ...", "TypeError"),
        ("def build():\n    raise KeyboardInterrupt", ""),
        ("def build():\n    return 1 / 0", "ZeroDivisionError"),
        ("def build():\n    return {'a': 1}", "dict"),
    ],
)
def test_a_bad_factory_is_named(text: str, told: str, tmp_path: Path) -> None:
    path, arch = saved(tmp_path / "m", network()), code(tmp_path, text)
    if not told:
        with pytest.raises(KeyboardInterrupt):  # Ctrl-C is the user's, not the factory's
            load_model(path, arch=arch)
        return
    with pytest.raises(ArchError) as caught:
        load_model(path, arch=arch)
    assert told in caught.value.got
    assert caught.value.where == "net.py:build"


@pytest.mark.parametrize("text", ["def build(:", "a\0b", "x = " + "(" * 500 + ")" * 500])
def test_a_file_that_is_not_python_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArchError, match="not Python"):
        read_arch(code(tmp_path, text))


def test_reading_arch_runs_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    arch = read_arch(code(tmp_path, f"open({str(canary)!r}, 'w')"))
    assert arch.text == "net.py:build"
    assert not canary.exists()


@pytest.mark.parametrize("text", ["", "report3-cnn", "net.py", "net.py:", ":build", "a b:build", "net:3", "a..b:c"])
def test_other_architectures_are_refused(text: str) -> None:
    with pytest.raises(ArchError):
        read_arch(text)


def test_a_file_that_is_missing_is_said_to_be() -> None:
    with pytest.raises(FileMissingError):
        read_arch("no-such-file.py:build")


def test_a_model_file_chooses_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code(tmp_path, f"open({str(canary)!r}, 'w')\n" + FACTORY, name="evil.py")
    for arch in ("evil.py:build", "evil:build", str(tmp_path / "evil.py:build")):
        with pytest.raises(ArchError) as named:
            load_model(saved(tmp_path / "m", network(), arch))
        assert repr(arch) in named.value.got
    assert not canary.exists()
    with pytest.raises(ArchError) as unnamed:
        load_model(saved(tmp_path / "m", network()))
    assert unnamed.value.expected.startswith("--arch ")


# --- weights that do not fit ------------------------------------------------------------------------------------------


class Wider(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.zeros(2)) for _ in range(3))


def test_every_kind_of_misfit_is_listed(tmp_path: Path) -> None:
    arch = code(tmp_path, "import torch\nclass build(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        for n in 'bcde':\n"
        "            setattr(self, n, torch.nn.Parameter(torch.zeros(3 if n == 'b' else 2)))\n")  # fmt: skip
    net = Wider()
    net.c = nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    with pytest.raises(StateMismatchError) as caught:
        load_model(saved(tmp_path / "m", net), arch=arch)
    assert caught.value.got == (
        "missing: d, e; unexpected: a; "
        "other shape or type: b (2,) float32 for (3,) float32, c (2,) int32 for (2,) float32"
    )
    assert caught.value.hint == ""


@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "model", "module.model", "module._orig_mod.net"])
def test_what_a_wrapper_put_before_every_name_is_left_out_and_said(tmp_path: Path, prefix: str) -> None:
    inner = network()
    arrays = {f"{prefix}.{name}": tensor.numpy() for name, tensor in inner.state_dict().items()}
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(arrays, {}))
    loaded = load_model(path, arch=code(tmp_path))
    assert loaded.digest == state_digest(inner.state_dict())
    assert any(f"`{prefix}.`" in note for note in loaded.notes)


@pytest.mark.parametrize("change", ["one-without", "unknown-word", "two-words"])
def test_names_that_do_not_all_begin_with_a_wrapper_s_do_not_fit(tmp_path: Path, change: str) -> None:
    whole = network().state_dict()
    prefixes = {
        "one-without": ["", *["module."] * 99],
        "unknown-word": ["x."] * 99,
        "two-words": ["net.", "model."] * 99,
    }
    pairs = zip(prefixes[change], whole.items(), strict=False)
    arrays = {f"{before}{name}": tensor.numpy() for before, (name, tensor) in pairs}
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(arrays, {}))
    with pytest.raises(StateMismatchError):
        load_model(path, arch=code(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_float_type_are_taken_and_said(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in network().state_dict().items()}
    torch.save(state, tmp_path / "m.pt")
    loaded = load_model(tmp_path / "m.pt", arch=code(tmp_path))
    assert {tensor.dtype for tensor in loaded.network.state_dict().values()} == {torch.float32}
    converted = dtype is not torch.bfloat16  # whose values the reader has as float32 already
    assert any("converted" in note for note in loaded.notes) is converted


def test_a_network_that_refuses_its_weights_is_named(tmp_path: Path) -> None:
    text = FACTORY + "\nclass Own(torch.nn.Sequential):\n    def load_state_dict(self, *a, **k):\n"
    text += "        raise RuntimeError('not these')\ninner = build\n"
    text += "def build():\n    return Own(*inner())\n"
    with pytest.raises(StateMismatchError, match="not these"):
        load_model(saved(tmp_path / "m", network()), arch=code(tmp_path, text))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", FormatError),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), FormatError),
        (pickle.dumps({"a": 1}), PickleRefusedError),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), FormatError),
        (b"not a model at all, only text", FormatError),
        (b"\x08\0\0\0\0\0\0\0{      }", SecureAIError),
    ],
)
def test_other_files_are_refused_and_recorded(content: bytes, error: type[SecureAIError], tmp_path: Path) -> None:
    events = Events()
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(error) as caught:
        read_artifact(tmp_path / "m.safetensors", events=sink(events))
    assert events == [("model_refused", {"name": "m.safetensors", "code": caught.value.code})]


def test_a_refusal_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(pickle.dumps([1]))
    script = (
        "import sys\nfrom secure_ai.models.load.artifact import read_arch, read_artifact\n"
        "from secure_ai.core.errors import PickleRefusedError\nread_arch('report1-cnn')\n"
        "try:\n    read_artifact(sys.argv[1])\nexcept PickleRefusedError:\n    print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bad")]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "False\n"


def test_a_network_for_other_data_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m", build_network("report1-cnn", generator=torch.Generator()), "report1-cnn")
    assert load_model(path, classes=10, input_shape=(1, 28, 28)).num_classes == 10
    assert load_model(path, classes=9).num_classes == 10
    with pytest.raises(ShapeError) as refused:
        load_model(path, classes=11)
    assert (refused.value.expected, refused.value.got) == (">= 11 (data)", "10")
    with pytest.raises(ShapeError, match="other images"):
        load_model(path, input_shape=(3, 28, 28))


# --- targets ----------------------------------------------------------------------------------------------------------


def loaded_model() -> LoadedModel:
    net = build_network("report1-cnn", generator=torch.Generator())
    return LoadedModel(network=net, name="m", digest="d", file_sha256="f", format="safetensors", arch="report1-cnn")


def test_a_target_is_in_evaluation_mode_and_laid_out_for_speed() -> None:
    loaded = loaded_model()
    target = make_target(loaded, input_shape=(1, 28, 28), num_classes=10, batch_size=3)
    assert not target.network.training
    assert target.network.get_parameter("conv2.weight").is_contiguous(memory_format=torch.channels_last)
    assert (target.name, target.digest, target.batch_size, target.dimensions) == ("m", "d", 3, 784)
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(target.logits(x), loaded.network(x))


def test_a_target_prepares_pixels_as_told() -> None:
    loaded = loaded_model()
    target = make_target(
        loaded, input_shape=(1, 28, 28), num_classes=10, mean=(0.1,), std=(0.5,), value_range=(-1.0, 1.0)
    )
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(target.logits(x), loaded.network((2 * x - 1 - 0.1) / 0.5))


@pytest.mark.parametrize(
    "settings",
    [
        {"mean": (0.1, 0.2)},
        {"mean": (float("nan"),)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"std": (float("inf"),)},
        {"value_range": (1.0, 1.0)},
        {"value_range": (0.0, float("inf"))},
    ],
)
def test_unusable_settings_of_a_target_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_target(loaded_model(), input_shape=(1, 28, 28), num_classes=10, **settings)


def test_a_target_of_other_data_is_refused() -> None:
    loaded = dataclasses.replace(loaded_model(), num_classes=10)
    assert make_target(loaded, input_shape=(1, 28, 28), num_classes=4).num_classes == 10
    with pytest.raises(ShapeError):
        make_target(loaded, input_shape=(1, 28, 28), num_classes=11)


def test_arrays_of_a_file_are_not_shared_with_the_network(tmp_path: Path) -> None:
    artifact = read_artifact(saved(tmp_path / "m", network()))
    assert all(not array.flags.writeable for array in artifact.arrays.values())
    assert {array.dtype for array in artifact.arrays.values()} == {np.dtype(np.float32)}
