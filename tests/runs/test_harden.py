"""The verb `harden` on small networks: what it writes, what it refuses, and that it reads no test image."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secure_ai
from secure_ai.blue.training.hardening import FALL, Checked
from secure_ai.blue.training.hardening_state import Checks, HardeningState
from secure_ai.blue.training.methods import Batch
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import ArchError, SecureAIError, UsageError
from secure_ai.core.results import rate
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.image_digests import image_digests
from secure_ai.data.training_record import record_path
from secure_ai.models.load.store import load_model
from secure_ai.models.target.known import TrainingData
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.stages import hardening
from secure_ai.runs.stages.adversaries import named_attack, pgd_every_step, pgd_examples
from secure_ai.runs.stages.hardening import Hardening, harden_network, held_out
from secure_ai.runs.stages.hardening_methods import METHODS, Wanted
from secure_ai.runs.verbs.harden import Hardened

ARCH = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d({channels}, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Dropout(0.1), nn.Linear({features}, 4))
"""
QUICK: dict[str, Any] = {"norm": "linf", "eps": 0.1, "epochs": 2, "batch_size": 32}


def colours(n: int = 160, classes: int = 4) -> Dataset:
    """Colour images of 16 x 16: a class is a pattern of bright squares."""
    draws = np.random.default_rng(0)
    patterns = draws.random((classes, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    labels = np.arange(n, dtype=np.int64) % classes
    images = np.clip(patterns[labels] + draws.normal(0, 0.05, (n, 3, 16, 16)), 0, 1)
    return Dataset(np.rint(255 * images).astype(np.uint8), labels, "colours", classes)


@pytest.fixture
def arch(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(ARCH.format(channels=3, features=36))
    return f"{tmp_path / 'net.py'}:make"


@pytest.fixture(autouse=True)
def few_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "CHECK_STEPS", 3)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_colour_network_with_batch_normalisation(method: str, arch: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    norm = "l2" if method == "gaussian" else "linf"
    made = secure_ai.hardened(ModelSpec(arch=arch), colours(), method=method, out=out, **(QUICK | {"norm": norm}))
    assert made.as_json()["method"] == method
    assert made.facts["data"]["n_train"] + made.facts["data"]["n_held_out"] == 160
    assert not made.facts["cut_by_time"]
    again = load_model(out, arch=arch)
    assert again.digest == made.digest
    assert not (tmp_path / "out.safetensors.partial").exists()
    assert made.checks.step[-1] == made.facts["steps"]


@pytest.mark.parametrize(
    ("method", "norm", "metric"),
    [
        ("pgd", "linf", "robust_accuracy"),
        ("fast", "linf", "robust_accuracy"),
        ("gaussian", "l2", "accuracy_under_noise"),
        ("crown-ibp", "linf", "certified_accuracy"),
    ],
)
def test_the_held_out_figure_has_the_name_of_what_chose_the_weights(method: str, norm: str, metric: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    made = secure_ai.hardened(network, colours(), method=method, **(QUICK | {"norm": norm, "epochs": 1}))
    held_out = made.as_json()["held_out"]
    assert held_out["metric"] == metric
    assert held_out["value"] == made.value.as_json()
    assert held_out["robust"] == (held_out["value"] if metric == "robust_accuracy" else None)


class Rounded(nn.Module):
    """Without an input gradient: PGD finds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(768, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.round(x).flatten(1))  # type: ignore[no-any-return]  # torch's stub


def test_a_figure_that_masked_gradients_made_is_not_judged() -> None:
    held_out = secure_ai.hardened(Rounded(), colours(), **QUICK).as_json()["held_out"]
    assert held_out["robust"] == held_out["clean"]
    assert held_out["trust"] is None


def test_hardening_a_network_leaves_it_alone_and_returns_another() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    before = network.get_parameter("1.weight").detach().clone()
    made = secure_ai.harden(network, colours(), **QUICK)
    assert torch.equal(network.get_parameter("1.weight"), before)
    assert isinstance(made, nn.Sequential)
    assert not torch.equal(made.get_parameter("1.weight"), before)
    assert not made.training


def test_a_killed_hardening_ends_with_the_same_weights(arch: str, tmp_path: Path) -> None:
    whole = secure_ai.hardened(ModelSpec(arch=arch), colours(), out=tmp_path / "a.safetensors", **QUICK)

    def kill(done: int, total: int) -> None:
        if done == 6:  # in the second epoch, after the first check
            raise KeyboardInterrupt

    out = tmp_path / "b.safetensors"
    with pytest.raises(KeyboardInterrupt):
        secure_ai.hardened(ModelSpec(arch=arch), colours(), out=out, progress=kill, **QUICK)
    assert not out.exists()
    assert (tmp_path / "b.safetensors.partial").exists()
    resumed = []
    again = secure_ai.hardened(
        ModelSpec(arch=arch), colours(), out=out, progress=lambda done, total: resumed.append(done), **QUICK
    )
    assert resumed[0] == 5
    assert again.digest == whole.digest


def test_the_figure_reported_is_that_of_the_weights_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second check has the highest figure, but one step overstates it: its weights were thrown away."""
    found = iter([Checked(1, 0.5, 0.5), Checked(0.75, 1, 0.75), Checked(1, 0.625, 0.625), Checked(1, 0.5, 0.5)])
    monkeypatch.setattr(hardening, "checks", lambda held, asked: lambda network: next(found))
    monkeypatch.setattr(hardening, "guard", lambda held, asked, growing: lambda network, step, steps: None)
    monkeypatch.setattr(hardening, "GUARD_EVERY", 1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    made = secure_ai.hardened(network, colours(), method="fast", **(QUICK | {"epochs": 1}))
    assert made.checks.rolled_back == [2]
    assert made.facts["chosen_step"] == 3
    assert (made.robust, made.clean) == (rate(10, 16), rate(16, 16))


def test_training_against_several_steps_never_trips_the_guard_while_eps_grows(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the eps in force, one step and several agree; at the final one they differ by up to 33 points."""
    monkeypatch.setitem(METHODS, "fast", replace(METHODS["fast"], make=METHODS["pgd"].make))
    monkeypatch.setattr(hardening, "GUARD_EVERY", 10)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    budget = PerturbationBudget("linf", 0.3)
    asked = Hardening(method="fast", budget=budget, seed=0, batch_size=32, epochs=30, rate=1e-2)
    seen: list[Checks] = []

    def save(state: HardeningState) -> None:
        seen.append(state.checks)
        if state.step == 50:  # eps is 0.11 by then
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harden_network(network, digits, asked, checkpoint=SimpleNamespace(load=lambda: None, save=save))
    assert max(one - several for one, several in zip(seen[-1].one_step, seen[-1].robust, strict=True)) > FALL
    assert seen[-1].rolled_back == []


def test_the_guard_measures_at_the_eps_in_force_until_that_is_the_final_one() -> None:
    asked = Hardening(method="fast", budget=PerturbationBudget("linf", 0.1), seed=0)
    guard = hardening.guard(greys(), asked, lambda step, steps: 0.01 * step)
    at_half = replace(asked, budget=PerturbationBudget("linf", 0.05))
    assert guard(Linear(), 5, 20) == hardening.checks(greys(), at_half)(Linear())
    assert guard(Linear(), 10, 20) is None


@pytest.mark.parametrize(("options", "done"), [({"patience": 1}, 8), ({}, 20)])
def test_the_steps_and_epochs_are_those_done(
    options: dict[str, Any], done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps an epoch, of 32 of 144 images each; the second check is no better."""
    monkeypatch.setattr(hardening, "checks", lambda held, asked: lambda network: Checked(1, 0.5, 0.5))
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    said = secure_ai.hardened(network, colours(), **(QUICK | {"epochs": 5}), **options).as_json()
    assert (said["steps"], said["steps_done"], said["stopped_early"]) == (20, done, done < 20)
    assert said["epochs"] == round(done * 32 / 144, 2)


def test_an_attack_of_the_catalogue_trains_by_its_name() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    by_default, by_name = (
        secure_ai.hardened(network, colours(), adversary=adversary, **QUICK) for adversary in ("", "apgd-ce:steps=2")
    )
    assert by_name.facts["settings"]["adversary"] == "apgd-ce:steps=2"
    assert by_name.digest != by_default.digest


def test_another_request_does_not_resume(arch: str, tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    out = tmp_path / "b.safetensors"
    with pytest.raises(KeyboardInterrupt):
        secure_ai.hardened(ModelSpec(arch=arch), colours(), out=out, progress=kill, **QUICK)
    steps: list[int] = []
    secure_ai.hardened(
        ModelSpec(arch=arch), colours(), out=out, progress=lambda d, t: steps.append(d), **(QUICK | {"eps": 0.2})
    )
    assert steps[0] == 1


def test_a_time_budget_fixes_the_steps_and_they_are_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "affordable_steps", lambda *arguments: 7)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    made = secure_ai.hardened(network, colours(), **(QUICK | {"epochs": None}), time_budget=100)
    assert made.facts["time_budget"] == 100
    assert made.facts["steps"] == 7
    assert made.facts["cut_by_time"]
    assert made.checks.step == [7]  # not after every epoch of 4 steps: checks take of the time
    assert made.facts["check_seconds"] == pytest.approx(sum(made.checks.check_seconds), abs=1e-3)
    assert made.facts["check_seconds"] > 0


@pytest.mark.parametrize(("method", "guarded"), [("pgd", 1.0), ("fast", 1.3)])
def test_the_time_of_a_check_is_that_of_a_network_which_withstands(
    method: str, guarded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Untrained, it misclassifies most images, which the attack of a check spares; the last check attacks them all."""
    attacked: list[int] = []

    def counted(network: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Tensor:
        attacked.append(len(x))
        return pgd_examples(network, x, y, **settings)

    monkeypatch.setattr(hardening, "pgd_examples", counted)
    now = iter([10.0, 12.0])
    monkeypatch.setattr(hardening, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    monkeypatch.setattr(hardening, "PART", 20)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    asked = Hardening(method=method, budget=PerturbationBudget("linf", 0.5), seed=0)
    assert hardening.check_seconds(network, colours(), asked) == 2 * 160 / 20 * guarded
    assert attacked == [20, 20]  # with either loss


def test_a_killed_training_within_a_time_budget_keeps_its_number_of_steps(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is faster when it goes on: what was found when it began counts."""
    monkeypatch.setattr(hardening, "CHECK_APART", 5)
    budgeted = QUICK | {"epochs": None, "time_budget": 100}

    def hardened(name: str, steps: int, kill_at: int = 0) -> Hardened:
        def kill(done: int, total: int) -> None:
            if done == kill_at:
                raise KeyboardInterrupt

        monkeypatch.setattr(hardening, "affordable_steps", lambda *arguments: steps)
        return secure_ai.hardened(ModelSpec(arch=arch), colours(), out=tmp_path / name, progress=kill, **budgeted)

    whole = hardened("a.safetensors", 12)
    with pytest.raises(KeyboardInterrupt):
        hardened("b.safetensors", 12, kill_at=9)
    again = hardened("b.safetensors", 16)
    assert (again.digest, again.checks.step) == (whole.digest, whole.checks.step)


@pytest.mark.parametrize(
    ("epochs", "steps", "cut"),
    [(None, 55, True), (None, 56, False), (None, 80, False), (30, 80, True), (20, 80, False)],
)
def test_a_training_is_cut_only_below_what_was_asked_for_or_the_method_has(
    epochs: int | None, steps: int, cut: bool
) -> None:
    """Four steps an epoch; PGD training has 14 epochs by itself."""
    asked = Hardening(method="pgd", budget=PerturbationBudget("linf", 0.1), seed=0, batch_size=32, epochs=epochs,
                      time_budget=100)  # fmt: skip
    plan = replace(hardening.planned(asked, asked.row, 144), steps=steps)
    assert hardening.cut_by_time(asked, plan, 144) is cut


def test_a_time_budget_may_be_written_as_on_the_command_line() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    assert secure_ai.hardened(network, colours(), **QUICK, time_budget="2m").facts["time_budget"] == 120


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"method": "magic"}, "--method"),
        ({"method": "ibp", "norm": "l2"}, "--norm"),
        ({"norm": "l0", "eps": 3}, "--norm"),
        ({"eps": 0}, "--eps"),
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": 1000}, "colours"),
        ({"awp": 0.01, "method": "ibp"}, "--awp"),
        ({"adversary": "cw", "method": "trades"}, "--adversary"),
        ({"adversary": "fast"}, "--adversary"),
        ({"adversary": "transfer"}, "--adversary"),
        ({"adversary": "foo"}, "--adversary"),
        ({"adversary": "pgd:stepz=3"}, "--adversary"),
        ({"adversary": "cw:steps=10"}, "--adversary"),
        ({"epochs": None, "time_budget": 1e-4}, "--time-budget"),
        ({"time_budget": "5 minutes"}, "--time-budget"),
        ({"time_budget": -1}, "--time-budget"),
        ({"optimizer": "adamw"}, "--optimizer"),
        ({"epochs": "2"}, "--epochs"),
        ({"batch_size": 32.5}, "--batch-size"),
        ({"awp": [0.01]}, "--awp"),
        ({"learning_rate": "fast"}, "--learning-rate"),
        ({"patience": "1"}, "--patience"),
    ],
)
def test_what_cannot_be_done_is_refused(changes: dict[str, Any], where: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(network, colours(), **(QUICK | changes))
    assert refused.value.where == where


def test_the_batch_that_a_hint_names_is_taken() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(network, colours(), **(QUICK | {"batch_size": 150}))
    largest = re.search(r"--batch-size (\d+)", refused.value.hint)
    assert largest is not None
    done = secure_ai.hardened(network, colours(), **(QUICK | {"batch_size": int(largest[1])}))
    assert done.facts["data"]["n_train"] == int(largest[1])


@pytest.mark.parametrize(("text", "norm_named"), [("cw:steps=10", True), ("sigma-zero", True), ("foo", False)])
def test_a_refused_adversary_lists_what_trains_and_names_the_norm_where_that_is_the_reason(
    text: str, norm_named: bool
) -> None:
    with pytest.raises(SecureAIError) as refused:
        named_attack(text, "linf", lambda step, steps: 0.3, 2)
    assert "apgd-ce" in refused.value.expected
    assert not {"cw", "fast", "transfer", "examples"} & set(re.findall(r"[\w-]+", refused.value.expected))
    assert ("linf" in refused.value.message) is norm_named


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("pgd:restarts=4:momentum=0.9", "momentum, restarts"),
        ("pgd:random_start=false", "random_start"),
        ("pgd:step_size_rel=0.1", "step_size_rel"),
        ("pgd:eot_samples=2", "eot_samples"),
        ("apgd-ce:margin_left=0.3", "margin_left"),
    ],
)
def test_a_setting_that_training_does_not_use_is_refused_by_name(text: str, unused: str) -> None:
    with pytest.raises(UsageError) as refused:
        named_attack(text, "linf", lambda step, steps: 0.3, 2)
    assert (refused.value.where, refused.value.got) == ("--adversary", unused)


def test_networks_that_cannot_be_trained_are_refused() -> None:
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).requires_grad_(False)
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(frozen, colours(), **QUICK)
    assert refused.value.code == "E_USAGE"
    unknown = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Tanh(), nn.Linear(8, 4))
    with pytest.raises(ArchError) as named:
        secure_ai.hardened(unknown, colours(), method="ibp", **QUICK)
    assert named.value.where == "2"
    one_class = colours().select(np.arange(0, 160, 4), "")
    with pytest.raises(SecureAIError) as one:
        secure_ai.hardened(unknown, one_class, **QUICK)
    assert one.value.code == "E_USAGE"


