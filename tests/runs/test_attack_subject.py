"""The verb `attack` on a model that is given in Python."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import secure_ai
from secure_ai.cli.main import run_command
from secure_ai.cli.options import ModelOptions
from secure_ai.cli.render import print_attack
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.results import Drawn
from secure_ai.core.trust import CheckOutcome
from secure_ai.data.dataset import Dataset
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.tensors import state_digest
from secure_ai.red.evasion.trust.data_checks import data_checks
from secure_ai.runs.model_spec import ModelSpec


def rows() -> nn.Sequential:
    """The sum over row k scores class k."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False), nn.Dropout(0.5))
    weight = torch.zeros(4, 4, 4)
    weight[torch.arange(4), torch.arange(4)] = 1
    network[1].weight.data = weight.flatten(1)
    return network


ROWS_AS_CODE = """
import torch
from torch import nn

def factory():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    network[1].weight.data = torch.eye(4).repeat_interleave(4, dim=1)
    return network
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    y = np.arange(24) % 4
    x = np.random.default_rng(0).uniform(0, 0.2, (24, 1, 4, 4)).astype(np.float32)
    x[np.arange(24), 0, y] += 0.6
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return str(tmp_path / "data.npz")


def test_a_network_is_attacked_as_a_copy(data: str) -> None:
    network = rows()
    before = state_digest(network.state_dict())
    report = secure_ai.attack(network, data, norm="linf", eps="0.4", attack="pgd:steps=5")
    assert report.result.clean_accuracy.value == 1.0
    assert report.result.robust_accuracy.value == 0.0
    assert report.as_json()["model"]["digest"] == before == state_digest(network.state_dict())
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_a_callable_is_attacked_by_its_scores_and_its_examples_can_be_saved(data: str, tmp_path: Path) -> None:
    network = rows().eval()
    saved = tmp_path / "adv.npz"
    report = secure_ai.attack(
        lambda x: network(torch.from_numpy(x)).detach(), data, norm="linf", eps="0.4", save_adversarial=saved
    )
    content = report.as_json()
    assert (content["model"]["format"], content["model"]["access"], content["model"]["digest"]) == (
        "callable", "scores", "",
    )  # fmt: skip
    assert [row["name"] for row in content["attacks"]] == ["square", "noise"]
    assert report.result.robust_accuracy.value == 0.0
    with np.load(saved) as arrays:
        assert network(torch.from_numpy(arrays["x_adv"])).argmax(1).ne(torch.from_numpy(arrays["y"])).all()
        assert arrays["complete"].all()
    again = secure_ai.attack(network, data, norm="linf", eps="0.4", attack=f"examples:{saved}")
    assert again.result.robust_accuracy.value == 0.0
    unknown = [check for check in again.trust.checks if check.id == "made-for-another-network"]
    assert [check.outcome for check in unknown] == [CheckOutcome.NOT_RUN]
    secure_ai.attack(network, data, norm="linf", eps="0.4", attack="fgsm", save_adversarial=saved)
    callable_scored = secure_ai.attack(
        lambda x: network(torch.from_numpy(x)).detach(), data, norm="linf", eps="0.4", attack=f"examples:{saved}"
    )
    unknown = [check for check in callable_scored.trust.checks if check.id == "made-for-another-network"]
    assert [check.outcome for check in unknown] == [CheckOutcome.NOT_RUN]


def test_a_finding_names_the_command_that_finds_it_again(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "a net.py"
    code.write_text(ROWS_AS_CODE)
    spec = ModelSpec(arch=f"{code}:factory", std=(0.3,))
    report = secure_ai.attack(spec, data, norm="linf", eps="0.4", attack="pgd:steps=5", n=20, seed=3)
    (finding,) = report.findings
    tool, *words = shlex.split(finding.reproduce)
    assert tool == "secure-ai"
    assert run_command([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    timed = {"attacks": None, "probe_seconds": None}
    assert {**again, **timed} == {**report.as_json(), **timed}
    in_python = secure_ai.attack(rows(), data, norm="linf", eps="0.4", attack="pgd:steps=5")
    assert [found.reproduce for found in in_python.findings] == [""]


def test_an_interruption_of_the_checks_keeps_the_finished_suite(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secure_ai.red.evasion.trust.judged.diagnose", interrupted)
    monkeypatch.setattr("secure_ai.red.evasion.trust.judged.SETTLED_BY", frozenset())
    saved = tmp_path / "adv.npz"
    report = secure_ai.attack(rows(), data, norm="linf", eps="0.4", attack="pgd:steps=5", save_adversarial=saved)
    assert isinstance(report.result.interruption, KeyboardInterrupt)
    assert report.result.complete
    assert report.as_json()["complete"] is False
    print_attack(report)
    assert "stopped" in capsys.readouterr().out
    assert report.result.robust_accuracy.value == 0.0
    assert [check.outcome for check in report.trust.checks if check.id == "checks-finished"] == [CheckOutcome.FAIL]
    with np.load(saved) as arrays:
        assert len(arrays["x_adv"]) == 24


def test_examples_are_written_to_npz_files_only(data: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim.pt"
    victim.write_bytes(b"weights")
    with pytest.raises(UsageError, match="bad output"):
        secure_ai.attack(rows(), data, norm="linf", eps="0.4", attack="fgsm", save_adversarial=victim)
    assert victim.read_bytes() == b"weights"


def test_only_saved_examples_are_replaced(data: str, tmp_path: Path) -> None:
    """The data of the user may be an .npz file too."""
    victim, saved = tmp_path / "mine.npz", tmp_path / "kept.npz"
    np.savez(victim, images=np.zeros((2, 4, 4), np.uint8))
    before = victim.read_bytes()
    for _ in range(2):  # the second time it replaces its own
        secure_ai.attack(rows(), data, norm="linf", eps="0.4", attack="pgd:steps=2", save_adversarial=saved)
    with pytest.raises(UsageError, match="another file"):
        secure_ai.attack(rows(), data, norm="linf", eps="0.4", attack="pgd:steps=2", save_adversarial=victim)
    assert victim.read_bytes() == before
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UsageError, match="another file"):
        secure_ai.attack(
            rows(), data, norm="linf", eps="0.4", attack="pgd:steps=2", save_adversarial=tmp_path / "text.npz"
        )


def test_a_surrogate_without_architecture_is_told_by_its_own_flag(data: str, tmp_path: Path) -> None:
    (tmp_path / "s.safetensors").write_bytes(safetensors_bytes({"weight": np.zeros((2, 16), np.float32)}, {}))
    with pytest.raises(ArchError, match="the surrogate") as raised:
        secure_ai.attack(
            rows(), data, norm="linf", eps="0.4", attack="pgd:steps=2,transfer",
            surrogate=ModelSpec(model=str(tmp_path / "s.safetensors")),
        )  # fmt: skip
    assert "--surrogate-arch" in raised.value.hint


def test_a_spec_without_model_and_factory_is_refused(data: str) -> None:
    with pytest.raises(UsageError) as refused:
        secure_ai.attack(ModelSpec(), data, norm="linf", eps="0.4")
    assert refused.value.where == "--model"


def test_a_spec_says_itself_what_the_command_line_would() -> None:
    spec = ModelSpec(arch="net.py:scorer", access="labels", mean=(0.5,))
    assert spec.words() == ["--arch", "net.py:scorer", "--access", "labels", "--mean", "0.5"]
    assert ModelSpec(model="m.pt2").words() == ["--model", "m.pt2"]


def test_what_a_spec_says_loses_no_digit_and_no_channel() -> None:
    spec = ModelSpec(model="m.pt2", mean=(0.0, 1.0), std=(0.48145466, 1e-7), value_range=(0.0, 255.0))
    assert spec.words()[2:] == ["--mean", "0.0,1.0", "--std", "0.48145466,1e-07", "--range", "0.0,255.0"]


@pytest.mark.parametrize(("copies", "outcome"), [(2, CheckOutcome.FAIL), (1, CheckOutcome.PASS)])
def test_copies_of_images_are_no_further_samples(copies: int, outcome: CheckOutcome, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (12, 4, 4), dtype=np.uint8).repeat(copies, axis=0)
    np.savez(tmp_path / "some.npz", x=x, y=np.arange(len(x)) % 4)
    report = secure_ai.attack(rows(), str(tmp_path / "some.npz"), norm="linf", eps="0.4", attack="fgsm")
    assert [check.outcome for check in report.trust.checks if check.id == "distinct-images"] == [outcome]


def test_code_of_the_user_s_is_told_before_it_runs(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(ROWS_AS_CODE)
    (tmp_path / "other\x1b.py").write_text("raise ValueError")
    weights = {"1.weight": np.eye(4, dtype=np.float32).repeat(4, axis=1)}
    (tmp_path / "net.safetensors").write_bytes(safetensors_bytes(weights, {}))
    words = ["attack", "--data", data, "--norm", "linf", "--eps", "0.4", "--arch", f"{tmp_path / 'net.py'}:factory"]
    words += ["--attack", "noise,transfer:steps=2", "--surrogate", str(tmp_path / "net.safetensors"), "--json"]
    assert run_command([*words, "--surrogate-arch", f"{tmp_path / 'net.py'}:factory"]) == 0
    out, err = capsys.readouterr()
    assert err.count(" of net.py:factory\n") == 1
    assert json.loads(out)["model"]["user_code"] is True
    assert run_command([*words, "--surrogate-arch", f"{tmp_path}/other\x1b.py:factory"]) == 2
    assert " of other\\x1b.py:factory\n" in capsys.readouterr().err
    assert run_command([*words[:9], "--attack", "examples:nowhere.npz"]) == 2
    assert "running" not in capsys.readouterr().err
    (tmp_path / "crash.py").write_text("raise ValueError")
    run_words = ["run", "--arch", f"{tmp_path / 'crash.py'}:factory", "--data", data, "--out", str(tmp_path / "out")]
    assert run_command(run_words) == 2
    assert capsys.readouterr().err.count(" of crash.py:factory\n") == 1


def test_a_network_of_inverted_images_is_attacked_as_preflight_says(data: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        f"{ROWS_AS_CODE}\ndef inverted():\n    n = factory()\n"
        "    return nn.Sequential(Invert(), n)\n\nclass Invert(nn.Module):\n"
        "    def forward(self, x):\n        return 1 - x\n"
    )
    options = ModelOptions(arch=f"{tmp_path / 'net.py'}:inverted", value_range="1,0")
    inverted = secure_ai.attack(options.spec(), data, norm="linf", eps="0.2", attack="pgd:steps=3")
    plain = secure_ai.attack(rows(), data, norm="linf", eps="0.2", attack="pgd:steps=3")
    assert inverted.result.clean_accuracy.value == 1.0
    assert inverted.result.robust_accuracy == plain.result.robust_accuracy
    for bad in ("0,0", "nan,1", "1e39,0", "1e-50,0", "16777216,16777217", "1"):
        with pytest.raises(UsageError):
            ModelOptions(arch="x", value_range=bad).spec()


@pytest.mark.parametrize(
    ("drawn", "outcome"),
    [("all", CheckOutcome.PASS), ("stratified", CheckOutcome.PASS), ("first", CheckOutcome.FAIL)],
)
def test_the_first_images_are_no_random_sample_whatever_the_note_says(drawn: Drawn, outcome: CheckOutcome) -> None:
    labels = np.arange(4)
    dataset = Dataset(np.zeros((4, 1, 2, 2), np.uint8), labels, "d", 4, note="first in its class", drawn=drawn)
    assert {made.id: made.outcome for made in data_checks(dataset)}["random-sample"] is outcome
