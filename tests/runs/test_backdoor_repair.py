"""`backdoor filter` and `backdoor remove` end to end on small data whose poison is known."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.blue.backdoors import inversion, judgement, margin, removal
from secure_ai.blue.backdoors.repair import fine_tune, tuned
from secure_ai.blue.training.methods import natural
from secure_ai.cli.main import run_command
from secure_ai.core.errors import ArchError, ShapeError, UsageError
from secure_ai.core.results import Rate, rate
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import array_to_tensor, images_to_float
from secure_ai.red.poisoning.plant import Planted, plant
from secure_ai.report.render import png
from secure_ai.runs.backdoors import repair
from secure_ai.runs.backdoors.repair import State, choose, doubts
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import load_subject
from secure_ai.runs.verbs import backdoor_remove
from secure_ai.runs.verbs.backdoor_filter import FALSE_ALARMS, SHOWN, _false_alarms, _features, _rows

TRIGGER = "patch:size=5:place=0x0:value=1"


def value(rate: Rate | None) -> float:
    """Of a rate that was measured."""
    assert rate is not None
    assert rate.value is not None
    return rate.value


@pytest.fixture(scope="module")
def poisoned(digits: Dataset) -> Planted:
    return plant(
        digits, trigger=parse_trigger(TRIGGER), target_label=3, source_label=None, label_mode="dirty", select="random",
        seed=0, poison_rate=0.1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def poisoned_file(tmp_path_factory: pytest.TempPathFactory, poisoned: Planted) -> Path:
    path = tmp_path_factory.mktemp("poisoned") / "poisoned.npz"
    np.savez(path, x=poisoned.dataset.images[:, 0], y=poisoned.dataset.labels)
    return path


def test_with_trusted_images_the_filter_finds_the_poison(
    poisoned: Planted, poisoned_file: Path, digit_files: dict[str, Path], tmp_path: Path
) -> None:
    found = secure_ai.backdoor_filter(str(poisoned_file), trusted=str(digit_files["test"]), out=tmp_path)
    planted = np.zeros(len(found.suspicious), dtype=bool)
    planted[poisoned.indices] = True
    assert found.suspicious[planted].mean() > 0.9
    assert found.suspicious[~planted].mean() < 0.1
    record = json.loads((tmp_path / "filter.json").read_text())
    alarms, trusted = record["expected_false_alarms"], load_data(str(digit_files["test"]))
    assert (alarms["limits"], alarms["n"]) == (2, len(trusted) - 4 * len(trusted) // 5)
    assert alarms["at_most"] == _false_alarms(alarms["n"], 2)["at_most"]
    cleaned = load_data(str(tmp_path / "cleaned.npz"))
    assert (cleaned.digest, len(cleaned)) == (record["cleaned"]["digest"], record["cleaned"]["n"])
    assert len(cleaned) == len(found.suspicious) - record["suspicious"]
    with np.load(io.BytesIO((tmp_path / "scores.npz").read_bytes())) as scores:
        assert set(record["filters"]) <= set(scores.files)
    assert (tmp_path / "suspicious.png").exists()


def test_without_trusted_images_the_fraction_asked_for_is_removed(poisoned_file: Path, tmp_path: Path) -> None:
    found = secure_ai.backdoor_filter(str(poisoned_file), fraction=0.05, out=tmp_path)
    assert found.record["suspicious"] == 30
    assert set(found.record["limits"]) == {"spectre"}
    assert found.record["expected_false_alarms"] is None


COLOUR = """import torch


class Net(torch.nn.Module):  # more classes than the data have, and a layer that nothing calls

    def __init__(self):
        super().__init__()
        self.a, self.b, self.unused = torch.nn.Linear(432, 24), torch.nn.Linear(24, 5), torch.nn.Linear(24, 5)

    def forward(self, x):
        return self.b(self.a(x.flatten(1)).relu())


def net(): return Net()