@pytest.mark.parametrize("file", ["mlp.keras", "mlp.pt2"])
def test_recorded_models_are_refused_with_the_reason(file: str) -> None:
    path = next(Path(__file__).parents[1].joinpath("files", "fixtures").rglob(f"*{Path(file).suffix}"))
    model = load_model(path)
    images = np.zeros((40, *(model.input_shape or (1, 8, 8))), dtype=np.uint8)
    data = Dataset(images, np.arange(40, dtype=np.int64) % 2, "zeros", 2)
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(ModelSpec(model=str(path)), data, **(QUICK | {"batch_size": 8}))
    assert refused.value.got == Path(file).suffix[1:]


def test_a_truncated_model_file_is_refused(arch: str, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    secure_ai.hardened(ModelSpec(arch=arch), colours(), out=out, **QUICK)
    out.write_bytes(out.read_bytes()[:-100])
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(ModelSpec(model=str(out), arch=arch), colours(), **QUICK)
    assert refused.value.code == "E_SAFETENSORS"


def test_no_test_image_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name it is refused; of an IDX folder with both splits only the training files are opened."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    for text in ("mnist:test", "mnist:test~100"):
        with pytest.raises(SecureAIError) as refused:
            secure_ai.hardened(network, text, **QUICK)
        assert refused.value.code == "E_USAGE"
    asked: list[str] = []

    def spy(text: str, *, split: str, **others: Any) -> Dataset:
        asked.append(split)
        return colours()

    monkeypatch.setattr("secure_ai.runs.given_data.load_data", spy)
    secure_ai.hardened(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), str(tmp_path), **QUICK)
    assert asked == ["train"]


