"""`backdoor scan` end to end on small linear networks: fleets, cache, refusals; the statistics are in tests/blue."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.blue.backdoors import fleet as control
from secure_ai.blue.backdoors import inversion, judgement, margin
from secure_ai.blue.backdoors.judgement import ScanVerdict
from secure_ai.cli.main import run_command
from secure_ai.core.errors import DataUnavailableError, UsageError
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.load.store import save_model
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.target.transform import InputTransform
from secure_ai.red.poisoning.plant import plant
from secure_ai.runs.backdoors import fleet as fleets
from secure_ai.runs.backdoors import scan as scans
from secure_ai.runs.backdoors.build import SHARED_CODE, anew
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs import backdoor_scan

CODE = """import numpy
import torch


def net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))


class Rounded(torch.nn.Module):
    def forward(self, x): return (8 * x).round().flatten(1) / 8


def rounded(): return torch.nn.Sequential(Rounded(), torch.nn.Linear(784, 10))


class Keeping(torch.nn.Sequential):
    def __init__(self, kept):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        self.kept = kept


def attribute(): return Keeping(torch.zeros(10))


def parameter(): return Keeping(torch.nn.Parameter(torch.zeros(10)))


def inside(): return Keeping({"mask": [torch.zeros(10)]})


def array(): return Keeping(numpy.zeros(10))


class Probabilities(torch.nn.Sequential):
    def forward(self, x): return (super().forward(x).softmax(1),)


def probabilities(): return Probabilities(torch.nn.Flatten(), torch.nn.Linear(784, 10))


def nothing(): return Keeping({"sizes": [1, 2]})


def normed(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10))
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(margin, "STEPS", 15)
    monkeypatch.setattr(backdoor_scan, "LEAST_FLEET", 2)
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=25))


def trained(data: Dataset, path: Path) -> None:
    """A linear network fitted to `data` by a few steps of gradient descent on all of it."""
    layer = torch.nn.Linear(784, 10)
    torch.nn.init.zeros_(layer.weight)
    x, y = torch.from_numpy(data.images.copy()).flatten(1) / 255, torch.from_numpy(data.labels.copy())
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y).backward()
        optimizer.step()
    arrays = {f"1.{name}": value.detach().numpy() for name, value in layer.named_parameters()}
    path.write_bytes(safetensors_bytes(arrays, {}))


@pytest.fixture
def files(tmp_path: Path, digits: Dataset, digit_files: dict[str, Path]) -> dict[str, Any]:
    (tmp_path / "net.py").write_text(CODE)
    poisoned = plant(
        digits, trigger=parse_trigger("patch:size=2:place=0x0:value=1"), target_label=3, source_label=None,
        label_mode="dirty", select="random", seed=0, poison_rate=0.2,
    )  # fmt: skip
    trained(digits, tmp_path / "clean.safetensors")
    trained(poisoned.dataset, tmp_path / "bad.safetensors")
    arch = f"{tmp_path / 'net.py'}:net"
    return {
        "clean": ModelSpec(model=str(tmp_path / "clean.safetensors"), arch=arch),
        "bad": ModelSpec(model=str(tmp_path / "bad.safetensors"), arch=arch),
        "normed": ModelSpec(arch=f"{tmp_path / 'net.py'}:normed"),
        "test": str(digit_files["train"]),
        "train": str(digit_files["train"]),
    }