def bare(): return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 12), torch.nn.Flatten())
"""


def test_a_network_of_ones_own_filters_images_of_another_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(3200) % 4
    images = random.integers(0, 120, (3200, 12, 12, 3), dtype=np.uint8)
    for label in range(4):
        images[labels == label, 2 * label : 2 * label + 2] = 220  # what tells the classes apart
    poisoned = np.flatnonzero(labels[:1200] != 0)[:60]
    np.savez(tmp_path / "trusted.npz", x=images[1200:], y=labels[1200:])
    images[poisoned, -3:, -3:] = 255
    labels[poisoned] = 0
    np.savez(tmp_path / "x.npz", x=images[:1200], y=labels[:1200])
    (tmp_path / "net.py").write_text(COLOUR)
    data, trusted, arch = str(tmp_path / "x.npz"), str(tmp_path / "trusted.npz"), f"{tmp_path / 'net.py'}:net"
    found = secure_ai.backdoor_filter(data, trusted=trusted, out=tmp_path / "out", arch=arch)
    assert found.suspicious[poisoned].mean() > 0.9
    assert found.record["suspicious"] < 160
    with pytest.raises(ArchError):  # nothing in it is a penultimate layer
        secure_ai.backdoor_filter(data, trusted=trusted, out=tmp_path / "none", arch=arch.replace(":net", ":bare"))


@pytest.mark.parametrize("arch", NETWORKS)
def test_features_are_what_the_last_linear_layer_is_given(arch: str, digits: Dataset) -> None:
    network = build_network(arch, generator=torch.Generator().manual_seed(0)).eval()
    target = NetworkTarget(network, name=arch, digest="", input_shape=(1, 28, 28), num_classes=10)
    own = _features(target, digits.images[:8])
    with torch.no_grad():
        assert np.array_equal(own, target.features(images_to_float(digits.images[:8])).double().numpy())


def test_the_picture_shows_what_each_filter_found(
    digits: Dataset, digits_test: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clean-label poison on a dark corner: every label is right, only the pixels show it."""
    dark = parse_trigger(TRIGGER.replace("value=1", "value=0"))
    planted = plant(
        replace(digits, images=stamp(digits.images, dark)), trigger=parse_trigger(TRIGGER), target_label=3,
        source_label=None, label_mode="clean", select="random", seed=0, count=15,
    )  # fmt: skip
    np.savez(tmp_path / "x.npz", x=planted.dataset.images[:, 0], y=planted.dataset.labels)
    np.savez(tmp_path / "trusted.npz", x=stamp(digits_test.images, dark)[:, 0], y=digits_test.labels)
    drawn: list[tuple[str, np.ndarray]] = []

    def watched(rows: list[tuple[str, np.ndarray]], title: str, captions: list[list[str]]) -> bytes:
        drawn.extend(rows)
        return b""

    monkeypatch.setattr(png, "image_grid_png", watched)
    found = secure_ai.backdoor_filter(
        str(tmp_path / "x.npz"), trusted=str(tmp_path / "trusted.npz"), out=tmp_path / "out"
    )
    assert [name for name, _ in drawn if name] == list(found.record["limits"])
    shown = np.concatenate([images for _, images in drawn])
    assert len(shown) <= SHOWN
    poison = (shown[:, 0, :5, :5] == 255).all(axis=(1, 2))
    assert found.suspicious[planted.indices].all()
    assert poison.sum() >= 15


def test_each_filter_has_its_own_rows_and_the_same_room() -> None:
    scores = {"a": np.arange(100.0), "b": -np.arange(100.0), "c": np.zeros(100)}
    rows = _rows(scores, {"a": 60.0, "b": -5.0, "c": 0.0})
    assert [(name, row.tolist()) for name, row in rows] == [
        ("a", list(range(99, 89, -1))), ("", [89, 88, 87]), ("b", [0, 1, 2, 3, 4]), ("c: none", []),
    ]  # fmt: skip


@pytest.mark.parametrize("n", [40, 101, 400])
def test_no_more_false_alarms_are_expected_than_are_told(n: int) -> None:
    draws = np.random.default_rng(n).random((2000, 2, n))
    above = 1 - np.quantile(draws, 1 - FALSE_ALARMS, axis=2)  # of uniform scores: what a limit lets through
    either = 1 - (1 - above).prod(axis=1)
    told = _false_alarms(n, 2)["at_most"]
    assert 2 * FALSE_ALARMS < either.mean() < told < 2 * (2 / n + FALSE_ALARMS)


