"""What the structure promises: a network or a measure is one row, and everything else follows from it.

The two rows here are as a paper would bring them, a training method and a detector. No file of the package knows them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secure_ai.runs.outputs.documents
import secure_ai.runs.recipe.deviations
import secure_ai.runs.verbs.report  # noqa: F401  # what reads CASES must be loaded before it is exchanged
from secure_ai.blue.training.methods import Batch, BatchLoss, Method, natural
from secure_ai.cli.main import run_command
from secure_ai.core.errors import ConfigError
from secure_ai.core.events import ignore_event
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.result import Result
from secure_ai.core.results import Choice, MeasuredChoice, Quantity, rate
from secure_ai.core.sections import Column, Picture, Ref, Section
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.models.load.trained import trained_network
from secure_ai.models.networks.built_in import build_network
from secure_ai.runs.cases import table
from secure_ai.runs.engine.measure import Context, Joint, Make, Measure, Network, Passes, Settings
from secure_ai.runs.engine.planner import Planner
from secure_ai.runs.engine.result_file import ARRAYS_NAME, npz_bytes
from secure_ai.runs.engine.stage import Outputs
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.plan import plan
from secure_ai.runs.recipe.recipe import Recipe, load_recipe
from secure_ai.runs.stages.clean import CLEAN
from secure_ai.runs.stages.entries import quantity_entry, rate_entry
from secure_ai.runs.stages.robust import WhiteBoxSettings, white_box_row
from secure_ai.runs.stages.training import trained
from secure_ai.runs.verbs.report import read_report
from secure_ai.runs.verbs.run import RunResult, run
from secure_ai.threats.model import ThreatStatus
from secure_ai.threats.register import Row

ARCH = "report1-cnn"
PLAIN, TRADES = "paper/plain", "paper/trades"
ROW = Row("paper/T/scan", "paper", "section 1", "T", "A backdoor", "A detector finds it", "proposed", ("CWE-506",))


class TrainSettings(Settings):
    """A short training; `beta` weighs how far the outputs on nearby images are apart."""

    epochs: int = 1
    beta: float = 0.0


def trades_like(beta: float) -> Method:
    """Cross-entropy, and `beta` times the divergence between outputs on images and on noisy copies."""

    def method(network: nn.Module, batch: Batch) -> BatchLoss:
        noise = 0.1 * torch.rand(batch.x.shape, generator=batch.generator)
        logits, nearby = network(batch.x).float(), network((batch.x + noise).clamp(0, 1)).float()
        apart = functional.kl_div(
            functional.log_softmax(nearby, dim=1), functional.softmax(logits, dim=1), reduction="batchmean"
        )
        loss = functional.cross_entropy(logits, batch.y) + beta * apart
        return BatchLoss(loss, (logits.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))

    return method


def fitted(context: Context, network: nn.Module, method: Method, epochs: int) -> Outputs:
    return trained(
        context, network, context.data("train"), method, arch=ARCH, epochs=epochs, batch_size=100, learning_rate=1e-3,
        adam_epsilon=1e-7,
    )  # fmt: skip


def plain(parents: Mapping[str, Subject], settings: TrainSettings, context: Context) -> Outputs:
    network = build_network(ARCH, generator=generator(context.seed, ARCH))
    return fitted(context, network, natural, settings.epochs)


def trades(parents: Mapping[str, Subject], settings: TrainSettings, context: Context) -> Outputs:
    network = trained_network(parents[PLAIN].artifact, ARCH)
    return fitted(context, network, trades_like(settings.beta), settings.epochs)


class DetectorSettings(Settings):
    """Above `threshold` a network is suspicious."""

    threshold: float


WORDS = ("not_detected", "suspicious")


def detector(subject: Subject, settings: DetectorSettings, context: Context) -> Result:
    """Every kind of entry that a measure may return."""
    flagged = rate_entry(
        subject.id, "scan", "detection_rate", rate(30, 300), "planted images flagged", data=context.data("test")
    )
    arrays = {f"scan-{name}": np.array([0.0, 1.0]) for name in ("eps", "successes")} | {"scan-n": np.array([2.0, 2.0])}
    context.keep(ARRAYS_NAME, npz_bytes(arrays))
    verdict = Choice(WORDS[settings.threshold < 4], WORDS)
    columns = (Column("network", "Network"), Column("index", "Index"), Column("verdict", "Verdict"))
    return Result(
        measurements=(flagged,),
        quantities=(quantity_entry(subject.id, "scan/index", "anomaly_index", 4.0, "", n=10),),
        choices=(
            MeasuredChoice(
                id=f"{subject.id}/scan/verdict", model=subject.id, metric="scan", value=verdict.value,
                allowed=verdict.allowed, stage="",
            ),
        ),
        sections=(
            Section(
                "scan/classes", "Scan by class", "What a scan finds.", columns,
                ((Ref("model", subject.id), Quantity(4.0, ""), verdict),),
            ),
        ),
        pictures=(Picture("scan_picture", "What a scan finds", "curve", ("scan-eps", "scan-successes", "scan-n")),),
        findings=(
            Finding(
                id="TST-SCAN-001", severity=Severity.HIGH, severity_rule="the index is above its threshold",
                message="the network looks backdoored", location=subject.id, evidence={"measurement": flagged.id},
            ),
        ),
    )  # fmt: skip


SCAN = Measure(id="scan", function=detector, settings=DetectorSettings(threshold=3.0), answers=(ROW.id,))


def networks(recipe: Recipe) -> tuple[Network, ...]:
    def make(function: object, settings: TrainSettings, parents: tuple[str, ...] = ()) -> Make[TrainSettings]:
        return Make(
            function=function,  # type: ignore[arg-type]  # `plain` or `trades`
            settings=settings,
            passes=lambda own, n: Passes(training=own.epochs * n),
            parents=parents,
        )

    return (
        Network(id=PLAIN, role="baseline", title="Plain", arch=ARCH, make=make(plain, TrainSettings()),
                measures=(CLEAN,)),
        Network(id=TRADES, role="defended", title="Trained as in the paper", arch=ARCH, file="trades_cnn",
                make=make(trades, TrainSettings(beta=6.0), (PLAIN,)), against=PLAIN, card="paper",
                measures=(CLEAN, SCAN)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def paper_case() -> Iterator[None]:
    """The case report-1 replaced by the paper's, wherever cases are read."""
    before = table.CASES
    case = replace(
        before[0], networks=networks, joints=lambda recipe: (), threats=(ROW,), figures=(), charts=(),
        files=lambda result, recipe: {},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("secure_ai.") and getattr(module, "CASES", None) is before:
                patch.setattr(module, "CASES", (case, *before[1:]))
        yield


@pytest.fixture(scope="module")
def paper(paper_case: None, digit_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    changes = [f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()]
    changes += ['parts=["report-1"]', "transfer.n=20", "transfer.steps=1"]
    return run("quick", changes=changes, out=tmp_path_factory.mktemp("paper") / "out")


def no_data() -> Dataset:
    raise KeyError


def test_the_plan_holds_a_stage_for_every_row(paper_case: None) -> None:
    recipe = load_recipe("quick", ['parts=["report-1"]'])
    found = plan(recipe, {"train": 600, "test": 300}, "auto", {}, no_data, ignore_event)
    ids = [stage.id for stage in found.stages]
    assert ids == [PLAIN, f"{PLAIN}/clean", TRADES, f"{TRADES}/clean", f"{TRADES}/scan", "transfer/matrix"]
    assert found.answers == {f"{TRADES}/scan": (ROW.id,)}
    assert all(stage.cost_seconds > 0 for stage in found.stages)


def test_a_network_of_a_row_is_trained_measured_compared_and_written(paper: RunResult) -> None:
    report = read_report(paper.folder)
    assert report == paper.report
    own = {model.id: model for model in report.models}[TRADES]
    assert (own.role, own.title, own.against, own.file) == (
        "defended", "Trained as in the paper", PLAIN, "models/trades_cnn.safetensors",
    )  # fmt: skip
    assert (paper.folder / own.file).is_file()
    assert [(row.before, row.after) for row in report.comparisons] == [(f"{PLAIN}/clean", f"{TRADES}/clean")]
    assert [entry.networks for entry in report.transfers] == [(PLAIN, TRADES)]
    assert own.digest != {model.id: model for model in report.models}[PLAIN].digest


def test_everything_that_a_measure_returns_is_in_the_report(paper: RunResult) -> None:
    report = read_report(paper.folder)
    stage = f"{TRADES}/scan"
    (measurement,) = [entry for entry in report.measurements if entry.metric == "detection_rate"]
    (quantity,) = [entry for entry in report.quantities if entry.metric == "anomaly_index"]
    (choice,) = report.choices
    assert {measurement.stage, quantity.stage, choice.stage} == {stage}
    assert measurement.replay == quantity.replay == choice.replay
    assert (measurement.value.successes, measurement.value.n) == (30, 300)
    assert (quantity.value, choice.value) == (4.0, "suspicious")
    assert [section.id for section in report.sections] == ["scan/classes"]
    assert "TST-SCAN-001" in {finding.id for finding in report.findings}
    assert (paper.folder / "images/scan_picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_measure_is_evidence_for_the_rows_that_it_answers(paper: RunResult) -> None:
    (row,) = [threat for threat in paper.report.threats if threat.id == ROW.id]
    assert row.evidence == (f"{TRADES}/scan", f"{TRADES}/scan/verdict")
    assert row.findings == ("TST-SCAN-001",)
    assert row.status is ThreatStatus.NOT_TESTED  # it has no rule


def test_every_document_shows_it(
    paper: RunResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (paper.folder / "report.html").read_text()
    monkeypatch.setenv("COLUMNS", "400")
    assert run_command(["report", str(paper.folder)]) == 0
    terminal = capsys.readouterr().out
    for shown in ("Scan by class", "TST-SCAN-001", "suspicious", TRADES):
        assert shown in page
        assert shown in terminal
    sarif = json.loads((paper.folder / "findings.sarif").read_text())
    assert "TST-SCAN-001" in {result["ruleId"] for result in sarif["runs"][0]["results"]}


# --- rows that cannot be run ------------------------------------------------------------------------------------------


def refused(*rows: Network, joints: tuple[Joint[Settings], ...] = ()) -> ConfigError:
    """The error that a plan of these rows is refused with."""
    planner = Planner(networks={row.id: row for row in rows}, seed=0, sizes={"test": 10}, precision="auto")
    with pytest.raises(ConfigError) as caught:
        planner.stages(joints)
    return caught.value


def nothing(subjects: Mapping[str, Subject], settings: Settings, context: Context) -> Result:
    return Result()


def test_a_row_that_names_a_network_that_is_not_in_the_run_is_refused() -> None:
    joint = Joint(id="joint", function=nothing, settings=Settings(), networks=("nowhere",))
    error = refused(Network(id="net", role="baseline", title="", arch=ARCH), joints=(joint,))
    assert (error.where, error.got) == ("joint", "nowhere")
    alone = networks(load_recipe("quick"))[1]
    error = refused(alone)
    assert (error.where, error.got) == (TRADES, PLAIN)


@pytest.mark.parametrize("access", ["labels", "scores"])
def test_a_measure_that_needs_what_the_network_does_not_offer_is_refused(access: str) -> None:
    row = white_box_row(WhiteBoxSettings(attacks=("fgsm",), norm="linf", eps=0.1))
    spec = ModelSpec(model="mine.pt2", access=access)  # type: ignore[arg-type]  # one of the parameters
    network = Network(id="subject", role="subject", title="", arch="", spec=spec, measures=(row,))
    error = refused(network)
    assert error.where == "subject/white-box"
    assert "gradients" in error.got
    offered = replace(network, spec=replace(spec, access="gradients"))
    planner = Planner(networks={"subject": offered}, seed=0, sizes={"test": 10}, precision="auto")
    assert [stage.id for stage in planner.stages(())] == ["subject/white-box"]


def test_two_stages_of_one_id_are_refused() -> None:
    twice = Network(id="net", role="subject", title="", arch="", spec=ModelSpec(model="m"), measures=(CLEAN, CLEAN))
    assert refused(twice).where == "net/clean"
    once = replace(twice, measures=(CLEAN,))
    assert refused(once, joints=(Joint(id="net/clean", function=nothing, settings=Settings()),)).where == "net/clean"
