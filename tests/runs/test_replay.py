"""`replay`: what a run of a small network left is made again bit for bit, and anything that was changed is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secure_ai.cli.main import run_command
from secure_ai.core.errors import (
    AttackSettingsError,
    DigestMismatchError,
    FormatError,
    ReplayError,
    SecureAIError,
    UsageError,
)
from secure_ai.core.results import CURVE, Measurement
from secure_ai.data.source import load_data
from secure_ai.data.splits import sample_n
from secure_ai.models.load.store import load_model
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.saved_examples import image_key
from secure_ai.report.model import Report
from secure_ai.runs.examples_file import read_examples
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.replay import replay
from secure_ai.runs.verbs.run import RunResult, run

pytestmark = pytest.mark.usefixtures("smaller_probes")

ATTACKED = "subject/attacked"
N = 290  # two shards


@pytest.fixture
def copy(assessed: RunResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(assessed.folder, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_report_holds_matrix_distance_and_pictures(assessed: RunResult) -> None:
    report = assessed.report
    (entry,) = report.transfers
    assert entry.networks == ("subject", "surrogate")
    assert [m.id for m in report.measurements if m.metric == "transfer_accuracy"] == [
        "surrogate/from/subject",
        "subject/from/surrogate",
    ]
    assert report.distances[0].n == 20
    assert [model.role for model in report.models] == ["subject", "surrogate"]
    page = (assessed.folder / "report.html").read_text()
    assert page.count("data:image/png") >= 3
    for name in ("transfer_matrix_subject", "adversarial_examples_subject", "security_curve"):
        assert (assessed.folder / f"images/{name}.png").read_bytes().startswith(b"\x89PNG")


def curve(report: Report) -> list[Measurement]:
    return [entry for entry in report.measurements if entry.condition == CURVE]


def test_the_curve_never_rises(assessed: RunResult) -> None:
    points = curve(assessed.report)
    assert len(points) == 2
    successes = [entry.value.successes for entry in points]
    assert successes == sorted(successes, reverse=True)
    for entry in points:
        assert entry.trust is not None
        assert {"monotone-in-eps", "pgd-falls-short"} <= {check.id for check in entry.trust.checks}


@pytest.mark.parametrize("name", [ATTACKED, "subject/curve/0.02", "SAI-EV-001"])
def test_the_same_bits_come_out_again(assessed: RunResult, name: str) -> None:
    if name.startswith("SAI") and name not in {finding.id for finding in assessed.report.findings}:
        pytest.fail("the attacks should have broken this network")
    before = contents(assessed.folder)
    found = replay(assessed.folder, name)
    assert found.verdict == "same"
    assert found.exit_code == 0
    assert len(found.shards) == 1
    assert found.differences == ()
    assert contents(assessed.folder) == before


def test_every_shard_and_any_sample(assessed: RunResult) -> None:
    found = replay(assessed.folder, ATTACKED, every=True, index=280)
    assert [(shard.first, shard.n, shard.same) for shard in found.shards] == [(0, 256, True), (256, 34, True)]
    assert found.sample.index == 280
    (only,) = replay(assessed.folder, ATTACKED, index=280).shards
    assert only == found.shards[1]


def test_the_example_is_saved_and_scores_as_it_was(
    assessed: RunResult, inputs: Mapping[str, Path], tmp_path: Path
) -> None:
    found = replay(assessed.folder, ATTACKED, out=tmp_path / "one.npz")
    assert found.sample.broken_by is not None
    assert found.sample.adversarial.label != found.sample.label
    assert found.sample.distance <= 0.02 + 1e-6
    whole = load_data(str(inputs["data"]), split="test", n=None, seed=42)
    with pytest.raises(UsageError):  # the stage drew a sample: the file names its digest
        read_examples(str(tmp_path / "one.npz"), whole)
    drawn = sample_n(whole, N, 42)
    lookup, made_for = read_examples(str(tmp_path / "one.npz"), drawn)
    ((clean, example),) = lookup.items()
    image = images_to_float(drawn.images[drawn.indices == found.sample.index])
    assert (clean, made_for) == (image_key(image[0]), found.record.model_digest)
    assert np.array_equal(example.numpy(), found.x_adv[0])
    network = load_model(inputs["mine"]).network
    with torch.no_grad():
        assert int(network(example[None]).argmax()) == found.sample.adversarial.label
    replay(assessed.folder, ATTACKED, out=tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError):
        replay(assessed.folder, ATTACKED, out=tmp_path / "one.jpg")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("SAI-XX-999", UsageError),
        ("subject/clean", ReplayError),
        ("subject/from/surrogate", ReplayError),
    ],
)
def test_what_has_no_replay_says_so(assessed: RunResult, name: str, error: type[SecureAIError]) -> None:
    with pytest.raises(error) as caught:
        replay(assessed.folder, name)
    if error is ReplayError:
        assert "secure-ai run" in caught.value.hint


def test_an_image_that_was_not_attacked_is_refused(assessed: RunResult) -> None:
    with pytest.raises(UsageError):
        replay(assessed.folder, ATTACKED, index=10**6)


# --- a folder from elsewhere ------------------------------------------------------------------------------------------


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change run.json."""
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


