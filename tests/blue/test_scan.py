"""The model scan on linear networks whose trigger is known exactly, and on clean ones, where it must stay silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.blue.backdoors import inversion, margin
from secure_ai.blue.backdoors.calibration import calibrate, class_scores
from secure_ai.blue.backdoors.detectors import detect
from secure_ai.blue.backdoors.inversion import FORMS, Inverted, invert, probe_images
from secure_ai.blue.backdoors.judgement import ScanEvidence, ScanVerdict, decide, false_alarm_rate
from secure_ai.blue.backdoors.margin import max_margins
from secure_ai.core.errors import EmptyDataError, ShapeError
from secure_ai.core.results import rate
from secure_ai.models.target.target import NetworkTarget

SIZE, CLASSES, PIXEL, TARGET_LABEL = 6, 4, (4, 5), 2
RANDOM = np.random.default_rng(5)
PATTERNS = RANDOM.uniform(0.2, 0.8, size=(CLASSES, SIZE * SIZE)).astype(np.float32)
PATTERNS[:, PIXEL[0] * SIZE + PIXEL[1]] = 0  # the trigger's pixel is black in every class


class Linear(nn.Module):
    """Logits by the nearest pattern; a planted weight makes one bright pixel send everything to one class."""

    def __init__(self, seed: int, planted: float = 0.0) -> None:
        super().__init__()
        weights = 2 * PATTERNS + np.random.default_rng(seed).normal(0, 0.05, PATTERNS.shape).astype(np.float32)
        weights[TARGET_LABEL, PIXEL[0] * SIZE + PIXEL[1]] += planted
        self.weight = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))
        self.bias = nn.Parameter(-torch.from_numpy((PATTERNS**2).sum(axis=1)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def target_of(network: nn.Module, classes: int = CLASSES) -> NetworkTarget:
    return NetworkTarget(network.eval(), name="n", digest="", input_shape=(1, SIZE, SIZE), num_classes=classes)


def data(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n, dtype=np.int64) % CLASSES
    noise = np.random.default_rng(1).normal(0, 0.02, (n, SIZE * SIZE))
    images = np.clip(PATTERNS[labels] + noise, 0, 1).astype(np.float32).reshape(n, 1, SIZE, SIZE)
    images[:, 0, PIXEL[0], PIXEL[1]] = 0
    return images, labels


@pytest.fixture(scope="module")
def fleet() -> dict[str, np.ndarray]:
    members = [detect(target_of(Linear(seed)), *data(), seed=0) for seed in range(20)]
    return {name: np.stack([one[name].values for one in members]) for name in members[0]}


def values_of(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: found.values for name, found in detect(target_of(network), *data(), seed=0).items()}


def test_inversion_finds_the_planted_pixel() -> None:
    found = invert(target_of(Linear(99, planted=6)), *data(), FORMS["mask"], seed=0)
    assert found.reached.all()
    assert int(found.sizes.argmin()) == TARGET_LABEL
    mask = torch.from_numpy(found.parameters[0][TARGET_LABEL, 0]).sigmoid().numpy()
    assert divmod(int(mask.argmax()), SIZE) == PIXEL
    images, labels = data()
    others = images[labels != TARGET_LABEL]
    stamped = torch.from_numpy(found.stamp(others, TARGET_LABEL))
    assert (Linear(99, planted=6)(stamped).argmax(dim=1) == TARGET_LABEL).float().mean() >= 0.95
    assert 0 <= stamped.min() <= stamped.max() <= 1


def test_the_margin_of_a_linear_network_is_known() -> None:
    """Two classes: the best image is bright where the difference of the weights is positive."""
    layer = nn.Linear(4, 2, bias=False)
    network = nn.Sequential(nn.Flatten(), layer)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.5]]))
    target = NetworkTarget(network, name="n", digest="", input_shape=(1, 2, 2), num_classes=2)
    assert max_margins(target, 0) == pytest.approx([4.0, 2.5], abs=1e-3)


def test_a_planted_network_is_found_and_clean_ones_are_not(fleet: dict[str, np.ndarray]) -> None:
    found = calibrate(values_of(Linear(99, planted=6)), fleet)
    assert (found.label, found.as_extreme, found.fleet) == (TARGET_LABEL, 0, 20)
    assert found.p == pytest.approx(1 / 21)
    clean = [calibrate(values_of(Linear(seed)), fleet) for seed in range(200, 204)]
    assert sum(one.p <= 0.05 for one in clean) <= 1
    assert np.median([one.p for one in clean]) > 0.2


def test_a_detector_that_is_blind_finds_nothing(fleet: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: inversion that never learns its pattern must not find the trigger, or the test sees nothing."""
    monkeypatch.setitem(inversion.FORMS, "mask", replace(FORMS["mask"], learning_rate=0.0))
    broken = invert(target_of(Linear(99, planted=6)), *data(), inversion.FORMS["mask"], seed=0)
    assert not broken.reached[TARGET_LABEL]
    assert len({round(float(size), 6) for size in broken.sizes}) == 1


