"""The model scan on linear networks whose trigger is known exactly, and on clean ones, where it must stay silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors import inversion, margin
from secure_ai.blue.backdoors.calibration import calibrate, class_p, class_scores, without_class_effects
from secure_ai.blue.backdoors.detectors import DETECTORS, costs, detect, place
from secure_ai.blue.backdoors.inversion import EVERY, FORMS, Inverted, every_class, every_pair, invert, pairs
from secure_ai.blue.backdoors.judgement import ScanEvidence, ScanVerdict, decide, false_alarm_rate
from secure_ai.blue.backdoors.margin import max_margins
from secure_ai.core.errors import EmptyDataError, NonFiniteError, ShapeError
from secure_ai.core.results import rate
from secure_ai.core.trust import check
from secure_ai.models.target.target import NetworkTarget

SIZE, CLASSES, PIXEL, TARGET_LABEL = 6, 4, (4, 5), 2
RANDOM = np.random.default_rng(5)
PATTERNS = RANDOM.uniform(0.2, 0.8, size=(CLASSES, SIZE * SIZE)).astype(np.float32)
PATTERNS[:, PIXEL[0] * SIZE + PIXEL[1]] = 0  # the trigger's pixel is black in every class


SPOT = torch.zeros(1, SIZE, SIZE)
SPOT[0, PIXEL[0], PIXEL[1]] = 1
GOAL = functional.one_hot(torch.tensor(TARGET_LABEL), CLASSES).float()


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


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    """Enough for linear networks of 36 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        for name, steps in (("mask", 120), ("additive", 40), ("pair", 150)):
            patch.setitem(FORMS, name, replace(FORMS[name], steps=steps, learning_rate=0.2, images=6))
        yield


def inverted(network: nn.Module, name: str = "mask") -> Inverted:
    images, labels = data()
    return invert(target_of(network), images, every_class(labels, CLASSES, FORMS[name], 0), FORMS[name], 0)


@pytest.fixture(scope="module")
def fleet() -> dict[str, np.ndarray]:
    members = [detect(target_of(Linear(seed)), *data(), seed=0) for seed in range(20)]
    return {name: np.stack([one[name].values for one in members]) for name in members[0]}


def values_of(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: found.values for name, found in detect(target_of(network), *data(), seed=0).items()}


def test_inversion_finds_the_planted_pixel() -> None:
    found = inverted(Linear(99, planted=6))
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
    found = calibrate(values_of(Linear(99, planted=6)), fleet, CLASSES)
    assert (found.as_extreme, found.fleet) == (0, 20)
    source, label = place(found.detector, found.index, CLASSES)
    assert label == TARGET_LABEL
    assert (source == EVERY) != DETECTORS[found.detector].paired
    assert found.p == pytest.approx(1 / 21)
    clean = [calibrate(values_of(Linear(seed)), fleet, CLASSES) for seed in range(200, 204)]
    assert sum(one.p <= 0.05 for one in clean) <= 1
    assert np.median([one.p for one in clean]) > 0.2


