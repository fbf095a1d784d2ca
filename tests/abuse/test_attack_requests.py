"""Bad requests to `attack`, and models that misbehave: clear, the right exit code, and nothing left changed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.cli.main import run_command
from secure_ai.files.safetensors import safetensors_bytes

NETWORK = """
import os, signal
import numpy as np
import torch
from torch import nn

class Rows(nn.Module):
    calls = 0
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 4, bias=False)
        weight = torch.zeros(4, 4, 4)
        weight[torch.arange(4), torch.arange(4)] = 1
        self.linear.weight.data = weight.flatten(1)
    def forward(self, x):
        Rows.calls += 1
        return self.linear(x.flatten(1))

class Stopping(Rows):
    def forward(self, x):
        if Rows.calls == int(os.environ.get("STOP_AT", "0")):
            os.kill(os.getpid(), signal.SIGTERM if os.environ.get("STOP_BY") == "term" else signal.SIGINT)
        return super().forward(x)

class NaN(Rows):
    def forward(self, x): return super().forward(x) * float("nan")
class NaNLater(Rows):
    def forward(self, x): return super().forward(x) / (Rows.calls < 40)
class Learning(Rows):
    def forward(self, x):
        with torch.no_grad(): self.linear.weight.add_(1e-4)
        return super().forward(x)
class Exiting(Rows):
    def forward(self, x): raise SystemExit(0)
class Double(Rows):
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        return super().forward(x)
def raising(): raise RuntimeError("no such luck")
def text(): return "a network"
def scores():
    network = Rows()
    return lambda x: network(torch.from_numpy(x))
def labels(): return lambda x: x[:, 0].sum(axis=2).argmax(axis=1)
"""
LINF = ["--norm", "linf", "--eps", "0.1", "--attack", "fgsm"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Code, data of 4 classes in several states, and weights that fit and do not fit."""
    folder = tmp_path_factory.mktemp("requests")
    y = np.arange(40) % 4
    x = np.random.default_rng(0).uniform(0, 0.2, (40, 1, 4, 4)).astype(np.float32)
    x[np.arange(40), 0, y] += 0.6
    data: dict[str, dict[str, Any]] = {
        "good": {"x": x, "y": y},
        "many": {"x": np.tile(x, (13, 1, 1, 1)), "y": np.tile(y, 13)},
        "empty": {"x": x[:0], "y": y[:0]},
        "one-class": {"x": x[y == 2], "y": y[y == 2]},
        "other-labels": {"x": x, "y": y + 3},
        "negative-labels": {"x": x, "y": y - 1},
        "bright": {"x": x * 2, "y": y},
        "dark": {"x": x / x.max() / 16, "y": y},
        "pairs": {"x": x, "y": y[:-1]},
    }
    paths = {name: folder / f"{name}.npz" for name in data}
    for name, arrays in data.items():
        np.savez(paths[name], **arrays)
    paths["net"] = folder / "net.py"
    paths["net"].write_text(NETWORK)
    paths["weights"] = folder / "weights.safetensors"
    weight = torch.zeros(4, 4, 4)
    weight[torch.arange(4), torch.arange(4)] = 1
    paths["weights"].write_bytes(safetensors_bytes({"linear.weight": weight.flatten(1).numpy()}, {}))
    paths["misfit"] = folder / "misfit.safetensors"
    misfit = {"linear.weight": np.ones((4, 9), np.float32), "head.bias": np.ones(4, np.float32)}
    paths["misfit"].write_bytes(safetensors_bytes(misfit, {}))
    return paths