def test_a_killed_calibration_resumes_and_a_changed_one_does_not(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[int] = []
    whole = control.control_network

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(arguments[2])
        if calls == [0, 1, 2]:
            raise KeyboardInterrupt
        return whole(*arguments, **settings)

    monkeypatch.setattr(fleets, "control_network", counted)
    with pytest.raises(KeyboardInterrupt):
        secure_ai.backdoor_scan(files["clean"], files["test"], fleet=4)
    calls[:] = [-1]
    first = secure_ai.backdoor_scan(files["clean"], files["test"], fleet=4)
    assert calls == [-1, 2, 3]  # two are kept
    again = secure_ai.backdoor_scan(files["clean"], files["test"], fleet=4)
    assert calls == [-1, 2, 3]
    assert again.scan.as_json()["scores"] == first.scan.as_json()["scores"]
    assert first.notes == again.notes == (SHARED_CODE,)
    member = next((tmp_path / "cache" / "secure-ai" / "fleets").glob("*/0"))
    assert b"accuracy" in member.read_bytes()
    member.write_bytes(member.read_bytes().replace(b'"accuracy": ', b'"accuracy": 0'))  # not sealed: made again
    assert len(secure_ai.backdoor_scan(files["clean"], files["test"], fleet=4).notes) == 2
    secure_ai.backdoor_scan(files["clean"], files["test"], fleet=2, seed=1)
    assert calls == [-1, 2, 3, 0, 0, 1]


def test_the_planted_network_stands_out_from_its_fleet(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = secure_ai.backdoor_scan(files["bad"], files["test"], fleet=10, out=tmp_path / "few").scan
    assert (few.verdict.value, few.calibrated, few.trigger, few.false_alarms) == ("inconclusive", None, None, None)
    assert [path.name for path in (tmp_path / "few").iterdir()] == ["scan.json"]  # no picture of what says nothing
    monkeypatch.setattr(judgement, "MIN_FLEET", 2)
    monkeypatch.setattr(judgement, "_unlike", lambda evidence: "")  # small networks learn more or less by chance
    report = secure_ai.backdoor_scan(files["bad"], files["test"], fleet=10, out=tmp_path / "out")
    found, trigger = report.scan.calibrated, report.scan.trigger
    assert found is not None
    assert trigger is not None
    assert (report.scan.suspected, found.as_extreme) == ((inversion.EVERY, 3), 0)
    assert trigger.success.value is not None
    assert trigger.success.value > 0.9
    assert 3 not in trigger.by_class
    written = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert written["scan"]["suspected_label"] == 3
    assert {len(row) for row in written["scan"]["scores"].values()} == {10}  # pairs, too, are shown by target class
    assert (tmp_path / "out" / "trigger.png").read_bytes().startswith(b"\x89PNG")
    suspicious = replace(report, scan=replace(report.scan, verdict=judgement.ScanVerdict.SUSPICIOUS))
    drawn, unwritten = (one.findings[0].evidence for one in (suspicious, replace(suspicious, folder=None)))
    assert (drawn["picture"], "picture" in unwritten) == ("trigger.png", False)
    again = report.again.split()
    assert [again[again.index(word) + 1] for word in ("--model", "--data", "--fleet")] == [
        files["bad"].model, files["test"], "10"
    ]  # fmt: skip
    clean = secure_ai.backdoor_scan(files["clean"], files["test"], fleet=10).scan
    assert clean.calibrated is not None
    assert clean.calibrated.statistic < found.statistic / 2


def test_control_networks_are_trained_on_the_images_named_for_them(
    files: dict[str, Any], digit_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained_on: list[str] = []
    whole, named = control.control_network, str(digit_files["test"])

    def kept(*given: Any, **options: Any) -> torch.nn.Module:
        trained_on.append(given[1].digest)
        return whole(*given, **options)

    monkeypatch.setattr(fleets, "control_network", kept)
    scan = secure_ai.backdoor_scan(files["clean"], files["test"], fleet=2, train_data=named).scan
    assert trained_on == [load_data(named, split="train").digest] * 2
    assert scan.fleet is not None
    np.savez(tmp_path / "small.npz", x=np.zeros((50, 8, 8), dtype=np.uint8), y=np.arange(50) % 10)
    with pytest.raises(UsageError) as refusal:
        secure_ai.backdoor_scan(files["clean"], files["test"], fleet=2, train_data=str(tmp_path / "small.npz"))
    assert refusal.value.where == "--train-data"


@pytest.mark.parametrize("option", [{"train_data": "x.npz"}, {"fleet": 25}, {"n": 5}, {"time_budget": 60.0}])
def test_without_data_nothing_that_needs_them_is_taken(option: dict[str, Any], files: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refusal:
        secure_ai.backdoor_scan(files["clean"], **option)
    assert refusal.value.where == f"--{next(iter(option)).replace('_', '-')}"


def test_short_of_time_the_fleet_is_smaller_and_the_verdict_says_so(files: dict[str, Any]) -> None:
    scan = secure_ai.backdoor_scan(files["clean"], files["test"], fleet=30, time_budget=0.5).scan
    assert scan.fleet is not None
    assert len(scan.fleet.members) < 30
    assert scan.verdict.value == "inconclusive"
    assert any("of 30" in reason for reason in scan.reasons)


@pytest.mark.parametrize("arch", ["parameter", "attribute", "inside", "array"])
def test_what_cannot_be_built_anew_is_inconclusive(arch: str, files: dict[str, Any]) -> None:
    model = replace(files["normed"], arch=files["normed"].arch.replace(":normed", f":{arch}"))
    report = secure_ai.backdoor_scan(model, files["test"], n=400)
    assert (report.scan.verdict.value, report.scan.fleet, len(report.notes)) == ("inconclusive", None, 1)


def test_normalisation_is_made_anew(digits: Dataset) -> None:
    """Weights are drawn, statistics begin again, and what a control network learns moves them."""
    old = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 5, stride=4), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(72, 10)
    )
    with torch.no_grad():
        for value in (*old.parameters(), old.get_buffer("1.running_mean")):
            value.fill_(7.0)
    build, identity = anew("", old.eval())
    assert build is not None
    first, second = build(generator(0)), build(generator(1))
    assert not torch.equal(first.get_parameter("0.weight"), second.get_parameter("0.weight"))
    for fresh in (first, second):
        assert {float(value) for value in fresh.get_parameter("1.weight").detach()} == {1.0}
        assert {float(value) for value in fresh.get_buffer("1.running_mean")} == {0.0}
    learned = control.control_network(build, digits.select(np.arange(200), "few"), 0, 0, largest=200)
    assert float(learned.get_buffer("1.running_mean").abs().max()) > 0
    assert not learned.training
    assert identity != anew("", torch.nn.Sequential(*list(old)[:3], torch.nn.Linear(72, 11)))[1]


def test_an_attribute_of_a_layer_is_not_taken_for_its_weights() -> None:
    """A subclass may keep a trigger beside the weights that are drawn anew."""

    class Own(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(784, 10)
            self.trigger = torch.nn.Parameter(torch.ones(784))

    assert anew("", torch.nn.Sequential(torch.nn.Flatten(), Own()))[0] is None


def own_layer(helper: Callable[[torch.Tensor, float], torch.Tensor], value: float) -> torch.nn.Module:
    class Own(torch.nn.Module):
        helped = staticmethod(helper)

        def __init__(self) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.helped(x, self.value)

    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10), Own())


def test_the_same_layers_with_other_code_or_values_are_other_networks() -> None:
    """Else the control networks of the one would be taken from the cache for the other."""
    made = [own_layer(helper, value) for helper in (lambda x, k: x * k, lambda x, k: x + k) for value in (1.0, 5.0)]
    assert len({anew("", network)[1] for network in made}) == 4
    assert len({repr(network) for network in made}) == 1
    assert anew("", made[0])[1] == anew("", copy.deepcopy(made[0]).eval())[1]


def hiding(place: str) -> torch.nn.Module:
    """A linear network that keeps something else where control networks would inherit it."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    kept: dict[str, Any] = {"list": [torch.nn.Linear(2, 2)], "object": SimpleNamespace(mask=torch.ones(2))}
    if place == "buffer":
        network[1].register_buffer("mask", torch.ones(2))
    elif place:
        network.kept = kept[place]
    return network


@pytest.mark.parametrize("place", ["list", "object", "buffer"])
def test_what_control_networks_would_inherit_is_refused(place: str) -> None:
    assert anew("", hiding(""))[0] is not None
    assert anew("", hiding(place))[0] is None


def test_normalisation_without_weights_is_no_obstacle() -> None:
    network = torch.nn.Sequential(torch.nn.InstanceNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(784, 10))
    assert anew("", network)[0] is not None


def test_control_networks_of_the_users_code_are_said_to_share_it(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=1))
    nothing = replace(files["normed"], arch=files["normed"].arch.replace(":normed", ":nothing"))
    assert secure_ai.backdoor_scan(nothing, files["test"], n=400, fleet=2).notes == (SHARED_CODE,)
    path = tmp_path / "built-in.safetensors"
    save_model(build_network("report1-cnn", generator=generator(0, "scan")), path, arch="report1-cnn")
    widths = {"additive": 10, "margin": 10, "mask": 10, "pair": 90}
    row = {name: [1.0] * width for name, width in widths.items()}
    small = fleets.Fleet(
        members=tuple(fleets.Member(i, 0.98, row) for i in range(2)), source="", training_images=8_000, asked=2
    )
    monkeypatch.setattr(backdoor_scan, "known_fleet", lambda arch, transform, data=None: small)
    assert secure_ai.backdoor_scan(ModelSpec(model=str(path)), files["test"], n=400).notes == ()


@pytest.mark.parametrize(("arch", "verdict"), [("net", "not_detected"), ("rounded", "inconclusive")])
def test_a_model_that_hides_its_gradient_is_inconclusive(
    arch: str, verdict: str, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "MIN_FLEET", 3)
    monkeypatch.setattr(inversion, "SUCCESS", 0.0)  # every search reaches its goal: the check alone decides
    model = replace(files["clean"], arch=files["clean"].arch.replace(":net", f":{arch}"))
    scan = secure_ai.backdoor_scan(model, files["test"], fleet=4).scan
    assert (scan.verdict.value, scan.fleet and scan.fleet.asked) == (verdict, 4)


def test_control_networks_answer_in_the_form_that_the_model_does(files: dict[str, Any]) -> None:
    """Logits again where preflight took them from behind a softmax: the same fleet, number by number."""
    rows = []
    for arch in ("net", "probabilities"):
        model = replace(files["clean"], arch=files["clean"].arch.replace(":net", f":{arch}"))
        fleet = secure_ai.backdoor_scan(model, files["test"], fleet=2).scan.fleet
        assert fleet is not None
        rows.append(fleet.values(["margin"])["margin"])
    assert np.allclose(rows[0], rows[1], rtol=1e-3)


def test_fewer_control_networks_than_a_verdict_needs_are_refused(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backdoor_scan, "LEAST_FLEET", judgement.MIN_FLEET)
    with pytest.raises(UsageError) as caught:
        secure_ai.backdoor_scan(files["clean"], files["test"], fleet=judgement.MIN_FLEET - 1)
    assert caught.value.where == "--fleet"


def test_bad_requests_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    few = tmp_path / "few.npz"
    np.savez(few, x=np.zeros((50, 28, 28), np.uint8), y=np.arange(50) % 10)
    cases: tuple[tuple[Any, str | None, dict[str, Any]], ...] = (
        (files["clean"], files["test"], {"fleet": 1}),
        (files["clean"], str(few), {}),
        (files["clean"], None, {}),
        (replace(files["clean"], access="labels"), files["test"], {}),
    )
    for model, data, settings in cases:
        with pytest.raises(UsageError):
            secure_ai.backdoor_scan(model, data, **settings)


def test_the_command_ends_inconclusive_with_its_own_exit_code(
    files: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["backdoor", "scan", "--model", files["bad"].model, "--arch", files["bad"].arch, "--data", files["test"]]
    assert run_command([*words, "--fleet", "3", "--quiet", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["scan"]["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("verdict", "fail_on", "code"),
    [
        ("backdoored", "critical", 1),
        ("backdoored", "never", 0),
        ("suspicious", "medium", 1),
        ("suspicious", "high", 0),
        ("not_detected", "low", 0),
        ("inconclusive", "low", 3),
        ("inconclusive", "never", 3),
    ],
)
def test_the_verdict_decides_the_exit_code(
    verdict: str, fail_on: str, code: int, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "decide", lambda evidence: (ScanVerdict(verdict), ("as the test says",)))
    words = ["backdoor", "scan", files["clean"].model, "--arch", files["clean"].arch, "--data", files["test"]]
    assert run_command([*words, "--fleet", "2", "--fail-on", fail_on, "--quiet", "--json"]) == code


def test_without_data_only_the_margin_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "untrained.safetensors"
    save_model(build_network("report1-cnn", generator=generator(0, "scan")), path, arch="report1-cnn")
    own = float(np.median(secure_ai.backdoor_scan(ModelSpec(model=str(path))).scan.values["margin"]))
    for steepness, verdict in ((1, "suspicious"), (30, "inconclusive")):  # of 30 times: they learned, and it did not
        members = tuple(
            fleets.Member(i, 0.98, {"margin": (steepness * own * np.linspace(1, 1.01 + i / 1e6, 10)).tolist()})
            for i in range(60)
        )
        small = fleets.Fleet(members=members, source="stand-ins", training_images=8_000, asked=60)
        monkeypatch.setattr(backdoor_scan, "known_fleet", lambda arch, transform, data=None, small=small: small)
        scan = secure_ai.backdoor_scan(ModelSpec(model=str(path))).scan
        assert set(scan.values) == {"margin"}
        assert (scan.trigger, scan.accuracy) == (None, None)
        assert scan.verdict.value == verdict  # without data `suspicious` is the most
    monkeypatch.setattr(backdoor_scan, "known_fleet", lambda arch, transform, data=None: None)
    assert secure_ai.backdoor_scan(ModelSpec(model=str(path))).scan.verdict.value == "inconclusive"


def test_the_least_data_suffices(files: dict[str, Any]) -> None:
    scan = secure_ai.backdoor_scan(files["clean"], files["test"], n=400, fleet=4).scan
    assert scan.accuracy is not None
    assert (scan.accuracy.n, set(scan.values)) == (100, {"margin", "mask", "additive", "pair"})


def test_control_networks_are_fed_as_the_model_is(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = []
    for low, high in ((0.0, 1.0), (0.0, 255.0)):
        model = replace(files["clean"], value_range=(low, high))
        fleet = secure_ai.backdoor_scan(model, files["test"], fleet=2).scan.fleet
        assert fleet is not None
        accuracies.append([member.accuracy for member in fleet.members])
    assert accuracies[0] != accuracies[1]  # two fleets: the second learned on pixels of 0 to 255


def test_control_networks_and_model_are_measured_on_the_same_images(
    files: dict[str, Any], digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The very model as its own control network: one accuracy. Labels are random, so that no two parts agree."""
    layer = torch.nn.Linear(784, 10)
    network = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 7840).sin().view(10, 784))
    save_model(network, tmp_path / "own.safetensors", arch="")
    labels = np.random.default_rng(0).integers(0, 10, len(digits))
    np.savez(tmp_path / "random.npz", x=digits.images[:, 0], y=labels)
    monkeypatch.setattr(fleets, "control_network", lambda *arguments, **settings: copy.deepcopy(network))
    model = replace(files["clean"], model=str(tmp_path / "own.safetensors"))
    scan = secure_ai.backdoor_scan(model, str(tmp_path / "random.npz"), fleet=2).scan
    assert scan.fleet is not None
    assert scan.accuracy is not None
    assert scan.fleet.members[0].accuracy == pytest.approx(scan.accuracy.bounds.value, abs=1e-6)


