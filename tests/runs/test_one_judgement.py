"""One function judges: the command, a stage, the zoo and a direct call fail the same checks of the same network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.events import ignore_event
from secure_ai.core.findings import Severity
from secure_ai.core.results import Rate
from secure_ai.core.trust import CheckOutcome, Trust, Verdict
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import build_network
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.trust.judged import judge_network
from secure_ai.runs.cases.user.networks import attack_subject
from secure_ai.runs.engine.measure import Context, Network, Settings
from secure_ai.runs.engine.subjects import GivenSubject, TrainedSubject
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.stages.clean import clean
from secure_ai.runs.stages.robust import AttackSettings, WhiteBoxSettings, suite, white_box
from secure_ai.runs.user_model import load_subject, target_for

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EPS, ATTACK, N = 0.15, "pgd:steps=5", 24

PLANTED = """
import torch
from torch import nn

class Rows(nn.Module):
    '''The sum over row k scores class k.'''

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8).repeat_interleave(8, dim=1)[:4])

    def forward(self, x):
        return x.flatten(1) @ self.weight.T

class Drifting(Rows):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1.0 if self.calls < 65 else 1.1)

class Cut(Rows):
    def forward(self, x):
        return super().forward(x.detach())

class Centred(Rows):
    def forward(self, x):
        return super().forward(x - x.mean(0))

class Stuck(Rows):
    def eval(self):
        return self

class Saturated(Rows):
    def forward(self, x):
        return (60 * super().forward(x)).softmax(dim=1)

class Inverted(Rows):
    def forward(self, x):
        return super().forward(1 - x)

class Noisy(Rows):
    def forward(self, x):
        return super().forward(x) + 0.1 * torch.randn(len(x), 1)

class Stairs(Rows):
    def forward(self, x):
        return super().forward((8 * x).round() / 8)