def test_bad_filter_requests_are_refused(poisoned_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((300, 8, 8), np.uint8), y=np.arange(300) % 10)
    for data, settings, error in (
        (poisoned_file, {"fraction": 0.0}, UsageError),
        (poisoned_file, {"fraction": 0.5}, UsageError),
        (poisoned_file, {"trusted": str(poisoned_file), "fraction": 0.1}, UsageError),
        (poisoned_file, {"trusted": str(other)}, ShapeError),
        (other, {}, ShapeError),
    ):
        with pytest.raises(error):
            secure_ai.backdoor_filter(str(data), out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


CODE = """import torch


def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, poisoned: Planted) -> ModelSpec:
    """A small network with the backdoor in it."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "net.py").write_text(CODE)
    with torch.random.fork_rng(devices=[]):
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)
        )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.uniform_(-0.03, 0.03, generator=generator)
    tuned(network, poisoned.dataset, natural, 0, epochs=60)
    arrays = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    (folder / "bad.safetensors").write_bytes(safetensors_bytes(arrays, {}))
    return ModelSpec(model=str(folder / "bad.safetensors"), arch=f"{folder / 'net.py'}:net")


def test_removal_keeps_accuracy_and_loses_the_backdoor(
    model: ModelSpec, digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin, "STEPS", 10)
    monkeypatch.setitem(inversion.FORMS, "mask", replace(inversion.FORMS["mask"], steps=80))
    for name in ("additive", "pair"):
        monkeypatch.setitem(inversion.FORMS, name, replace(inversion.FORMS[name], steps=5))
    out = tmp_path / "good.safetensors"
    done = secure_ai.backdoor_remove(model, str(digit_files["train"]), out=out, trigger=TRIGGER, target_label=3, seed=0)
    assert done.label == 3
    assert value(done.planted["before"]) > 0.7
    assert value(done.planted["after"]) < 0.3
    assert value(done.after.accuracy) >= value(done.before.accuracy) - 0.01
    assert value(done.after.success) < 0.3 < value(done.before.success)
    assert out.exists()
    assert set(done.tried) == set(removal.REMOVERS)
    assert done.clean_relearned is not None