def test_a_data_set_of_test_images_is_refused() -> None:
    """Loaded by the caller: its name is the one that `mnist:test~400` has."""
    images = Dataset(colours().images, colours().labels, "mnist:test", 4)
    with pytest.raises(SecureAIError) as refused:
        secure_ai.hardened(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), images, **QUICK)
    assert (refused.value.code, refused.value.where) == ("E_USAGE", "DATA")


def test_the_images_that_decided_the_weights_are_known_beside_the_file(arch: str, tmp_path: Path) -> None:
    out, data = tmp_path / "hard.safetensors", colours()
    secure_ai.hardened(ModelSpec(arch=arch), data, out=out, **QUICK)
    training = load_model(out, arch=arch).known.training
    assert training is not None
    assert (training.digest, training.images) == (data.digest, frozenset(image_digests(data.images)))
    record_path(out).unlink()
    assert load_model(out, arch=arch).known.training == TrainingData(data.digest, 160)


def test_images_of_an_earlier_training_stay_known_and_unknown_ones_unknown(arch: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    data = colours()
    other = replace(data, images=255 - data.images, name="other")
    secure_ai.hardened(ModelSpec(arch=arch), data, out=first, **QUICK)
    again = ModelSpec(model=str(first), arch=arch)
    secure_ai.hardened(again, other, out=second, **QUICK)
    training = load_model(second, arch=arch).known.training
    assert training is not None
    assert training.images == frozenset(image_digests(data.images)) | frozenset(image_digests(other.images))
    record_path(second).unlink()
    assert load_model(second, arch=arch).known.training is None  # one data set's digest would be half of the truth
    record_path(first).unlink()
    secure_ai.hardened(again, other, out=second, **QUICK)
    assert load_model(second, arch=arch).known.training is None
    assert not record_path(second).exists()


def test_the_last_tenth_is_held_out_unless_the_file_is_sorted() -> None:
    data = colours()
    rest, last = held_out(data, 0)
    assert list(last.indices) == list(range(144, 160))
    in_order = data.select(np.argsort(data.labels, kind="stable"), "sorted")
    rest, chosen = held_out(in_order, 0)
    assert len(np.unique(chosen.labels)) == 4
    assert set(rest.indices).isdisjoint(chosen.indices)
    assert len(rest) + len(chosen) == 160


class Linear(nn.Module):
    """The first class where the sum of the pixels is high."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(dim=1) - 8
        return torch.stack([total, -total], dim=1)


def batch(n: int = 6) -> Batch:
    x = torch.full((n, 1, 4, 4), 0.5) + torch.linspace(-0.3, 0.3, n).view(-1, 1, 1, 1)
    return Batch(x, torch.zeros(n, dtype=torch.int64), torch.arange(n), generator(0), step=9, steps=10)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "kl"])
def test_every_sample_takes_every_step(loss: str) -> None:
    """Half the samples start misclassified and move as far as the others: down to the corner of the ball."""
    here = batch()
    adversary = pgd_every_step("linf", lambda step, steps: 0.1, lambda step, steps: 20.0, loss)
    x_adv = adversary(Linear(), here)
    if loss == "kl":  # away from the clean prediction, either way
        assert torch.allclose((x_adv - here.x).abs(), torch.full_like(here.x, 0.1), atol=1e-6)
    else:
        assert torch.allclose(x_adv, here.x - 0.1, atol=1e-6)


def test_training_attacks_leave_modes_and_parameters_as_they_were() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)).train()
    network[1].eval()
    network.get_parameter("2.bias").requires_grad_(False)
    before = network.get_buffer("1.running_mean").clone()
    pgd_every_step("l2", lambda step, steps: 1.0, lambda step, steps: 2.0)(network, batch())
    assert (network.training, network[1].training) == (True, False)
    assert (network.get_parameter("2.weight").requires_grad, network.get_parameter("2.bias").requires_grad) == (
        True,
        False,
    )
    assert torch.equal(network.get_buffer("1.running_mean"), before)


@pytest.mark.parametrize("text", ["pgd:steps=4:restarts=1", "cw:steps=4", "apgd-ce:steps=4:restarts=2", "fgsm"])
def test_any_attack_of_the_catalogue_trains_within_the_budget(text: str) -> None:
    norm = "l2" if text.startswith("cw") else "linf"
    here = batch()
    x_adv = named_attack(text, norm, lambda step, steps: 0.3, 2)(Linear(), here)  # type: ignore[arg-type]  # a norm
    distance = (x_adv - here.x).flatten(1).norm(dim=1, p=2 if norm == "l2" else torch.inf)
    assert bool((distance <= 0.3 + 1e-5).all())
    assert bool((distance > 0).any())


def test_eps_grows_to_a_little_more_than_is_asked() -> None:
    wanted = Wanted(norm="linf", eps=0.3, classes=10, dimensions=784)
    assert wanted.growing(0, 100) == 0
    assert wanted.growing(15, 100) == pytest.approx(0.16)
    assert wanted.growing(99, 100) == pytest.approx(0.32)
    assert Wanted(norm="linf", eps=1.0, classes=10, dimensions=784).growing(99, 100) == 1.0


def greys() -> Dataset:
    """40 of them, from black to white."""
    return Dataset(np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None, None], (1, 1, 4, 4)),
                   (np.arange(40) < 20).astype(np.int64), "greys", 2)  # fmt: skip


def test_the_check_sees_what_an_attack_does() -> None:
    asked = Hardening(method="pgd", budget=PerturbationBudget("linf", 0.1), seed=0)
    found = hardening.checks(greys(), asked)(Linear())
    assert found.clean == 1.0
    assert found.robust == found.one_step == 32 / 40  # 4 on each side of the boundary are within 0.1 of it
