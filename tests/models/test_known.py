"""What a model's file and its neighbours say of how it was made: read within limits, compared, and never made up."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.trust import FED_WRONGLY, Check, CheckOutcome
from secure_ai.data.dataset import Dataset
from secure_ai.data.image_digests import image_digests
from secure_ai.data.training_record import record_path, training_metadata, training_record
from secure_ai.models.load.beside import known_in, read_known
from secure_ai.models.load.store import load_model, make_target, save_model
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.preflight.provenance import (
    INPUT,
    NAMES,
    SEEN,
    input_check,
    names_check,
    same_preparation,
    unseen_check,
)
from secure_ai.models.target.known import Known, TrainingData
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.red.evasion.trust.usual_inputs import with_usual_inputs
from secure_ai.runs.verbs.train import train

MNIST = InputTransform(mean=(0.1307,), std=(0.3081,))
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def data(n: int = 40, seed: int = 0) -> Dataset:
    images = np.random.default_rng(seed).integers(0, 256, (n, 1, 28, 28)).astype(np.uint8)
    return Dataset(images, np.arange(n, dtype=np.int64) % 10, "d", 10)


PLAIN = InputTransform()


def target(known: Known, transform: InputTransform = PLAIN, channels: int = 1) -> NetworkTarget:
    return NetworkTarget(
        nn.Identity(), name="t", digest="", input_shape=(channels, 28, 28), num_classes=10, transform=transform,
        known=known,
    )  # fmt: skip


def known_of(folder: Path, name: str, content: Any) -> Known:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return read_known(folder / "m.safetensors", "a" * 64, {})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("preprocessor_config.json", IMAGENET, (tuple(IMAGENET["image_mean"]), tuple(IMAGENET["image_std"]))),
        ("preprocessor_config.json", {**IMAGENET, "do_normalize": False}, ((), ())),
        ("config.json", {"mean": [0.1307], "std": [0.3081]}, ((0.1307,), (0.3081,))),
        ("config.json", {"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}, ((0.5,), (0.5,))),
        ("config.json", {"architectures": ["X"]}, None),
        ("config.json", {"mean": [0.1307]}, None),
        ("config.json", {"mean": [123.7], "std": [58.4]}, None),
        ("config.json", {"mean": [0.1], "std": [0.0]}, None),
        ("config.json", {"mean": [True], "std": [0.5]}, None),
        ("config.json", {"mean": ["0.1"], "std": [0.5]}, None),
        ("config.json", {"mean": [10**400], "std": [0.5]}, None),
        ("config.json", {"mean": [0.1] * 4, "std": [0.5]}, None),
        ("config.json", "[" * 5000, None),
        ("config.json", '{"mean": [NaN], "std": [0.5]}', None),
    ],
)
def test_only_numbers_in_range_are_read(tmp_path: Path, name: str, content: Any, expected: Any) -> None:
    found = known_of(tmp_path, name, content)
    assert (None if found.input is None else (found.input.mean, found.input.std)) == expected
    assert (found.input_from == name) == (expected is not None)
    assert bool(found.notes) == isinstance(content, str)


@pytest.mark.parametrize(
    ("known", "fed", "outcome"),
    [
        (Known(), InputTransform(), CheckOutcome.NOT_RUN),
        (Known(InputTransform(), "f"), InputTransform(), CheckOutcome.PASS),
        (Known(InputTransform(), "f"), InputTransform(channels_last=True), CheckOutcome.PASS),
        (Known(MNIST, "f"), InputTransform(mean=(0.13066,), std=(0.30811,)), CheckOutcome.PASS),
        (Known(MNIST, "f"), InputTransform(), CheckOutcome.FAIL),
        (Known(InputTransform(), "f"), MNIST, CheckOutcome.FAIL),
    ],
)
def test_pixels_are_fed_as_somebody_says_or_it_is_not_verified(
    known: Known, fed: InputTransform, outcome: CheckOutcome
) -> None:
    assert input_check(target(known, fed)).outcome is outcome


def test_half_less_over_half_is_the_range_from_minus_one_to_one() -> None:
    assert same_preparation(InputTransform(mean=(0.5,), std=(0.5,)), InputTransform(low=-1.0), 3)
    assert not same_preparation(InputTransform(mean=(0.5,), std=(0.5,)), InputTransform(low=1.0, high=-1.0), 3)


def test_images_that_were_in_training_are_counted() -> None:
    own, other = data(), data(seed=1)
    record = TrainingData(own.digest, len(own), frozenset(image_digests(own.images)))
    as_floats = Dataset(own.images.astype(np.float32) / 255, own.labels, "floats", 10)
    assert unseen_check(target(Known(training=record)), own).outcome is CheckOutcome.FAIL
    assert unseen_check(target(Known(training=record)), as_floats).outcome is CheckOutcome.FAIL
    assert unseen_check(target(Known(training=record)), other).outcome is CheckOutcome.PASS
    digest_only = Known(training=TrainingData(own.digest, len(own)))
    assert unseen_check(target(digest_only), own).outcome is CheckOutcome.FAIL
    assert unseen_check(target(digest_only), other).outcome is CheckOutcome.NOT_RUN
    assert unseen_check(target(Known()), other).outcome is CheckOutcome.NOT_RUN


def test_a_record_of_other_weights_is_not_used(tmp_path: Path) -> None:
    model, own = tmp_path / "m.safetensors", data()
    record_path(model).write_bytes(training_record("a" * 64, own, image_digests(own.images)))
    assert read_known(model, "a" * 64, {}).training is not None
    foreign = read_known(model, "b" * 64, {})
    assert foreign.training is None
    assert foreign.notes
    record_path(model).write_text('{"format": "secure-ai training record 1", "model": "' + "a" * 64 + '", "images": 3}')
    assert read_known(model, "a" * 64, {}).training is None


def outcome(checks: tuple[Check, ...], identifier: str) -> str:
    return next(str(made.outcome) for made in checks if made.id == identifier)


def test_what_train_writes_is_found_again(tmp_path: Path) -> None:
    own = data(20)
    np.savez(tmp_path / "own.npz", x=own.images, y=own.labels)
    out = tmp_path / "m.safetensors"
    train("report1-cnn", str(tmp_path / "own.npz"), out=out, epochs=1)
    assert stat.S_IMODE(record_path(out).stat().st_mode) == 0o600
    loaded = load_model(out)
    made = make_target(loaded, input_shape=(1, 28, 28), num_classes=10)
    found = examine(made, own, 0).checks
    assert (outcome(found, INPUT), outcome(found, SEEN)) == ("pass", "fail")
    record_path(out).unlink()
    assert (
        outcome(examine(make_target(load_model(out), input_shape=(1, 28, 28), num_classes=10), own, 0).checks, SEEN)
        == "fail"
    )
    other = examine(make_target(load_model(out), input_shape=(1, 28, 28), num_classes=10, mean=(0.1,)), data(seed=5), 0)
    assert (outcome(other.checks, INPUT), outcome(other.checks, SEEN)) == ("pass", "not_run")


def test_metadata_that_nobody_of_us_wrote_says_nothing(tmp_path: Path) -> None:
    network = build_network("report1-cnn", generator=torch.Generator().manual_seed(0))
    save_model(
        network, tmp_path / "m.safetensors", arch="report1-cnn", metadata={"training_data": "x", "input_mean": "1e"}
    )
    assert load_model(tmp_path / "m.safetensors").known == Known()
    assert known_in(training_metadata(data())).training == TrainingData(data().digest, 40)


class Halves(nn.Module):
    """Class 1 where the left half is brighter by more than `bias`: 0.3 in the images below, 0.97 if normalised.

    Both ways of feeding are right on every image. Within eps = 0.12 the difference moves by 0.24: with a bias of 0.1 a
    lead of 0.2 on pixels in [0, 1] falls, and none falls on normalised ones, whose bias is worth 0.03.
    """

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead = x[..., :14].mean(dim=(1, 2, 3)) - x[..., 14:].mean(dim=(1, 2, 3)) - self.bias
        return torch.stack([-lead, lead], dim=1)


@pytest.mark.parametrize(
    ("bias", "known", "told"),
    [
        (0.1, Known(), "as given 100 % clean, 50 % robust; --mean 0.1307 --std 0.3081: 100 % clean, 100 % robust"),
        (0.0, Known(), "change neither figure"),
        (0.1, Known(InputTransform(), "the model file"), "as the model file says"),
    ],
)
def test_the_usual_normalisations_are_shown_where_they_matter_and_nobody_knows(
    bias: float, known: Known, told: str
) -> None:
    y = np.arange(60, dtype=np.int64) % 2
    images = np.random.default_rng(0).uniform(0.3, 0.5, (60, 1, 28, 28)).astype(np.float32)
    images[y == 1, :, :, :14] += 0.3
    images[y == 0, :, :, 14:] += 0.3
    dataset = Dataset(images, y, "halves", 2)
    halves = NetworkTarget(Halves(bias), name="t", digest="", input_shape=(1, 28, 28), num_classes=2, known=known)
    checked = with_usual_inputs(examine(halves, dataset, 0), dataset, PerturbationBudget("linf", 0.12), 0)
    (made,) = [one for one in checked.checks if one.id == INPUT]
    assert told in made.evidence


@pytest.mark.parametrize(
    ("data_names", "model_names", "outcome"),
    [
        (("cat", "dog"), ("Cat", "DOG"), "pass"),
        (("golden_retriever", "tabby"), ("golden retriever", "tabby, tabby cat"), "pass"),
        (("cat", "dog"), ("dog", "cat"), "fail"),
        (("bird", "cat"), ("airplane", "bird", "cat"), "fail"),
        (("n01440764", "n01443537"), ("tench", "goldfish"), None),
        ((), ("cat", "dog"), None),
        (("cat", "dog"), (), None),
    ],
)
def test_a_class_that_is_another_output_by_name_fails(
    data_names: tuple[str, ...], model_names: tuple[str, ...], outcome: str | None
) -> None:
    own = data(2)
    named = Dataset(own.images, own.labels, "d", 2, class_names=data_names)
    found = names_check(target(Known(class_names=model_names)), named)
    assert (None if found is None else str(found.outcome)) == outcome
    assert found is None or (found.id == NAMES and found.id in FED_WRONGLY)