def test_with_control_networks_of_its_own_there_is_a_second_scan(
    model: ModelSpec, digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(margin, "STEPS", 1)
    monkeypatch.setattr(judgement, "MIN_FLEET", 2)
    monkeypatch.setattr(judgement, "_unlike", lambda evidence: "")  # small networks learn more or less by chance
    monkeypatch.setattr(backdoor_remove, "LEAST_FLEET", 2)
    monkeypatch.setattr(repair, "REMOVERS", {"fine-tuning": fine_tune})
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=5))
    monkeypatch.setattr(inversion, "SUCCESS", 0.0)  # in five steps nothing else would reach its goal
    named, out = str(digit_files["test"]), tmp_path / "good.safetensors"
    done = secure_ai.backdoor_remove(model, str(digit_files["train"]), out=out, fleet=3, train_data=named)
    assert None not in (done.before.class_p, done.after.class_p)
    short = secure_ai.backdoor_remove(
        model, str(digit_files["train"]), out=out, fleet=30, train_data=named, time_budget=1e-3
    )
    assert short.fleet is not None
    assert (len(short.fleet.members), short.fleet.asked) == (3, 30)  # those that lie in the cache
    for fleet, options, where in (
        (1, {}, "--fleet"), (0, {"train_data": named}, "--train-data"), (0, {"time_budget": 60.0}, "--time-budget"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as refusal:
            secure_ai.backdoor_remove(model, str(digit_files["train"]), out=out, fleet=fleet, **options)
        assert refusal.value.where == where


class Own(torch.nn.Module):
    """Preflight wraps it: it answers probabilities, in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.a(x.flatten(1)).softmax(dim=1),)


def test_the_file_holds_the_users_own_network(
    digits: Dataset, digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin, "STEPS", 1)
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=1))
    monkeypatch.setattr(repair, "REMOVERS", {"fine-tuning": fine_tune})
    made: list[torch.nn.Module] = []

    def kept(*arguments: Any) -> Any:
        networks, states = repair.repairs(*arguments)
        made.append(networks["fine-tuning"])
        return networks, states

    monkeypatch.setattr(backdoor_remove, "repairs", kept)
    own, again, out = Own().eval(), Own().eval(), tmp_path / "good.safetensors"
    secure_ai.backdoor_remove(own, str(digit_files["train"]), out=out, device="cpu")
    arrays = read_safetensors(FileBytes("good", out.read_bytes())).tensors
    again.load_state_dict({name: array_to_tensor(array) for name, array in arrays.items()})
    x = images_to_float(digits.images)
    with torch.no_grad():
        before, after, wrapped = own(x)[0].argmax(dim=1), again(x)[0].argmax(dim=1), made[0](x).argmax(dim=1)
    assert torch.equal(after, wrapped)
    assert not torch.equal(after, before)


@pytest.mark.parametrize("kind", ["keras", "pt2"])
def test_what_no_class_could_load_again_is_refused(
    kind: str, model: ModelSpec, digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def described(*arguments: Any, **settings: Any) -> LoadedModel:
        return replace(load_subject(*arguments, **settings), format=kind, arch=kind)

    monkeypatch.setattr(backdoor_remove, "load_subject", described)
    monkeypatch.setattr(backdoor_remove, "suspect", None)  # it is refused before anything is searched for
    with pytest.raises(UsageError):
        secure_ai.backdoor_remove(model, str(digit_files["train"]), out=tmp_path / "x.safetensors")


def test_the_choice_is_by_accuracy_then_scan_then_reconstructed_trigger() -> None:
    def state(accuracy: int, success: int, class_p: float | None = None, statistic: float = 3.0) -> State:
        return State(rate(accuracy, 100), rate(success, 100), rate(50, 100), statistic, class_p)

    before = state(98, 100)
    assert choose(before, {"a": state(98, 5), "b": state(98, 40)}) == "a"
    assert choose(before, {"a": state(90, 5), "b": state(97, 40)}) == "b"  # accuracy first
    assert choose(before, {"a": state(90, 5), "b": state(91, 40)}) == "b"  # none keeps it: the best of them
    assert choose(before, {"a": state(98, 9, 0.04), "b": state(98, 5, 0.02)}) == "a"  # the second scan
    other_class = {"a": state(98, 9, 0.5, statistic=1.5), "b": state(98, 5, 0.02, statistic=0.9)}
    assert choose(before, other_class) == "a"  # of the suspected class, not of one that stands out by chance
    assert choose(before, {"a": state(98, 9, 0.9), "b": state(98, 5, 0.2)}) == "b"  # both look clean: the trigger


@pytest.mark.parametrize(
    ("success", "class_p", "expected"), [(3, 0.9, 0), (3, 0.0, 1), (3, None, 1), (50, 0.9, 1), (50, 0.01, 2)]
)
def test_what_says_that_a_backdoor_may_be_there_still(success: int, class_p: float | None, expected: int) -> None:
    def state(success: int, class_p: float | None) -> State:
        return State(rate(98, 100), rate(success, 100), rate(90, 100), None, class_p)

    assert len(doubts(state(50, 0.01), state(success, class_p))) == expected


def test_bad_removal_requests_are_refused(model: ModelSpec, digit_files: dict[str, Path], tmp_path: Path) -> None:
    data = str(digit_files["train"])
    for changes, settings in (
        ({}, {"trigger": TRIGGER}),
        ({}, {"target_label": 3}),
        ({"access": "labels"}, {}),
        ({"mean": (0.1,)}, {}),
        ({}, {"n": 500}),
    ):
        with pytest.raises(UsageError):
            secure_ai.backdoor_remove(replace(model, **changes), data, out=tmp_path / "x.safetensors", **settings)


def test_the_filter_command(
    poisoned_file: Path, digit_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["backdoor", "filter", "--data", str(poisoned_file), "--out", str(tmp_path), "--json"]
    assert run_command(words) == 0
    assert json.loads(capsys.readouterr().out)["suspicious"] == 9
    assert run_command([*words[:-1], "--trusted", str(digit_files["test"])]) == 0
    alarms = json.loads((tmp_path / "filter.json").read_text())["expected_false_alarms"]
    assert f"{100 * alarms['at_most']:.1f} %" in capsys.readouterr().out
