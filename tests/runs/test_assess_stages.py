"""The user's own network: what its stages cost and are keyed by, the curve's grid, and the trust in each number."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import secure_ai
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.events import ignore_event
from secure_ai.core.results import Measurement
from secure_ai.core.trust import Check, CheckOutcome, Verdict, check
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.red.evasion.trust import judged
from secure_ai.runs.cases.user.given import judge_files
from secure_ai.runs.cases.user.networks import attack_subject, curve_of_subject
from secure_ai.runs.engine.execute import decides_results
from secure_ai.runs.engine.forecast import OVERHEAD_SECONDS
from secure_ai.runs.engine.measure import Context, Network
from secure_ai.runs.engine.stage import Stage
from secure_ai.runs.engine.subjects import GivenSubject
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.recipe.plan import plan
from secure_ai.runs.recipe.recipe import load_recipe
from secure_ai.runs.stages.curve import CurveSettings, curve_grid
from secure_ai.runs.stages.robust import AttackSettings

CODE = """
from pathlib import Path

import torch
from torch import nn


def net():
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 4))
    nn.init.constant_(network[1].weight, float((Path(__file__).parent / "scale.txt").read_text()))
    nn.init.zeros_(network[1].bias)
    return network


def drawn():
    network, generator = nn.Sequential(nn.Flatten(), nn.Linear(784, 4)), torch.Generator()
    generator.seed()
    nn.init.normal_(network[1].weight, generator=generator)
    return network
"""


def stages_of(spec: ModelSpec, *changes: str) -> dict[str, Stage]:
    """The stages about a user's network by id, planned for 10,000 images of 28 x 28."""
    recipe = load_recipe("assess", list(changes))
    models = judge_files(recipe, spec, ignore_event)
    test = Dataset(np.full((4, 1, 28, 28), 128, np.uint8), np.arange(4), "grey", 4)
    found = plan(recipe, {"test": 10_000}, "auto", models, lambda: test, ignore_event)
    return {stage.id: stage for stage in found.stages}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "scale.txt").write_text("0.1")
    return tmp_path / "net.py"


def fingerprint_of(spec: ModelSpec) -> str | None:
    fingerprint = stages_of(spec)["assess/attack"].fingerprint
    assert fingerprint is not None
    return fingerprint()


def test_what_code_of_the_users_makes_is_reused_while_its_outputs_are_the_same(net: Path) -> None:
    """No digest of its files says what it reads."""
    spec = ModelSpec(arch=f"{net}:net")
    before = fingerprint_of(spec)
    assert before is not None
    assert before == fingerprint_of(spec)
    (net.parent / "scale.txt").write_text("0.2")
    assert fingerprint_of(spec) not in (before, None)
    drawn = ModelSpec(arch=f"{net}:drawn")
    assert fingerprint_of(drawn) != fingerprint_of(drawn)


def test_what_a_file_describes_is_reused_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"

    def settings(weight: float) -> dict[str, object]:
        path.write_bytes(safetensors_bytes({"1.weight": np.full((2, 4), weight, np.float32)}, {}))
        stages = stages_of(ModelSpec(model=str(path), arch="report1-cnn"))
        for stage in stages.values():
            if "subject" in stage.settings["networks"]:
                assert stage.fingerprint is not None
                assert stage.fingerprint() is not None
        return {name: dict(stage.settings) for name, stage in stages.items()}

    assert settings(1.0) == settings(1.0)
    before, after = settings(1.0), settings(2.0)
    assert {name for name in before if before[name] != after[name]} >= {"assess/attack", "assess/curve"}


def test_the_forecast_grows_with_images_points_and_suite(net: Path) -> None:
    def seconds(*changes: str) -> dict[str, float]:
        stages = stages_of(ModelSpec(arch=f"{net}:net"), *changes)
        return {name: stage.cost_seconds for name, stage in stages.items()}

    usual = seconds()
    assert usual["assess/curve"] > usual["assess/attack"]
    assert seconds("assess.n=10000")["assess/attack"] > usual["assess/attack"]
    assert seconds('assess.attack="autoattack"')["assess/attack"] > usual["assess/attack"]
    work = usual["assess/curve"] - OVERHEAD_SECONDS
    assert seconds("assess.curve=[0.0,1.0]")["assess/curve"] == pytest.approx(work / 5 + OVERHEAD_SECONDS, rel=0.05)


@pytest.mark.parametrize(
    ("norm", "eps", "grid"),
    [
        ("linf", 0.6, [0.0, 0.15, 0.6, 1.0]),
        ("l2", 20.0, [0.0, 5.0, 20.0, 28.0]),
        ("l1", 500.0, [0.0, 125.0, 500.0, 784.0]),
        ("l0", 10.0, [0.0, 2.0, 10.0, 20.0]),
        ("l0", 2.0, [0.0, 2.0, 4.0]),
    ],
)
def test_no_point_of_a_curve_is_outside_its_norm(norm: Norm, eps: float, grid: list[float]) -> None:
    assert curve_grid(PerturbationBudget(norm, eps), [0.0, 0.25, 1.0, 2.0], 784) == pytest.approx(grid)


ROWS = """
import torch
from torch import nn

class Rows(nn.Module):
    '''The sum over row k scores class k; from call `tired` on answers drift.'''

    def __init__(self, tired=10**9, sign=1.0):
        super().__init__()
        self.weight = nn.Parameter(sign * torch.eye(8).repeat_interleave(8, dim=1)[:4])
        self.tired, self.calls = tired, 0

    def forward(self, x):
        self.calls += 1
        return x.flatten(1) @ self.weight.T * (1.0 if self.calls < self.tired else 1.1)

def honest(): return Rows()
def tired(): return Rows(tired=60)
def inverted(): return Rows(sign=-1.0)
"""


