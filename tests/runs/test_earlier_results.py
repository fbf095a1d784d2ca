"""What an earlier run left is believed only under the user's own key, and must agree with itself and with the data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from secure_ai.core.errors import FormatError
from secure_ai.core.events import ignore_event
from secure_ai.core.result import Model
from secure_ai.core.results import Measurement, rate
from secure_ai.data.dataset import Dataset
from secure_ai.files.seal import user_seal
from secure_ai.report.model import Report, Run, Tool
from secure_ai.runs.engine.result_file import RESULT_NAME
from secure_ai.runs.engine.stage import Stage
from secure_ai.runs.engine.store import Store
from secure_ai.runs.outputs.agree import refuse_disagreeing
from secure_ai.runs.outputs.facts import RunFacts
from secure_ai.runs.verbs.run import RunResult, run

STAGE = "report-1/baseline/clean"
NO_TIME = 1e-3  # seconds: whatever is not reused is left out


@pytest.fixture
def folder(finished: RunResult, tmp_path: Path) -> Path:
    """A copy of a finished run, as from a colleague or a CI cache."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


def test_a_copy_of_the_users_own_run_is_reused(folder: Path, quick_changes: list[str]) -> None:
    again = run("quick", changes=quick_changes, out=folder, time_budget=NO_TIME)
    assert again.report.run.complete
    assert (again.report.run.foreign, again.report.run.key_note) == ((), "")


def test_a_run_of_another_user_is_not_reused_and_the_report_says_so(
    folder: Path, quick_changes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    again = run("quick", changes=quick_changes, out=folder, time_budget=NO_TIME)
    assert again.reused == ()
    assert "report-1/baseline" in again.report.run.foreign
    assert again.report.measurements == ()
    assert json.loads((folder / "report.json").read_text())["run"]["foreign"] == list(again.report.run.foreign)


def test_without_a_state_folder_nothing_is_reused_and_the_report_says_why(
    folder: Path, quick_changes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    again = run("quick", changes=quick_changes, out=folder, time_budget=NO_TIME)
    assert again.reused == ()
    assert again.report.run.key_note


def more_images_than_there_are(entry: dict[str, Any]) -> None:
    entry |= {"value": rate(985, 1000).as_json(), "trust": None}


def another_rate(entry: dict[str, Any]) -> None:
    entry["value"]["value"] = 0.5


def another_verdict(entry: dict[str, Any]) -> None:
    entry["trust"]["verdict"] = "reliable"


def broken_without_a_cause(entry: dict[str, Any]) -> None:
    entry["trust"]["verdict"] = "broken"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (more_images_than_there_are, "300"),
        (another_rate, None),
        (another_verdict, "doubtful"),
        (broken_without_a_cause, "doubtful"),
    ],
)
def test_a_result_that_does_not_agree_is_refused_even_under_the_users_key(
    folder: Path, quick_changes: list[str], change: Callable[[dict[str, Any]], None], expected: str | None
) -> None:
    store = Store(folder / ".store", ignore_event, user_seal())
    events = [json.loads(line)["data"] for line in (folder / "events.jsonl").read_text().splitlines()]
    key = next(data["key"] for data in events if data.get("stage") == STAGE and "outputs" in data)
    record = store.find(key)
    assert record is not None
    outputs = {name: store.blob(digest) for name, digest in record.outputs.items()}
    result = json.loads(outputs[RESULT_NAME])
    entry = result["measurements"][0]
    change(entry)
    store.put(STAGE, key, outputs | {RESULT_NAME: json.dumps(result).encode()}, record.seconds)
    with pytest.raises(FormatError) as refused:
        run("quick", changes=quick_changes, out=folder, time_budget=NO_TIME)
    assert entry["id"] in refused.value.where
    assert expected is None or refused.value.expected == expected


def facts_of(stage: str, data: Dataset) -> RunFacts:
    """As much of a run as the comparison reads."""
    plan = SimpleNamespace(networks={}, stages=(Stage(id=stage, function=lambda work: {}, data=("test",)),))
    return cast(RunFacts, SimpleNamespace(plan=plan, data={"test": data}))


@pytest.mark.parametrize(("n", "agrees"), [(300, True), (301, False)])
def test_no_stage_counts_more_images_than_its_data_have(digits_test: Dataset, n: int, agrees: bool) -> None:
    model = Model(id="net", role="subject", digest="0" * 64, format="safetensors", arch="x")
    entry = Measurement(id="net/clean", model="net", metric="x", value=rate(n - 1, n), stage="s", replay="")
    report = Report(
        tool=Tool("secure-ai", "0"), run=Run(id="x", recipe="r", complete=True, seconds=0.0, seed=0), models=(model,),
        data=(), measurements=(entry,), reproduction=(), findings=(), threats=(), not_tested=(),
    )  # fmt: skip
    with nullcontext() if agrees else pytest.raises(FormatError):
        refuse_disagreeing(report, facts_of("s", digits_test))
    refuse_disagreeing(report, facts_of("another stage", digits_test))  # one that reads no data counts something else