def test_a_committed_fleet_is_for_the_images_of_mnist_whatever_others_are_called(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    entry = {"data": "mnist", "settings": fleets.measuring_settings(), "training_images": 12_000,
             "power": {"patch": {}},
             "members": [{"index": 0, "accuracy": 0.9, "values": {"margin": [1.0] * 10}}]}  # fmt: skip
    monkeypatch.setattr(fleets, "_known", lambda: {"report1-cnn": entry})
    original = replace(digits, name="mnist:test", indices=np.arange(len(digits)))
    monkeypatch.setattr(fleets, "load_mnist", lambda split: original)
    part = original.select(np.array([5, 3, 8]), "some")
    plain = InputTransform()
    alone, whole = fleets.known_fleet("report1-cnn", plain), fleets.known_fleet("report1-cnn", plain, part)
    assert alone is not None
    assert whole is not None
    assert (alone.power, bool(whole.power)) == (None, True)  # detection rates are of a scan with data
    assert fleets.known_fleet("report1-cnn", InputTransform(mean=(0.1,), std=(0.3,)), part) is None
    others = (
        replace(part, name="other:test"),
        replace(part, indices=np.array([5, 3, 9])),
        replace(part, indices=np.array([5, 3, -1])),
        replace(part, indices=np.array([5, 3, len(digits)])),
        replace(part, images=255 - part.images),
        replace(part, images=(part.images / np.float32(255)).astype(np.float32) * 0),
    )
    assert [fleets.known_fleet("report1-cnn", plain, other) for other in others] == [None] * len(others)
    assert fleets.known_fleet("report2-cnn", plain, part) is None

    def none_there(split: str) -> Dataset:
        raise DataUnavailableError("MNIST could not be obtained", where=split)

    monkeypatch.setattr(fleets, "load_mnist", none_there)
    assert fleets.known_fleet("report1-cnn", plain, part) is None  # a folder of the user's that is called mnist