def rewrite_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the replay record and every digest on the way to it, as whoever owns the folder can."""
    run_json = json.loads((folder / "run.json").read_text())
    outputs = run_json["stages"]["assess/attack"]["outputs"]
    old = outputs["result.json"]
    content = json.loads((folder / f".store/objects/{old[:2]}/{old}").read_bytes())
    (record,) = content["replays"]
    assert record["id"] == ATTACKED
    change(record)
    blob = json.dumps(content).encode()
    new = hashlib.sha256(blob).hexdigest()
    place = folder / f".store/objects/{new[:2]}"
    place.mkdir(exist_ok=True)
    (place / new).write_bytes(blob)
    outputs["result.json"] = new
    (folder / "run.json").write_text(json.dumps(run_json))


def test_another_digest_on_record_differs(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite_record(copy, lambda record: record.update(shards=["0" * 64] * 2))
    found = replay(copy, ATTACKED)
    assert (found.verdict, found.exit_code) == ("differs", 4)
    assert run_command(["replay", str(copy), ATTACKED, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["verdict"] == "differs"


def test_another_seed_differs(copy: Path) -> None:
    rewrite_record(copy, lambda record: record.update(seed=7))
    assert replay(copy, ATTACKED).verdict == "differs"


def exchange(record: dict[str, Any], number: int, text: str) -> None:
    record["attacks"][number] = text


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], None], type[SecureAIError]]] = {
    "endless": (lambda r: exchange(r, 0, "pgd:steps=1000000000"), AttackSettingsError),
    "unknown attack": (lambda r: exchange(r, 0, "rm"), AttackSettingsError),
    "a second attack smuggled in": (lambda r: exchange(r, 0, "pgd:steps=2,noise"), FormatError),
    "a text without end": (lambda r: exchange(r, 0, "pgd" + ":steps=2" * 1000), FormatError),
    "saved examples": (lambda r: exchange(r, 0, "examples:x.npz"), ReplayError),
    "other network": (lambda r: r.update(model_digest="1" * 64), DigestMismatchError),
    "other surrogate": (lambda r: r.update(surrogate="1" * 12), DigestMismatchError),
    "other data": (lambda r: r.update(data_digest="1" * 64), DigestMismatchError),
    "no data": (lambda r: r.update(data_digest=""), FormatError),
    "no shards": (lambda r: r.update(shards=[]), FormatError),
    "fewer shards": (lambda r: r.update(shards=r["shards"][:1]), ReplayError),
    "many threads": (lambda r: r.update(threads=10**6), FormatError),
    "not a number": (lambda r: r.update(eps="0.1"), FormatError),
    "no such norm": (lambda r: r.update(norm="l7"), FormatError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_is_refused(copy: Path, name: str) -> None:
    change, error = HOSTILE[name]
    rewrite_record(copy, change)
    with pytest.raises(error):
        replay(copy, ATTACKED)


def test_an_altered_store_or_report_is_told(copy: Path) -> None:
    outputs = json.loads((copy / "run.json").read_text())["stages"]["assess/attack"]["outputs"]
    digest = outputs["result.json"]
    blob = copy / f".store/objects/{digest[:2]}/{digest}"
    whole = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(whole + b" ")
    with pytest.raises(DigestMismatchError):
        replay(copy, ATTACKED)
    assert blob.exists()  # a replay removes nothing
    blob.write_bytes(whole)
    assert replay(copy, ATTACKED).verdict == "same"
    (copy / "report.json").write_text((copy / "report.json").read_text() + " ")
    with pytest.raises(DigestMismatchError):
        replay(copy, ATTACKED)


def test_a_path_in_place_of_a_digest_is_refused(copy: Path) -> None:
    rewrite(copy, lambda run: run["stages"]["assess/attack"]["outputs"].update({"result.json": "../../../etc/passwd"}))
    with pytest.raises(ReplayError):
        replay(copy, ATTACKED)


def test_code_that_the_folder_names_is_not_run(copy: Path, inputs: Mapping[str, Path], tmp_path: Path) -> None:
    code = tmp_path / "evil.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    rewrite(copy, lambda run: run["user_model"].update(arch=f"{code}:build"))
    with pytest.raises(UsageError):
        replay(copy, ATTACKED)
    assert not (tmp_path / "ran").exists()
    own = ModelSpec(model=str(inputs["mine"]))
    assert replay(copy, ATTACKED, model=own, surrogate=ModelSpec(model=str(inputs["other"]))).verdict == "same"
    with pytest.raises(DigestMismatchError):
        replay(copy, ATTACKED, model=ModelSpec(model=str(inputs["other"])))


def test_a_network_that_is_named_anew_is_fed_as_the_run_fed_it(copy: Path, inputs: Mapping[str, Path]) -> None:
    own, other = ModelSpec(model=str(inputs["mine"])), ModelSpec(model=str(inputs["other"]))
    rewrite(copy, lambda run: run["user_model"].update(mean=[0.5], std=[0.1]))
    assert replay(copy, ATTACKED, model=own, surrogate=other).verdict == "differs"
    plain = replace(own, mean=(0.0,), std=(1.0,))
    assert replay(copy, ATTACKED, model=plain, surrogate=replace(other, mean=(0.0,), std=(1.0,))).verdict == "same"


def test_a_network_that_code_makes_without_a_file_is_named_by_its_code_alone(
    inputs: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "net.py"
    code.write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    changes = ["assess.n=20", 'assess.attack="fgsm"', "assess.curve=[1.0]", "assess.distance_n=2"]
    out, arch = tmp_path / "out", f"{code}:build"
    run(model=ModelSpec(arch=arch), data=str(inputs["data"]), changes=[*changes, "assess.distance_steps=2"], out=out)
    assert run_command(["replay", str(out), ATTACKED]) == 2
    assert "E_USAGE" in capsys.readouterr().err
    assert run_command(["replay", str(out), ATTACKED, "--arch", arch]) == 0


def test_a_run_of_an_earlier_version_has_none(copy: Path) -> None:
    rewrite(copy, lambda run: run.pop("stages") and None)
    with pytest.raises(ReplayError):
        replay(copy, ATTACKED)


def test_the_commands_exit_codes(assessed: RunResult, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "one.npz"
    assert run_command(["replay", str(assessed.folder), ATTACKED, "--out", str(out), "--quiet"]) == 0
    assert "same" in capsys.readouterr().out
    assert out.is_file()
    assert run_command(["replay", str(assessed.folder), "subject/clean"]) == 3
    assert "E_REPLAY" in capsys.readouterr().err
    assert run_command(["replay", str(assessed.folder), "nothing"]) == 2
    assert run_command(["replay", str(tmp_path / "nowhere"), ATTACKED]) == 2


def test_the_hint_for_an_unknown_name_leads_to_every_name(
    assessed: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        replay(assessed.folder, "no-such-name")
    words = caught.value.hint.removesuffix(" lists both").replace("RUN", str(assessed.folder)).split()[1:]
    capsys.readouterr()
    run_command(words)
    shown = capsys.readouterr().out
    assert all(finding.id in shown for finding in assessed.report.findings)
    assert ATTACKED in shown
