"""The stages of `assess` before they run: what makes them stale, what they cost, the curve's grid."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secure_ai
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.events import ignore_event
from secure_ai.data.source import load_data
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.runs.engine.execute import decides_results
from secure_ai.runs.engine.stage import Work
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe import assess_plan
from secure_ai.runs.recipe.recipe import load_recipe
from secure_ai.runs.stages.assess_stage import attack_subject, curve_grid, security_curve

CODE = "import torch\n\n\ndef net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))\n"


def code_of(spec: ModelSpec) -> str:
    first, *_ = assess_plan.stages(load_recipe("assess"), spec, ignore_event)
    return str(first.settings["code"])


@pytest.fixture
def net(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "parts").mkdir(parents=True)
    (folder / "net.py").write_text(CODE)
    (folder / "parts" / "layer.py").write_text("WIDTH = 1\n")
    return folder / "net.py"


def test_code_that_makes_its_own_weights_is_never_reused(net: Path, tmp_path: Path) -> None:
    alone = ModelSpec(arch=f"{net}:net")
    assert code_of(alone).startswith("not reused")
    assert code_of(alone) != code_of(alone)


def test_code_with_a_weights_file_is_reused_until_a_file_below_it_changes(net: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(safetensors_bytes({"1.weight": np.ones((2, 4), np.float32)}, {}))
    spec = ModelSpec(model=str(weights), arch=f"{net}:net")
    before = code_of(spec)
    assert before == code_of(spec)
    (net.parent / "parts" / "layer.py").write_text("WIDTH = 2\n")
    assert code_of(spec) != before
    module = ModelSpec(model=str(weights), arch="package.module:net")  # whose code nobody has seen
    assert code_of(module) != code_of(module)


def test_the_forecast_grows_with_images_points_and_suite(net: Path) -> None:
    def seconds(*changes: str) -> dict[str, float]:
        recipe = load_recipe("assess", changes=list(changes))
        stages = assess_plan.stages(recipe, ModelSpec(arch=f"{net}:net"), ignore_event)
        return {stage.id: stage.cost_seconds for stage in stages}

    usual = seconds()
    assert usual["assess/curve"] == 5 * usual["assess/attack"]
    assert seconds("assess.n=10000")["assess/attack"] == 10 * usual["assess/attack"]
    assert seconds('assess.attack="autoattack"')["assess/attack"] == 10 * usual["assess/attack"]
    assert seconds("assess.curve=[0.0,1.0]")["assess/curve"] == usual["assess/attack"]


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
def measured(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What a stage measures of a network of ROWS on 40 images of 8 x 8, by measurement: a rate with its trust."""
    y = np.arange(40) % 4
    x = np.random.default_rng(0).uniform(0, 0.3, (40, 1, 8, 8)).astype(np.float32)
    x[np.arange(40), 0, y] += np.random.default_rng(1).uniform(0.1, 0.6, (40, 1)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    (tmp_path / "rows.py").write_text(ROWS)
    dataset = load_data(str(tmp_path / "rows.npz"), split="test", n=None, seed=0, events=ignore_event)

    def measure(function: Callable[[Work], Any], network: str, **settings: Any) -> dict[str, Any]:
        spec = ModelSpec(arch=f"{tmp_path / 'rows.py'}:{network}").as_json()
        section = load_recipe("assess").assess.model_dump()
        settings = {**spec, **section, "eps": "0.15", "n": 40, "seed": 0, "file_sha256": "", **settings}
        work = Work(
            settings=settings,
            inputs={},
            data=lambda role: dataset,
            precision="float32",
            events=ignore_event,
            progress=lambda done, total: None,
            partial=tmp_path,
        )
        found = json.loads(function(work)["result.json"])
        return {measurement["id"]: measurement for measurement in found["measurements"]}

    return measure


def outcomes(measurement: dict[str, Any]) -> dict[str, str]:
    return {made["id"]: made["outcome"] for made in measurement["trust"]["checks"]}


def failed(found: dict[str, str]) -> set[str]:
    return {name for name, outcome in found.items() if outcome == "fail"}


def test_a_point_of_the_curve_is_asked_what_the_same_number_alone_is_asked(
    measured: Callable[..., dict[str, Any]],
) -> None:
    alone = outcomes(measured(attack_subject, "honest", attack="apgd-ce:steps=5")["subject/attacked"])
    points = measured(security_curve, "honest", attack="apgd-ce:steps=5", curve=[0.5, 1.0])
    assert set(points) == {"subject/curve/0.075", "subject/curve/0.15"}
    for point in points.values():
        found = outcomes(point)
        assert found.pop("monotone-in-eps") == "pass"
        assert found == alone


def test_answers_that_drift_are_held_against_every_number(measured: Callable[..., dict[str, Any]]) -> None:
    settings = {
        "attack": "pgd:steps=40",
        "curve": [1.0],
        "eps": "0.01",
    }  # preflight has about 40 calls, the attack as many
    alone, points = measured(attack_subject, "tired", **settings), measured(security_curve, "tired", **settings)
    for measurement in (*alone.values(), *points.values()):
        assert outcomes(measurement)["same-answers-after"] == "fail"
        assert measurement["trust"]["verdict"] == "doubtful"


def test_clean_accuracy_hears_of_preflight_but_not_of_gradients(measured: Callable[..., dict[str, Any]]) -> None:
    settings = {"attack": "fgsm"}
    sound = outcomes(measured(attack_subject, "honest", **settings)["subject/clean"])
    assert failed(sound) == {"sample-size"}
    assert not {"input-gradient", "logits"} & set(sound)
    other = outcomes(measured(attack_subject, "inverted", **settings)["subject/clean"])
    assert failed(other) == {"sample-size", "input-range", "clean-accuracy"}


CONTENT_FREE = {"stage.py", "lazy.py", "judgements.py"}  # types, calls, files and findings: no figure


def test_what_stages_import_from_runs_decides_results() -> None:
    root = Path(secure_ai.__file__).parent
    wanting, seen = set(), 0
    for path in (root / "runs").rglob("*.py"):
        if not decides_results(path.relative_to(root).as_posix()):
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