@pytest.fixture
def measured(tmp_path: Path, context_on: Callable[..., Context]) -> Callable[..., dict[str, Measurement]]:
    """What `attack` or `curve` measures of a network of ROWS on 40 images of 8 x 8, by measurement."""
    y = np.arange(40) % 4
    x = np.random.default_rng(0).uniform(0, 0.3, (40, 1, 8, 8)).astype(np.float32)
    x[np.arange(40), 0, y] += np.random.default_rng(1).uniform(0.1, 0.6, (40, 1)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    (tmp_path / "rows.py").write_text(ROWS)
    dataset = load_data(str(tmp_path / "rows.npz"), split="test", n=None, seed=0, events=ignore_event)

    def measure(network: str, settings: AttackSettings) -> dict[str, Measurement]:
        spec = ModelSpec(arch=f"{tmp_path / 'rows.py'}:{network}")
        own = Network(id=SUBJECT, role="subject", title="", arch=spec.arch or "", spec=spec)
        context = context_on(dataset)
        subjects = {SUBJECT: GivenSubject(own, context)}
        if isinstance(settings, CurveSettings):
            found = curve_of_subject(subjects, settings, context)
        else:
            found = attack_subject(subjects, settings, context)
        return {measurement.id: measurement for measurement in found.measurements}

    return measure


def outcomes(measurement: Measurement) -> dict[str, CheckOutcome]:
    assert measurement.trust is not None
    return {made.id: made.outcome for made in measurement.trust.checks}


def failed(found: dict[str, CheckOutcome]) -> set[str]:
    return {name for name, outcome in found.items() if outcome is CheckOutcome.FAIL}


def attack_with(attack: str, eps: float = 0.15) -> AttackSettings:
    return AttackSettings(attack=attack, norm="linf", eps=eps, n=40)


def curve_with(attack: str, factors: tuple[float, ...], eps: float = 0.15) -> CurveSettings:
    return CurveSettings(attack=attack, norm="linf", eps=eps, n=40, factors=factors)


def test_a_point_of_the_curve_is_asked_what_the_same_number_alone_is_asked(
    measured: Callable[..., dict[str, Measurement]], smaller_probes: None
) -> None:
    alone = outcomes(measured("honest", attack_with("apgd-ce:steps=5"))["subject/attacked"])
    points = measured("honest", curve_with("apgd-ce:steps=5", (0.5, 1.0)))
    assert set(points) == {"subject/curve/0.075", "subject/curve/0.15"}
    for point in points.values():
        found = outcomes(point)
        assert found.pop("monotone-in-eps") is CheckOutcome.PASS
        assert found == alone


def test_probes_are_made_once_for_all_points_of_a_curve(
    measured: Callable[..., dict[str, Measurement]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def stand_in(name: str) -> Callable[..., tuple[Check, ...]]:
        def asked(*given: object, **options: object) -> tuple[Check, ...]:
            made.append(name)
            return (check(name, True, "asked"),)

        return asked

    monkeypatch.setattr(judged, "SETTLED_BY", frozenset())
    for name in ("diagnose", "diagnose_survivors"):
        monkeypatch.setattr(judged, name, stand_in(name))
    points = measured("honest", curve_with("apgd-ce:steps=2", (0.5, 0.8, 1.0)))
    assert made.count("diagnose") == 1
    assert made.count("diagnose_survivors") == len(points) == 3
    for point in points.values():
        assert outcomes(point)["diagnose"] is CheckOutcome.PASS


def test_outputs_that_drift_are_held_against_every_number(
    measured: Callable[..., dict[str, Measurement]], smaller_probes: None
) -> None:
    """Preflight has about 40 calls, the attack as many."""
    attack, eps = "pgd:steps=40", 0.01
    alone, points = measured("tired", attack_with(attack, eps)), measured("tired", curve_with(attack, (1.0,), eps))
    for measurement in (*alone.values(), *points.values()):
        assert outcomes(measurement)["same-answers-after"] is CheckOutcome.FAIL
        assert measurement.trust is not None
        assert measurement.trust.verdict is Verdict.DOUBTFUL


def test_clean_accuracy_hears_of_preflight_but_not_of_gradients(
    measured: Callable[..., dict[str, Measurement]], smaller_probes: None
) -> None:
    sound = outcomes(measured("honest", attack_with("fgsm"))["subject/clean"])
    assert failed(sound) == {"sample-size"}
    assert not {"input-gradient", "logits"} & set(sound)
    other = outcomes(measured("inverted", attack_with("fgsm"))["subject/clean"])
    assert failed(other) == {"sample-size", "input-range", "clean-accuracy"}


TOLD = {"case.py", "figures.py", "files.py", "table.py", "threats.py"}  # of a case: what is told of its figures
CONTENT_FREE = {"recipe.py", "section.py", "config.py", "origins.py", "judge.py"}  # what a row is made of, no figure


def test_what_stages_import_from_runs_decides_results() -> None:
    root = Path(secure_ai.__file__).parent
    wanting, seen = set(), 0
    for path in (root / "runs").rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if not decides_results(name) or (name.startswith("runs/cases/") and path.name in TOLD):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("secure_ai.runs"):
                parts = (node.module or "").split(".")[1:]
                names = ["/".join(parts)] if len(parts) > 1 else [f"runs/{alias.name}" for alias in node.names]
                for name in names:
                    seen += 1
                    file = f"{name}.py"
                    if (root / file).exists() and not decides_results(file) and Path(file).name not in CONTENT_FREE:
                        wanting.add(file)
    assert seen > 20
    assert wanting == set()