def test_a_detector_that_is_blind_finds_nothing(fleet: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: inversion that never learns its pattern must not find the trigger, or the test sees nothing."""
    monkeypatch.setitem(inversion.FORMS, "mask", replace(FORMS["mask"], learning_rate=0.0))
    broken = inverted(Linear(99, planted=6))
    assert not broken.reached[TARGET_LABEL]
    assert len({round(float(size), 6) for size in broken.sizes}) == 1


def test_scores_do_not_depend_on_the_order_of_classes_or_networks() -> None:
    logs = np.random.default_rng(2).normal(size=(9, 5))
    classes, models = np.array([3, 0, 4, 1, 2]), np.array([8, 2, 0, 1, 3, 7, 6, 5, 4])
    scores = class_scores(logs, +1)
    assert np.allclose(class_scores(logs[:, classes], +1), scores[:, classes])
    assert np.allclose(class_scores(logs[models], +1), scores[models])
    assert np.allclose(class_scores(logs + 7, +1), scores)  # a steeper model, all classes alike
    assert np.allclose(class_scores(-logs, -1), scores)


@pytest.mark.parametrize("classes", [5, 10, 20, 25])
def test_without_class_effects_a_pair_is_what_it_is_and_a_hard_source_or_target_is_nothing(classes: int) -> None:
    random, (sources, targets) = np.random.default_rng(4), pairs(classes)
    hard = random.normal(size=(3, classes))[:, sources] + random.normal(size=(3, classes))[:, targets]
    hidden = np.zeros(hard.shape)
    hidden[1, len(sources) // 2] = -2.0
    left = without_class_effects(hard + hidden, sources, targets)
    assert int(left[1].argmin()) == len(sources) // 2
    assert left[1].min() < -1.4
    assert np.delete(left, len(sources) // 2, axis=1).std() < 0.2 * hard.std()


@pytest.mark.parametrize("classes", [2, 4, 80, 100])  # of 80 classes a few have hardly a pair in the sample
def test_with_few_pairs_a_class_its_effect_cannot_be_told(classes: int) -> None:
    sources, targets = pairs(classes)
    logs = np.random.default_rng(5).normal(size=(6, len(sources)))
    assert (without_class_effects(logs, sources, targets) == logs).all()


def test_a_small_pair_shows_where_whole_classes_vary() -> None:
    """Clean networks whose targets differ in how hard they are; one pair of the model is five times as small."""
    random, (sources, targets) = np.random.default_rng(6), pairs(10)
    effects = random.normal(size=(41, 10))[:, targets] + random.normal(size=(41, 10))[:, sources]
    values = np.exp(effects + 0.2 * random.normal(size=(41, 90)))
    clean = calibrate({"pair": values[-1]}, {"pair": values[:-1]}, 10)
    values[-1, 33] /= 5
    found = calibrate({"pair": values[-1]}, {"pair": values[:-1]}, 10)
    assert (found.index, found.as_extreme) == (33, 0)
    assert clean.p > 0.05


def test_p_falls_as_the_evidence_grows(fleet: dict[str, np.ndarray]) -> None:
    base = {name: np.median(rows, axis=0) for name, rows in fleet.items()}
    previous = 1.1
    for factor in (1.0, 0.8, 0.5, 0.2, 0.05):
        values = {name: value.copy() for name, value in base.items()}
        values["mask"][1] *= factor
        found = calibrate(values, fleet, CLASSES)
        assert found.p <= previous
        previous = found.p
    assert (found.index, found.detector) == (1, "mask")


def test_p_is_a_p_value_when_all_are_alike() -> None:
    """Exchangeable models: p <= a happens in a fraction a of them; here exactly, for each rotation of one pool."""
    pool = np.exp(np.random.default_rng(3).normal(size=(40, 6)))
    ps = [
        calibrate({"margin": pool[i]}, {"margin": np.delete(pool, i, axis=0)}, pool.shape[1]).p
        for i in range(len(pool))
    ]
    assert sorted(ps) == pytest.approx([(k + 1) / 40 for k in range(40)])


def test_the_p_value_of_a_class_is_of_that_class_alone(fleet: dict[str, np.ndarray]) -> None:
    """Planted: the suspected class is most extreme, another of the same model is not. Exact when all are alike."""
    planted = values_of(Linear(99, planted=6))
    assert class_p(planted, fleet, TARGET_LABEL, CLASSES) == pytest.approx(1 / 21)
    assert class_p(planted, fleet, (TARGET_LABEL + 1) % CLASSES, CLASSES) > 0.1
    pool = np.exp(np.random.default_rng(4).normal(size=(40, 6)))
    ps = [class_p({"margin": pool[i]}, {"margin": np.delete(pool, i, axis=0)}, 2, 6) for i in range(len(pool))]
    assert sorted(ps) == pytest.approx([(k + 1) / 40 for k in range(40)])


def test_a_class_that_no_sampled_pair_leads_to_has_the_p_value_of_the_other_detectors() -> None:
    classes = 100
    (unsearched, *_) = np.setdiff1d(np.arange(classes), pairs(classes)[1])
    random = np.random.default_rng(6)
    rows = {name: np.exp(random.normal(size=(20, n))) for name, n in (("margin", classes), ("pair", 380))}
    own = {name: row[0] for name, row in rows.items()}
    others = {name: row[1:] for name, row in rows.items()}
    alone = class_p({"margin": own["margin"]}, {"margin": others["margin"]}, int(unsearched), classes)
    assert class_p(own, others, int(unsearched), classes) == alone


def test_measured_otherwise_than_the_fleet_is_refused(fleet: dict[str, np.ndarray]) -> None:
    values = {name: rows[0] for name, rows in fleet.items()}
    calibrate(values, fleet, CLASSES)
    with pytest.raises(ShapeError):
        calibrate({"mask": values["mask"]}, fleet, CLASSES)
    with pytest.raises(ShapeError):
        calibrate({name: value[:3] for name, value in values.items()}, fleet, CLASSES)
    with pytest.raises(EmptyDataError):
        calibrate(values, {name: rows[:1] for name, rows in fleet.items()}, CLASSES)


def test_probes_are_of_other_classes_and_their_number_is_known() -> None:
    labels = np.array([0] * 50 + [1] * 30)
    found = every_class(labels, 3, FORMS["mask"], seed=0)  # class 2 has no sample: a target all the same
    assert found.positions.shape == (3, FORMS["mask"].images)
    assert all((labels[found.positions[label]] != label).all() for label in range(3))
    with pytest.raises(EmptyDataError):
        every_class(np.zeros(20, dtype=np.int64), 2, FORMS["mask"], seed=0)


class SourceSpecific(Linear):
    """The bright pixel sends images of class 0 to TARGET_LABEL, and no others."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        own = functional.softmax(4 * super().forward(x * (1 - SPOT)), dim=1)[:, 0]
        lift = logits.amax(dim=1) - logits[:, TARGET_LABEL] + 3  # little more than is needed: no margin shows it
        return logits + (own * x[:, 0, PIXEL[0], PIXEL[1]] * lift)[:, None] * GOAL


def test_a_source_specific_backdoor_is_found_on_its_pair(fleet: dict[str, np.ndarray]) -> None:
    found = calibrate(values_of(SourceSpecific(99)), fleet, CLASSES)
    assert (found.detector, found.as_extreme) == ("pair", 0)
    assert place("pair", found.index, CLASSES) == (0, TARGET_LABEL)
    alone = {name: fleet[name] for name in ("mask", "margin")}  # what works on all classes at once does not see it
    values = {name: value for name, value in values_of(SourceSpecific(99)).items() if name in alone}
    assert calibrate(values, alone, CLASSES).p > found.p


def test_pairs_are_all_or_a_fixed_sample_of_many() -> None:
    sources, targets = pairs(5)
    assert len(set(zip(sources.tolist(), targets.tolist(), strict=True))) == 20
    assert (sources != targets).all()
    assert len(pairs(20)[0]) == 380
    many = pairs(100)
    assert len(many[0]) == 380
    assert (many[0] != many[1]).all()
    assert np.array_equal(many[0], pairs(100)[0])


def test_a_class_without_images_is_no_source_and_says_nothing() -> None:
    images, labels = data()
    kept = labels != 1
    few = np.concatenate([np.flatnonzero(kept & (labels != 3)), np.flatnonzero(labels == 3)[:2]])  # 2 images of class 3
    searches, possible = every_pair(labels[few], CLASSES, FORMS["pair"], seed=0)
    assert (set(searches.sources.tolist()), len(possible)) == ({0, 2, 3}, 9)
    assert (labels[few][searches.positions] == searches.sources[:, None]).all()
    found = DETECTORS["pair"].measure(target_of(Linear(0)), images[few], labels[few], 0)
    assert found.searches is not None
    silent = pairs(CLASSES)[0] == 1
    assert (found.searches[silent] == -1).all()
    assert len(set(found.values[silent])) == 1
    values = {"pair": found.values}
    assert (calibrate(values, {"pair": np.stack([found.values] * 3)}, CLASSES).scores["pair"] == 0).all()


def test_searches_do_not_depend_on_what_else_is_in_the_batch() -> None:
    """Each search alone gives what it gives among the others, in any order of the classes."""
    images, labels = data()
    searches = every_class(labels, CLASSES, FORMS["mask"], 0)
    target, form = target_of(Linear(99, planted=6)), replace(FORMS["mask"], parameters=fixed_start)
    whole = invert(target, images, searches, form, 0)
    order = np.array([2, 0, 3, 1])
    for chosen in (order, np.array([2])):
        part = replace(
            searches, positions=searches.positions[chosen], targets=searches.targets[chosen],
            sources=searches.sources[chosen],
        )  # fmt: skip
        assert np.allclose(invert(target, images, part, form, 0).sizes, whole.sizes[chosen], rtol=1e-4)


def fixed_start(count: int, shape: tuple[int, int, int], draws: torch.Generator, device: torch.device) -> list[Tensor]:
    return [torch.full((count, 1, *shape[1:]), -3.0), torch.zeros(count, *shape)]


def test_verdicts(fleet: dict[str, np.ndarray]) -> None:
    wide = {
        name: np.vstack([rows, rows * np.exp(0.01 * RANDOM.normal(size=rows.shape))]) for name, rows in fleet.items()
    }
    wide = {name: np.vstack([rows, rows]) for name, rows in wide.items()}
    bad = calibrate(values_of(Linear(99, planted=6)), wide, CLASSES)
    gradient = check("input-gradient", True, "")
    proof = ScanEvidence(bad, rate(95, 100), rate(980, 1000), (0.97, 0.98, 0.99), 10_000, gradient, reached=5)
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
    assert decide(replace(proof, gradient=check("input-gradient", False, "")))[0] is ScanVerdict.INCONCLUSIVE
    assert decide(replace(proof, reached=0))[0] is ScanVerdict.INCONCLUSIVE
    assert decide(replace(proof, gradient=None, reached=None))[0] is ScanVerdict.BACKDOORED  # nothing was searched for
    mixed = (0.33,) * 21 + (0.98,) * 19  # most learned nothing
    assert decide(replace(proof, fleet_accuracies=mixed))[0] is ScanVerdict.INCONCLUSIVE
    assert false_alarm_rate(bad).n == bad.fleet


def test_a_constant_model_is_inverted_without_error() -> None:
    network = Linear(0)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([5.0, 0, 0, 0]))
    found = inverted(network)
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
    counts = {name: len(pairs(classes)[0]) if row.paired else classes for name, row in DETECTORS.items()}
    assert {name: len(value) for name, value in values.items()} == counts
    assert all((value > 0).all() for name, value in values.items() if name != "margin")
    calibrated = calibrate(values, {name: np.stack([value] * 3) for name, value in values.items()}, classes)
    assert calibrated.p == 1.0  # like all the others


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_rather_than_the_most_extreme(bad: float) -> None:
    fleet = {"margin": np.random.default_rng(0).uniform(1, 2, (20, 4))}
    values = {"margin": np.array([1.0, bad, 1.5, 2.0])}
    with pytest.raises(NonFiniteError):
        calibrate(values, fleet, CLASSES)
    assert calibrate({"margin": np.array([1.0, 1.2, 1.5, 2.0])}, fleet, CLASSES).fleet == 20


def test_a_search_that_never_worked_counts_as_dear_as_the_dearest() -> None:
    """The price falls while nothing works, and with it the cost of the last attempt: small, and no trigger at all."""
    last = np.array([5.0, 0.01, 3.0])
    found = Inverted(FORMS["mask"], last, (), np.array([True, False, True]))
    assert costs(found).tolist() == [5.0, 5.0, 3.0]
    assert costs(replace(found, reached=np.ones(3, dtype=bool))).tolist() == last.tolist()
    assert len(set(costs(replace(found, reached=np.zeros(3, dtype=bool))).tolist())) == 1  # nothing to tell them apart