def attack(
    capsys: pytest.CaptureFixture[str],
    files: dict[str, Path],
    factory: str,
    *words: str,
    data: str = "good",
    model: str | None = None,
) -> tuple[int, Any]:
    """Exit code and the one JSON document of a call."""
    named = ["--arch", f"{files['net']}:{factory}"] + (["--model", str(files[model])] if model else [])
    code = run_command(["attack", *named, "--data", str(files[data]), *(words or LINF), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def unchanged(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No call leaves a file, a random state, a mode or a signal handler behind."""
    monkeypatch.chdir(tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    folder = files["net"].parent

    def state() -> tuple[Any, ...]:
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
        return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled(), contents

    before = state()
    yield
    assert state() == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(tmp_path.iterdir()) == []


def test_the_good_request_is_served(capsys: pytest.CaptureFixture[str], files: dict[str, Path]) -> None:
    for model in (None, "weights"):
        code, content = attack(capsys, files, "Rows", model=model)
        assert (code, content["clean_accuracy"]["value"], content["model"]["access"]) == (0, 1.0, "gradients")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--attack", "pgd:steps=1000000000"], 2, "E_ATTACK"),
        (["--attack", "pgd:steps=100000:restarts=1000:eot_samples=1000"], 3, "E_COST_LIMIT"),
        (["--attack", "square:query_budget=10000000:restarts=1000"], 3, "E_COST_LIMIT"),
        (["--batch-size", "1000000"], 2, "E_USAGE"),
        (["--batch-size", "0"], 2, "E_USAGE"),
        (["--eps", "0"], 2, "E_BUDGET"),
        (["--eps", "-1/255"], 2, "E_USAGE"),
        (["--eps", "nan"], 2, "E_BUDGET"),
        (["--eps", "inf"], 2, "E_BUDGET"),
        (["--eps", "1.01"], 2, "E_BUDGET"),
        (["--norm", "l2", "--eps", "4.01"], 2, "E_BUDGET"),
        (["--norm", "l1", "--eps", "16.5"], 2, "E_BUDGET"),
        (["--norm", "l0", "--eps", "1.5"], 2, "E_BUDGET"),
        (["--norm", "l0", "--eps", "17"], 2, "E_BUDGET"),
        (["--n", "0"], 2, "E_USAGE"),
        (["--access", "nothing"], 2, "E_USAGE"),
        (["--access", "scores", "--attack", "pgd"], 2, "E_ATTACK"),
        (["--access", "labels", "--attack", "square"], 2, "E_ATTACK"),
    ],
)
def test_bad_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], words: list[str], code: int, error: str
) -> None:
    settings = {"--norm": "linf", "--eps": "0.1", "--attack": "fgsm"} | dict(zip(words[::2], words[1::2], strict=True))
    got, content = attack(capsys, files, "Rows", *(word for pair in settings.items() for word in pair))
    assert (got, content["error"]["code"]) == (code, error)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("empty", "E_EMPTY"), ("other-labels", "E_TARGET"), ("negative-labels", "E_LABEL"), ("bright", "E_PIXEL_RANGE"),
        ("pairs", "E_PAIR_COUNT"),
    ],
)  # fmt: skip
def test_bad_data_are_refused(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], data: str, error: str
) -> None:
    code, content = attack(capsys, files, "Rows", data=data)
    assert (code, content["error"]["code"]) == (2, error)


@pytest.mark.parametrize(
    ("data", "failing"), [("one-class", {"classes-in-data"}), ("dark", {"full-range"}), ("good", set())]
)
def test_data_of_one_class_or_nearly_black_make_the_number_doubtful(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], data: str, failing: set[str]
) -> None:
    code, content = attack(capsys, files, "Rows", data=data)
    checks = {check["id"]: check["outcome"] for check in content["trust"]["checks"]}
    assert (code, checks["same-answers-after"]) == (3 if data == "one-class" else 0, "pass")
    assert {name for name in ("classes-in-data", "full-range") if checks[name] == "fail"} == failing


@pytest.mark.parametrize(
    ("factory", "model", "error", "told"),
    [
        ("raising", None, "E_ARCH", "no such luck"),
        ("text", None, "E_ARCH", "no model"),
        ("absent", None, "E_ARCH", "no factory"),
        ("scores", "weights", "E_ARCH", "no network"),
        ("Rows", "misfit", "E_STATE_MISMATCH", "head.bias"),
        ("NaN", None, "E_TARGET", "NaN or infinity"),
        ("NaNLater", None, "E_TARGET", "NaN or infinity"),
        ("Learning", None, "E_TARGET", "linear.weight"),
        ("Exiting", None, "E_TARGET", "SystemExit"),
        ("Double", None, "E_TARGET", "default dtype"),
    ],
)
def test_bad_models_are_refused(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], factory: str, model: str | None, error: str, told: str
) -> None:
    words = ["--norm", "linf", "--eps", "0.01", "--attack", "pgd:steps=60"]
    code, content = attack(capsys, files, factory, *words, model=model)
    assert (code, content["error"]["code"]) == (2, error)
    assert told in json.dumps(content["error"])


@pytest.mark.parametrize(
    ("factory", "access", "names"),
    [("scores", "scores", ["square", "noise"]), ("labels", "labels", ["hopskipjump", "noise"])],
)
def test_callables_are_attacked_by_what_they_show(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], factory: str, access: str, names: list[str]
) -> None:
    words = ["--norm", "linf", "--eps", "0.4", "--access", access, "--n", "8"]
    code, content = attack(capsys, files, factory, *words)
    assert (code, content["model"]["access"], content["model"]["user_code"]) == (0, access, True)
    assert [row["name"] for row in content["attacks"]] == names
    assert 0 < content["attacks"][0]["queries"]["mean"] <= content["attacks"][0]["queries"]["max"] <= 5000
    assert content["attacks"][1]["queries"] is None
    assert content["trust"]["verdict"] == "doubtful"
    assert content["attack_success_rate"]["value"] > 0.5


@pytest.mark.parametrize(("by", "code"), [("int", 130), ("term", 143)])
def test_an_interrupted_attack_shows_what_it_has_and_says_that_it_is_incomplete(
    capsys: pytest.CaptureFixture[str],
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    code: int,
) -> None:
    monkeypatch.setenv("STOP_AT", "100")
    monkeypatch.setenv("STOP_BY", by)
    words = ["--norm", "linf", "--eps", "0.01", "--attack", "pgd:steps=500"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        got, content = attack(capsys, files, "Stopping", *words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (got, content["complete"], content["robust_accuracy"]["value"]) == (code, False, None)
    checks = {check["id"]: check["outcome"] for check in content["trust"]["checks"]}
    assert checks["complete"] == "fail"
    assert content["trust"]["verdict"] == "doubtful"


def test_what_an_interrupted_attack_has_finished_is_shown_and_saved(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C among the second 256 of 520 images: the first 256 were through every attack, and are kept."""
    monkeypatch.setenv("STOP_AT", "300")
    saved = tmp_path / "partial.npz"
    words = ["--norm", "linf", "--eps", "0.01", "--attack", "pgd:steps=150", "--save-adversarial", str(saved)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        got, content = attack(capsys, files, "Stopping", *words, data="many")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (got, content["complete"]) == (130, False)
    assert content["robust_accuracy"]["n"] == 256
    assert content["attacks"][0]["robust_accuracy"] == content["robust_accuracy"]
    assert content["trust"]["verdict"] == "doubtful"
    with np.load(saved) as arrays:
        assert arrays["x_adv"].shape == (256, 1, 4, 4)
    saved.unlink()  # the one file that a call may leave