"""

Ways = Callable[[str], dict[str, Trust]]


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark of planted defences; its files find each other by their bare names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("zoo")
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def source(tmp_path: Path) -> str:
    """24 images of 8 x 8, and the planted networks beside them."""
    y = np.arange(N) % 4
    x = np.random.default_rng(0).uniform(0, 0.3, (N, 1, 8, 8)).astype(np.float32)
    x[np.arange(N), 0, y] += np.random.default_rng(1).uniform(0.1, 0.6, (N, 1)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    (tmp_path / "planted.py").write_text(PLANTED)
    return str(tmp_path / "rows.npz")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, smaller_probes: None) -> None:
    """Probes are made although the suite is too weak to be helped by them."""
    monkeypatch.setattr("secure_ai.red.evasion.trust.judged.SETTLED_BY", frozenset())


@pytest.fixture
def four_ways(source: str, tmp_path: Path, zoo: Any, asked: None, context_on: Callable[..., Context]) -> Ways:
    """The verdict on a planted network as the command, a stage, the zoo and `judge_network` give it."""
    dataset = load_data(source, split="test", n=None, seed=0, events=ignore_event)

    def verdicts(name: str) -> dict[str, Trust]:
        spec = ModelSpec(arch=f"{tmp_path / 'planted.py'}:{name}")
        own = Network(id=SUBJECT, role="subject", title="", arch=spec.arch or "", spec=spec)
        context = context_on(dataset)
        settings = AttackSettings(attack=ATTACK, norm="linf", eps=EPS, n=N)
        stage = attack_subject({SUBJECT: GivenSubject(own, context)}, settings, context).measurements
        (attacked,) = [measurement.trust for measurement in stage if measurement.id == "subject/attacked"]
        assert attacked is not None
        target = target_for(load_subject(spec, dataset, ignore_event), dataset, spec)
        budget, plans = PerturbationBudget("linf", EPS), parse_attacks(ATTACK)
        network = load_subject(spec, dataset, ignore_event).network
        return {
            "command": secure_ai.attack(spec, source, norm="linf", eps=str(EPS), attack=ATTACK, seed=0).trust,
            "stage": attacked,
            "zoo": zoo.attacked(network, name, dataset, EPS, ATTACK)[1],
            "function": judge_network(target, dataset, budget, plans, 0).trust,
        }

    return verdicts


def outcomes(trust: Trust) -> list[tuple[str, CheckOutcome]]:
    return [(made.id, made.outcome) for made in trust.checks]


def failed(trust: Trust) -> set[str]:
    return {made.id for made in trust.checks if made.outcome is CheckOutcome.FAIL}


ALONE = {"sample-size", "suite-strength"}  # what 24 images under one attack cannot have


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Rows", set[str]()),
        ("Drifting", {"same-answers-after"}),
        ("Cut", {"input-gradient"}),
        ("Centred", {"batch-independent"}),
        ("Stuck", {"eval-mode"}),
        ("Saturated", {"input-gradient", "zero-gradients"}),
        ("Inverted", {"clean-accuracy"}),
        ("Noisy", {"deterministic", "random-without-eot"}),
        ("Stairs", {"zero-gradients", "step-function"}),
    ],
)
def test_command_stage_zoo_and_function_judge_alike(four_ways: Ways, name: str, expected: set[str]) -> None:
    found = four_ways(name)
    assert len({tuple(outcomes(trust)) for trust in found.values()}) == 1, {k: failed(t) for k, t in found.items()}
    assert len({trust.verdict for trust in found.values()}) == 1
    assert expected <= failed(found["function"])
    if not expected:
        assert failed(found["function"]) == ALONE


ARCH = "report2-cnn"


@pytest.fixture
def built_in(smaller_probes: None, context_on: Callable[..., Context]) -> Callable[..., dict[str, Trust]]:
    """What the measures of a report say of an untrained network of its own on some images."""
    weights = model_bytes(build_network(ARCH, generator=torch.Generator().manual_seed(0)), ARCH)
    network = Network(id="net", role="baseline", title="", arch=ARCH)

    def measured(dataset: Dataset) -> dict[str, Trust]:
        context = context_on(dataset)
        subject = TrainedSubject(network, context, {"model.safetensors": weights})
        single = WhiteBoxSettings(attacks=("fgsm", "pgd:steps=2"), norm="linf", eps=0.1)
        found = (
            *suite(subject, AttackSettings(attack="fgsm", norm="linf", eps=0.1, n=1000), context).measurements,
            *clean(subject, Settings(), context).measurements,
            *white_box(subject, single, context).measurements,
        )
        return {one.id: one.trust for one in found if one.trust is not None}

    return measured


def spoiled(dataset: Dataset) -> Dataset:
    """One dark image many times, said to be the first of its file."""
    dark = replace(dataset, images=dataset.images // 17)
    return dark.select(np.zeros(40, dtype=np.int64), "first 40, not a random sample", drawn="first")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (spoiled, {"distinct-images", "classes-in-data", "full-range", "random-sample"}),
        (lambda whole: whole.select(np.arange(100, 140), "some"), set[str]()),
    ],
)
def test_built_in_networks_hear_what_a_user_s_network_hears(
    built_in: Callable[..., dict[str, Trust]],
    digits_test: Dataset,
    change: Callable[[Dataset], Dataset],
    expected: set[str],
) -> None:
    of_data = {"distinct-images", "classes-in-data", "full-range", "random-sample"}
    found = built_in(change(digits_test))
    assert set(found) == {"net/suite", "net/clean", "net/fgsm", "net/pgd"}
    for trust in found.values():
        assert failed(trust) & of_data == expected
        assert "deterministic" in {made.id for made in trust.checks}
        assert trust.verdict is Verdict.DOUBTFUL


def test_the_report_of_an_attack_keeps_its_types(source: str, tmp_path: Path, smaller_probes: None) -> None:
    spec = ModelSpec(arch=f"{tmp_path / 'planted.py'}:Rows")
    report = secure_ai.attack(spec, source, norm="linf", eps="0.4", attack=ATTACK)
    assert isinstance(report.robust_accuracy, Rate)
    assert (report.clean_accuracy.successes, report.robust_accuracy.successes) == (N, 0)
    (finding,) = report.findings
    assert (finding.id, finding.severity) == ("SAI-EV-001", Severity.HIGH)
    content = report.as_json()
    assert content["findings"] == [finding.as_json()]
    assert content["robust_accuracy"] == report.robust_accuracy.as_json()
    assert content["trust"] == report.trust.as_json()
