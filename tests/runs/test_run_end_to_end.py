"""One small run of the whole quick recipe, shared by the tests that look at what it left."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import secure_ai
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import (
    AttackSettingsError,
    BudgetError,
    ConfigError,
    CostLimitError,
    DigestMismatchError,
    EnvironmentFailedError,
    FileMissingError,
    LockedError,
    ReplayError,
    SecureAIError,
    ShapeError,
    UsageError,
)
from secure_ai.core.events import verify_log
from secure_ai.core.results import Rate
from secure_ai.core.sections import Ref
from secure_ai.core.trust import CheckOutcome, Verdict
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.files.write import lock_folder
from secure_ai.report.model import schema
from secure_ai.runs.engine.stage import Notice
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.outputs.assemble import NO_DEFENCES
from secure_ai.runs.recipe import prepare
from secure_ai.runs.verbs.replay import replay
from secure_ai.runs.verbs.report import read_report
from secure_ai.runs.verbs.run import RunResult, run

pytestmark = pytest.mark.usefixtures("smaller_probes")

REPORT_1_FILES = [
    *(f"models/{name}.keras" for name in ("baseline_cnn", "adv_trained_cnn", "poisoned_cnn")),
    *(f"models/{name}.safetensors" for name in ("baseline_cnn", "adv_trained_cnn", "poisoned_cnn")),
    *(f"metrics/{name}_metrics.json" for name in ("baseline", "fgsm", "advtrain", "poison")),
    "metrics/metrics_summary.json",
    *(
        f"images/{name}.png"
        for name in (
            "baseline_confusion",
            "baseline_accuracy",
            "baseline_loss",
            "baseline_fgsm_confusion",
            "advtrained_clean_confusion",
            "advtrained_fgsm_confusion",
            "fgsm_accuracy_comparison",
            "poison_confusion",
            "poison_clean_confusion",
            "poison_target_effect",
        )
    ),
]
OTHER_FILES = [
    "report.html",
    "report.json",
    "findings.sarif",
    "bandit.txt",
    "bandit.json",
    "threat_model.md",
    "run.json",
    "events.jsonl",
]
REPORT_1_KEYS = {
    "baseline": "scenario loss accuracy train_time_seconds inference_time_per_image_seconds epochs batch_size",
    "fgsm": "scenario attack eps generation_time_seconds baseline_clean_loss baseline_clean_accuracy "
    "baseline_adversarial_loss baseline_adversarial_accuracy",
    "advtrain": "scenario attack eps advtrain_epochs advtrain_batch_size advtrain_time_seconds advtrained_clean_loss "
    "advtrained_clean_accuracy advtrained_adversarial_loss advtrained_adversarial_accuracy",
    "poison": "scenario mode target_class num_poisoned patch_size patch_value epochs batch_size train_time_seconds "
    "clean_test_loss clean_test_accuracy target_class_clean_accuracy target_class_patched_accuracy",
}
BESIDE = {
    "baseline": "accuracy_interval",
    "fgsm": "true_label_accuracy trust",
    "advtrain": "whitebox_fgsm_accuracy pgd_accuracy listing trust",
    "poison": "backdoor_success_rate clean_model_backdoor_success_rate trust",
}


def test_every_file_of_the_contract_is_there(finished: RunResult) -> None:
    missing = [name for name in [*REPORT_1_FILES, *OTHER_FILES] if not (finished.folder / name).is_file()]
    assert missing == []
    assert finished.exit_code == 0
    left = [path for path in finished.folder.rglob(".secure-ai-tmp-*")]
    assert left == []


def test_report_1s_files_hold_its_keys_and_what_stands_beside(finished: RunResult) -> None:
    summary = json.loads((finished.folder / "metrics/metrics_summary.json").read_text())
    assert set(summary) == set(REPORT_1_KEYS)
    for name, keys in REPORT_1_KEYS.items():
        content = json.loads((finished.folder / f"metrics/{name}_metrics.json").read_text())
        assert set(content) == {*keys.split(), *BESIDE[name].split()}
        assert content == summary[name]
    assert summary["advtrain"]["trust"]["verdict"] == "broken"
    assert summary["baseline"]["accuracy_interval"]["n"] == 300


def test_the_suite_attacks_every_network_that_was_not_poisoned_and_is_replayed(finished: RunResult) -> None:
    suites = {entry.id: entry for entry in finished.report.measurements if entry.condition == "suite"}
    assert list(suites) == [f"report-1/{name}/suite" for name in ("baseline", "defended-p", "defended-l")]
    for entry in suites.values():
        assert (entry.metric, entry.value.n, entry.budget) == (
            "robust_accuracy", 40, PerturbationBudget("linf", 0.25)
        )  # fmt: skip
        assert entry.trust is not None
        assert entry.trust.verdict is Verdict.DOUBTFUL
        failed = {check.id for check in entry.trust.checks if check.outcome is CheckOutcome.FAIL}
        assert {"sample-size", "suite-strength"} <= failed
    assert secure_ai.replay(finished.folder, "report-1/defended-l/suite").verdict == "same"


def test_the_report_fits_its_schema_and_the_pictures_are_pictures(finished: RunResult) -> None:
    content = json.loads((finished.folder / "report.json").read_text())
    jsonschema.validate(content, schema())
    assert read_report(finished.folder) == finished.report
    assert finished.report.run.complete
    assert all((finished.folder / name).read_bytes().startswith(b"\x89PNG") for name in REPORT_1_FILES if "png" in name)


def test_a_run_with_a_defence_has_the_card_and_its_picture(finished: RunResult) -> None:
    sections = {section.id: section for section in finished.report.sections}
    card, by_class = sections["defences/card"], sections["defences/classes"]
    assert [row[0] for row in card.rows] == [row[0] for row in by_class.rows]
    assert {"fgsm", "pgd", "suite", "p", "distance", "seconds", "latency", "calibration"} <= {
        c.id for c in card.columns
    }
    suites = {entry.model: entry.value for entry in finished.report.measurements if entry.condition == "suite"}
    for model, *cells in by_class.rows:
        rates = [cell for cell in cells if isinstance(cell, Rate)]
        assert isinstance(model, Ref)
        assert sum(cell.successes for cell in rates) == suites[model.id].successes
        assert sum(cell.n for cell in rates) == 40
        assert f"confidence/{model.id}" in sections
    assert (finished.folder / "images/defence_frontier.png").is_file()
    assert NO_DEFENCES in finished.report.not_tested


@pytest.mark.parametrize("name", ["report-1/baseline/fgsm", "report-1/defended-l/pgd"])
def test_an_example_of_a_built_in_network_comes_out_again(finished: RunResult, name: str) -> None:
    found = replay(finished.folder, name)
    assert found.verdict == "same"
    assert found.record.n == 300


def test_a_built_in_network_that_was_exchanged_is_told(finished: RunResult, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / "copy"))
    shutil.copyfile(copy / "models/baseline_cnn.safetensors", copy / "models/adv_trained_listing_cnn.safetensors")
    with pytest.raises(DigestMismatchError):
        replay(copy, "report-1/defended-l/pgd")


def test_a_finding_of_the_code_audit_has_no_replay(finished: RunResult) -> None:
    finding = next(f for f in finished.report.findings if not f.evidence.keys() & {"measurement", "lowest"})
    with pytest.raises(ReplayError):
        replay(finished.folder, f"{finding.id}@{finding.location}")


def test_the_transfer_matrix_holds_the_networks_that_were_not_poisoned(finished: RunResult) -> None:
    (entry,) = finished.report.transfers
    assert entry.networks == ("report-1/baseline", "report-1/defended-p", "report-1/defended-l")
    assert entry.budget == PerturbationBudget("linf", 0.25)
    rows = [m for m in finished.report.measurements if m.metric == "transfer_accuracy"]
    assert len(rows) == 6
    assert {row.trust.verdict for row in rows if row.trust} == {Verdict.BROKEN}
    for name in ("transfer_matrix", "adversarial_examples_report_1"):
        assert (finished.folder / f"images/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_quick_is_not_compared_with_the_reports_figures(finished: RunResult) -> None:
    assert finished.report.reproduction == ()
    assert finished.report.run.deviates


def test_no_robust_accuracy_stands_without_a_trust_verdict(finished: RunResult) -> None:
    robust = [entry for entry in finished.report.measurements if entry.metric == "robust_accuracy"]
    assert len(robust) == 8 + 3  # the suite on each network that was not poisoned
    verdicts = {None if entry.trust is None else entry.trust.verdict for entry in robust}
    assert verdicts == {Verdict.DOUBTFUL, Verdict.BROKEN}


def test_run_json_lists_every_file_with_its_digest(finished: RunResult) -> None:
    import hashlib

    content = json.loads((finished.folder / "run.json").read_text())
    for name, digest in content["files"].items():
        assert hashlib.sha256((finished.folder / name).read_bytes()).hexdigest() == digest
    state = verify_log(finished.folder / "events.jsonl")
    assert content["events"] == {"records": state.records, "digest": state.digest}


def test_a_second_run_reuses_every_stage_and_gives_the_same_metrics(
    finished: RunResult, quick_changes: list[str]
) -> None:
    before = (finished.folder / "metrics/metrics_summary.json").read_bytes()
    again = run("quick", changes=quick_changes, out=finished.folder)
    assert len(again.reused) == len(finished.report.run.stage_seconds)
    assert (finished.folder / "metrics/metrics_summary.json").read_bytes() == before
    assert again.report.measurements == finished.report.measurements


def test_a_damaged_output_is_written_again(finished: RunResult, quick_changes: list[str]) -> None:
    path = finished.folder / "models/baseline_cnn.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    run("quick", changes=quick_changes, out=finished.folder)
    assert path.read_bytes() == whole


def test_an_interrupted_run_leaves_a_report_that_says_so(tmp_path: Path, quick_changes: list[str]) -> None:
    early: list[str] = []

    def stop(notice: Notice) -> None:
        if notice.kind == "page":
            early.append(Path(notice.text).read_text())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("quick", changes=quick_changes, out=tmp_path / "out", watcher=stop)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.validate(report, schema())
    assert report["run"]["complete"] is False
    assert any(text.startswith("report-1/badnets:") for text in report["not_tested"])
    assert "incomplete" in (tmp_path / "out" / "report.html").read_text().lower()
    assert len(early) == 1
    assert "incomplete" in early[0].lower()
    seen: list[Notice] = []

    def watch(notice: Notice) -> None:
        seen.append(notice)
        if notice.kind == "start":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("quick", changes=quick_changes, out=tmp_path / "out", watcher=watch)
    reused = [notice.stage for notice in seen if notice.reused]
    assert reused == ["report-1/baseline"]  # so the page was there before the second network was trained


def test_an_interruption_inside_an_attack_is_not_kept_as_a_result(tmp_path: Path, quick_changes: list[str]) -> None:
    """The harness turns Ctrl-C into a partial result; a stage must not store that."""
    current = ""

    def stop(notice: Notice) -> None:
        nonlocal current
        current = notice.stage or current
        if notice.kind == "progress" and current == "report-1/baseline/white-box":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("quick", changes=quick_changes, out=tmp_path / "out", watcher=stop)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    stages = {entry["stage"] for entry in report["measurements"]}
    assert stages == {"report-1/baseline/clean", "report-1/baseline/fgsm-predicted"}
    assert any(text.startswith("report-1/baseline/white-box:") for text in report["not_tested"])


def test_a_run_stopped_in_an_attack_reports_what_it_had_and_stores_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))\n"
    )
    x = np.random.default_rng(0).integers(0, 256, (600, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(600) % 2)
    steps = 0

    def stop(notice: Notice) -> None:
        nonlocal steps
        steps += notice.kind == "progress"
        if steps == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            model=ModelSpec(arch=f"{tmp_path / 'net.py'}:build"), data=str(tmp_path / "data.npz"),
            changes=["assess.attack=fgsm"], out=tmp_path / "out", watcher=stop,
        )  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    attacked = next(entry for entry in report["measurements"] if entry["id"] == "subject/attacked")
    assert 0 < attacked["value"]["n"] < 600
    assert attacked["trust"]["verdict"] == "doubtful"
    assert report["run"]["complete"] is False
    assert any(text.startswith("assess/attack:") and "stopped" in text for text in report["not_tested"])
    stored = [json.loads(file.read_text()) for file in (tmp_path / "out" / ".store" / "stages").glob("*")]
    assert "assess/attack" not in {record["stage"] for record in stored}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_refused_model_writes_nothing_and_loses_nothing(tmp_path: Path, fresh: bool) -> None:
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"\x80\x02cos\nsystem\n.")
    kept = tmp_path / "kept"
    (kept / ".store").mkdir(parents=True)
    (kept / ".store" / "marker").write_text("mine")
    for folder in (tmp_path / "new", kept):
        before = sorted(folder.rglob("*"))
        with pytest.raises(SecureAIError):
            run(model=ModelSpec(model=str(bad)), out=folder, fresh=fresh)
        assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_fresh_never_goes_on_with_results_it_could_not_remove(tmp_path: Path, quick_changes: list[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".store").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFailedError):
        run("quick", changes=quick_changes, out=tmp_path / "out", fresh=True)


def test_options_that_do_not_fit_the_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run("quick", model=ModelSpec(model="x"), out=tmp_path / "out")
    with pytest.raises(UsageError):
        run("report-1", mode="poisoned", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_the_reports_networks_cannot_take_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", x=np.zeros((20, 8, 8), dtype=np.uint8), y=np.arange(20) % 2)
    np.savez(tmp_path / "other.npz", x=np.ones((20, 8, 8), dtype=np.uint8) * 9, y=np.arange(20) % 2)
    given = [
        f"data.{role}={json.dumps(str(tmp_path / name))}"
        for role, name in (("train", "small.npz"), ("test", "other.npz"))
    ]
    with pytest.raises(ShapeError):
        run("quick", changes=given, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_report_2_end_to_end(tmp_path: Path, digit_files: dict[str, Path]) -> None:
    given = [f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()]
    given += ["report_2.epochs=1", "report_2.defence_epochs=1", "report_2.pgd_steps=2", "report_2.poison_count=20"]
    given += ["report_2.first=64", "transfer.steps=2", "transfer.n=60", 'parts=["report-2"]']
    result = run("report-2", changes=given, out=tmp_path / "out")
    assert result.exit_code == 0
    assert [model.id for model in result.report.models] == [
        "report-2/baseline",
        "report-2/poisoned",
        "report-2/defended",
    ]
    found = {entry.id: entry for entry in result.report.measurements}
    metrics = {entry.metric for entry in found.values()}
    assert metrics >= {"clean_accuracy", "robust_accuracy", "backdoor_success_rate"}
    assert result.report.reproduction == ()
    assert found["report-2/poisoned/backdoor"].value.n == 30
    check = found["report-2/poisoned/few-triggered"]
    assert (check.metric, check.value.n) == ("partly_triggered_accuracy", 300)


def test_what_the_time_budget_does_not_hold_is_listed_and_the_exit_code_says_so(
    tmp_path: Path, quick_changes: list[str]
) -> None:
    result = run("quick", changes=quick_changes, out=tmp_path / "out", time_budget=0.001)
    assert result.exit_code == 3
    assert not result.report.run.complete
    assert result.report.measurements == ()
    assert any(text.startswith("report-1/baseline:") for text in result.report.not_tested)
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    left_out = [event["data"]["stage"] for event in events if event["kind"] == "stage_skipped"]
    assert {"report-1/baseline", "report-1/baseline/white-box"} <= set(left_out)


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path, quick_changes: list[str]) -> None:
    with lock_folder(tmp_path), pytest.raises(LockedError):
        run("quick", changes=quick_changes, out=tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_a_folder_that_cannot_be_made_is_an_environment_error(tmp_path: Path, quick_changes: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentFailedError):
        run("quick", changes=quick_changes, out=tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("change", ["data.test=nowhere.npz", "data.train=mnist:trian", "report_1.target_label=12"])
def test_bad_requests_write_nothing(tmp_path: Path, quick_changes: list[str], change: str) -> None:
    with pytest.raises(SecureAIError):
        run("quick", changes=[*quick_changes, change], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("suite.attack=nothing", AttackSettingsError),
        ("suite.attack=transfer", AttackSettingsError),
        ("suite.attack=pgd:steps=1000000000", AttackSettingsError),
        ("suite.attack=square:query_budget=1000000:restarts=1000", CostLimitError),
    ],
)
def test_attacks_no_stage_could_use_are_refused_before_the_first(
    tmp_path: Path, quick_changes: list[str], change: str, error: type[SecureAIError]
) -> None:
    with pytest.raises(error):
        run("standard", changes=[*quick_changes, change], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        "assess.eps=0",
        "assess.eps=2",
        "assess.attack=pgd:steps=1000000000",
        "assess.attack=transfer",
        "assess.attack=examples:x.npz",
        "assess.attack=transfer,examples:x.npz assess.surrogate=SURROGATE",
        "assess.norm=l1 assess.attack=hopskipjump",
        "assess.attack=square",
    ],
)
def test_what_assess_could_not_do_is_refused_before_code_of_the_user_s_runs(
    tmp_path: Path, digit_files: dict[str, Path], change: str
) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit('this code ran')")
    (tmp_path / "other.safetensors").write_bytes(safetensors_bytes({"w": np.zeros(1, dtype=np.float32)}, {}))
    asked = change.replace("SURROGATE", str(tmp_path / "other.safetensors")).split()
    spec = ModelSpec(arch=f"{tmp_path / 'net.py'}:factory", access="labels" if "square" in change else None)
    with pytest.raises((BudgetError, AttackSettingsError)):
        run(model=spec, data=str(digit_files["test"]), changes=asked, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("model", "error"), [(None, ConfigError), ("missing.pt", FileMissingError)])
def test_assess_needs_a_model_and_asks_for_no_data_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str | None, error: type[SecureAIError]
) -> None:
    monkeypatch.setattr(prepare, "load_data", lambda *arguments, **more: pytest.fail("data was asked for"))
    spec = ModelSpec(model=str(tmp_path / model)) if model else None
    with pytest.raises(error):
        run("assess", model=spec, data="never-read.npz", out=tmp_path / "out")


def test_assess_with_labels_only_says_what_it_could_not_measure(
    tmp_path: Path, finished: RunResult, digit_files: dict[str, Path]
) -> None:
    baseline = str(finished.folder / "models/baseline_cnn.keras")
    result = run(
        model=ModelSpec(model=baseline, access="labels"),
        data=str(digit_files["test"]),
        changes=[
            "assess.n=20",
            'assess.attack="noise,transfer:steps=3"',
            "assess.curve=[1.0]",
            f'assess.surrogate="{baseline}"',
        ],
        out=tmp_path / "out",
    )
    report = result.report
    assert result.exit_code == 0
    assert (report.distances, report.transfers) == ((), ())
    assert {model.access for model in report.models if model.id == "subject"} == {"labels"}
    assert secure_ai.replay(result.folder, "subject/attacked").verdict == "same"


def test_assess_on_a_network_of_the_users_own(
    tmp_path: Path, finished: RunResult, digit_files: dict[str, Path]
) -> None:
    spec = ModelSpec(model=str(finished.folder / "models/baseline_cnn.keras"))
    result = run(
        model=spec,
        data=str(digit_files["test"]),
        changes=["assess.n=100", 'assess.attack="fgsm,pgd:steps=3"', "assess.curve=[0.0, 1.0]"],
        out=tmp_path / "out",
    )
    report = result.report
    assert [model.role for model in report.models] == ["subject"]
    assert {entry.metric for entry in report.measurements} == {"clean_accuracy", "robust_accuracy"}
    assert report.measurements[-1].id == "subject/curve/0.1"
    assert (result.folder / "images/security_curve.png").is_file()
    assert report.models[0].preflight
    assert shlex.split(report.measurements[0].replay)[:2] == ["secure-ai", "run"]
    assert all(entry.value.n == 100 for entry in report.measurements)
    assert result.exit_code == 0