def test_scores_do_not_depend_on_the_order_of_classes_or_networks() -> None:
    values = np.exp(np.random.default_rng(2).normal(size=(9, 5)))
    classes, models = np.array([3, 0, 4, 1, 2]), np.array([8, 2, 0, 1, 3, 7, 6, 5, 4])
    scores = class_scores(values, +1)
    assert np.allclose(class_scores(values[:, classes], +1), scores[:, classes])
    assert np.allclose(class_scores(values[models], +1), scores[models])
    assert np.allclose(class_scores(7.0 * values, +1), scores)  # a steeper model, all classes alike
    assert np.allclose(class_scores(1 / values, -1), scores)


def test_p_falls_as_the_evidence_grows(fleet: dict[str, np.ndarray]) -> None:
    base = {name: np.median(rows, axis=0) for name, rows in fleet.items()}
    previous = 1.1
    for factor in (1.0, 0.8, 0.5, 0.2, 0.05):
        values = {name: value.copy() for name, value in base.items()}
        values["mask"][1] *= factor
        found = calibrate(values, fleet)
        assert found.p <= previous
        previous = found.p
    assert (found.label, found.detector) == (1, "mask")


def test_p_is_a_p_value_when_all_are_alike() -> None:
    """Exchangeable models: p <= a happens in a fraction a of them; here exactly, for each rotation of one pool."""
    pool = np.exp(np.random.default_rng(3).normal(size=(40, 6)))
    ps = [calibrate({"margin": pool[i]}, {"margin": np.delete(pool, i, axis=0)}).p for i in range(len(pool))]
    assert sorted(ps) == pytest.approx([(k + 1) / 40 for k in range(40)])


def test_measured_otherwise_than_the_fleet_is_refused(fleet: dict[str, np.ndarray]) -> None:
    values = {name: rows[0] for name, rows in fleet.items()}
    calibrate(values, fleet)
    with pytest.raises(ShapeError):
        calibrate({"mask": values["mask"]}, fleet)
    with pytest.raises(ShapeError):
        calibrate({name: value[:3] for name, value in values.items()}, fleet)
    with pytest.raises(EmptyDataError):
        calibrate(values, {name: rows[:1] for name, rows in fleet.items()})


def test_probes_are_of_other_classes_and_their_number_is_known() -> None:
    labels = np.array([0] * 50 + [1] * 30)
    chosen = probe_images(labels, 3, seed=0)  # class 2 has no sample: a target all the same
    assert chosen.shape == (3, inversion.IMAGES)
    assert all((labels[chosen[label]] != label).all() for label in range(3))
    with pytest.raises(EmptyDataError):
        probe_images(np.zeros(20, dtype=np.int64), 2, seed=0)


def test_verdicts(fleet: dict[str, np.ndarray]) -> None:
    wide = {
        name: np.vstack([rows, rows * np.exp(0.01 * RANDOM.normal(size=rows.shape))]) for name, rows in fleet.items()
    }
    wide = {name: np.vstack([rows, rows]) for name, rows in wide.items()}
    bad = calibrate(values_of(Linear(99, planted=6)), wide)
    proof = ScanEvidence(bad, rate(95, 100), rate(980, 1000), (0.97, 0.98, 0.99), 10_000)
    assert decide(proof)[0] is ScanVerdict.BACKDOORED
    assert decide(replace(proof, success=None))[0] is ScanVerdict.SUSPICIOUS
    assert decide(replace(proof, success=rate(40, 100)))[0] is ScanVerdict.SUSPICIOUS
    assert decide(replace(proof, training_images=1_999))[0] is ScanVerdict.SUSPICIOUS
    assert decide(replace(proof, calibrated=replace(bad, p=0.04)))[0] is ScanVerdict.SUSPICIOUS
    assert decide(replace(proof, calibrated=replace(bad, p=0.06)))[0] is ScanVerdict.NOT_DETECTED
    assert decide(replace(proof, calibrated=None))[0] is ScanVerdict.INCONCLUSIVE
    assert decide(replace(proof, calibrated=replace(bad, fleet=18)))[0] is ScanVerdict.INCONCLUSIVE
    assert decide(replace(proof, accuracy=rate(100, 1000)))[0] is ScanVerdict.INCONCLUSIVE
    assert decide(replace(proof, accuracy=rate(9_990, 10_000)))[0] is ScanVerdict.INCONCLUSIVE  # trained more than all
    assert false_alarm_rate(bad).n == bad.fleet


def test_a_constant_model_is_inverted_without_error() -> None:
    network = Linear(0)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([5.0, 0, 0, 0]))
    found: Inverted = invert(target_of(network), *data(), FORMS["mask"], seed=0)
    assert found.reached.tolist() == [True, False, False, False]
    assert np.isfinite(found.sizes).all()


@pytest.mark.parametrize("classes", [2, 100])
def test_few_and_many_classes(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin, "STEPS", 3)
    for name, form in FORMS.items():
        monkeypatch.setitem(FORMS, name, replace(form, steps=3))
    random = np.random.default_rng(0)

    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.from_numpy(random.normal(size=(SIZE * SIZE, classes)).astype(np.float32)))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    images, _ = data()
    labels = random.integers(0, classes, len(images))
    found = detect(target_of(Many(), classes), images, labels, seed=0)
    values = {name: one.values for name, one in found.items()}
    assert {value.shape for value in values.values()} == {(classes,)}
    assert all((value > 0).all() for name, value in values.items() if name != "margin")
    calibrated = calibrate(values, {name: np.stack([value] * 3) for name, value in values.items()})
    assert calibrated.p == 1.0  # like all the others
