"""The scan and the filters as measures of a run: a fleet of small numbers stands in for the committed one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from secure_ai.blue.backdoors import detectors, inversion, margin
from secure_ai.blue.backdoors.data_filters import FILTERS, FilterRow
from secure_ai.blue.backdoors.detectors import DETECTORS, Found, detect, of_classes
from secure_ai.blue.backdoors.inversion import EVERY, Inverted
from secure_ai.blue.backdoors.judgement import MIN_FLEET, P_BACKDOORED
from secure_ai.blue.backdoors.removal import REMOVERS
from secure_ai.blue.backdoors.repair import tuned
from secure_ai.blue.training.methods import natural
from secure_ai.core.events import ignore_event
from secure_ai.core.findings import exceeds
from secure_ai.core.result import Result
from secure_ai.core.results import rate
from secure_ai.core.sections import picture_file
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import random_order
from secure_ai.data.triggers import parse_trigger
from secure_ai.files.seal import Seal, SealedFile
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.preflight.preflight import Preflight, examine
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.red.poisoning.plant import plant
from secure_ai.runs.backdoors import controls
from secure_ai.runs.backdoors import fleet as fleets
from secure_ai.runs.backdoors.findings import scan_findings
from secure_ai.runs.backdoors.fleet import Fleet, Member, known_fleet
from secure_ai.runs.backdoors.repair import State, Suspect, parts_of, suspect
from secure_ai.runs.backdoors.scan import Scan, judge_found, scan_target
from secure_ai.runs.engine.execute import decides_results
from secure_ai.runs.engine.measure import Context
from secure_ai.runs.engine.result_file import ARRAYS_NAME, read_result, result_bytes
from secure_ai.runs.engine.stage import TimeShortError
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages import backdoor_detection, backdoor_removal
from secure_ai.runs.stages.backdoor_detection import (
    FILTERS_SHOWN,
    FilterSettings,
    ScanSettings,
    controls_of,
    data_filters,
    scan,
    scan_row,
)
from secure_ai.runs.stages.backdoor_removal import RemovalSettings, _clean_images, _outcome, removal


@dataclass
class OneNetwork:
    """A subject with a network in memory."""

    network: torch.nn.Module
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: str = "report-1/badnets"

    def target(self) -> NetworkTarget:
        return NetworkTarget(self.network.eval(), name="n", digest="", input_shape=(1, 28, 28), num_classes=10)

    def checked(self, data: Dataset) -> Preflight:
        return examine(self.target(), data, 0)


class Rounded(torch.nn.Module):
    """Pixels in steps: next to no change of them changes a score, and no gradient passes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (8 * x).round() / 8


def context(data: Mapping[str, Dataset], kept: dict[str, bytes]) -> Context:
    return Context(
        seed=0, data=data.__getitem__, precision="float32", events=ignore_event,
        progress=lambda done, total: None, partial=SealedFile(Path("none"), "none", "test", Seal(None)),
        keep=kept.__setitem__,
    )  # fmt: skip


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> OneNetwork:
    monkeypatch.setattr(margin, "STEPS", 2)
    monkeypatch.setattr(inversion, "SUCCESS", 0.0)  # in three steps nothing else would reach its goal
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=3))
    return OneNetwork(build_network("report1-cnn", generator=generator(0, "scan test")))


def fleet_like(subject: OneNetwork, data: Dataset, conspicuous: int, detector: str = "mask") -> Fleet:
    """Sixty networks like the subject, which then stands out on one class by so many of their deviations."""
    order = random_order(len(data), 0, "scan-split")
    search, held_out = order[: len(data) // 2], order[len(data) // 2 :]  # as the scan will split them
    return stand_ins(subject.target(), data.select(search, ""), data.select(held_out, ""), conspicuous, detector)


def stand_ins(
    target: NetworkTarget, search: Dataset, held_out: Dataset, conspicuous: int, detector: str = "mask", label: int = 0
) -> Fleet:
    found = detect(target, search.images, search.labels, 0)
    accuracy = evaluate(target, held_out.images, held_out.labels).accuracy.bounds.value
    random = np.random.default_rng(0)
    members = []
    for index in range(60):
        values = {name: one.values * np.exp(0.02 * random.normal(size=len(one.values))) for name, one in found.items()}
        values[detector][label] *= np.exp(0.02 * conspicuous)
        members.append(Member(index, accuracy, {name: value.tolist() for name, value in values.items()}))
    return Fleet(members=tuple(members), source="stand-ins", training_images=12_000, asked=60)


def scanned(
    subject: OneNetwork,
    data: Dataset,
    fleet: Fleet | None,
    monkeypatch: pytest.MonkeyPatch,
    *,
    planted: bool = False,
) -> tuple[Result, dict[str, bytes]]:
    monkeypatch.setattr(backdoor_detection, "known_fleet", lambda arch, transform, data: fleet)
    kept: dict[str, bytes] = {}
    result = scan(cast(Subject, subject), ScanSettings(planted=planted), context({"test": data}, kept))
    return read_result(result_bytes(result), "result.json"), kept


def test_a_conspicuous_network_is_a_finding_and_an_inconspicuous_one_is_not(
    subject: OneNetwork, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, kept = scanned(subject, digits_test, fleet_like(subject, digits_test, 60), monkeypatch)
    assert [choice.value for choice in result.choices] == ["suspicious"]  # its trigger moves too few images
    assert [(finding.id, finding.evidence["label"]) for finding in result.findings] == [("SAI-BD-002", 0)]
    assert exceeds(result.findings, "medium")
    rates = {entry.id: entry.value for entry in result.measurements}
    assert (rates["report-1/badnets/scan-false-alarms"].successes, rates["report-1/badnets/scan-false-alarms"].n) == (
        0,
        60,
    )
    assert ARRAYS_NAME in kept
    assert len(result.pictures) == len(result.sections) == 1
    assert [finding.evidence["picture"] for finding in result.findings] == [picture_file(result.pictures[0].id)]
    own, _ = scanned(subject, digits_test, fleet_like(subject, digits_test, 60), monkeypatch, planted=True)
    assert not exceeds(own.findings, "low")
    quiet, _ = scanned(subject, digits_test, fleet_like(subject, digits_test, 0), monkeypatch)
    assert ([choice.value for choice in quiet.choices], quiet.findings) == (["not_detected"], ())


def test_a_conspicuous_pair_names_its_source_and_target(
    subject: OneNetwork, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, kept = scanned(subject, digits_test, fleet_like(subject, digits_test, 60, "pair"), monkeypatch)
    (finding,) = result.findings
    assert (finding.evidence["source"], finding.evidence["label"]) == (0, 1)  # the first pair
    assert len(result.pictures) == 1
    assert ARRAYS_NAME in kept
    success = next(entry for entry in result.measurements if entry.id.endswith("/scan-trigger"))
    held_out = random_order(len(digits_test), 0, "scan-split")[len(digits_test) // 2 :]
    assert success.value.n == int((digits_test.labels[held_out] == 0).sum())  # images of the source alone


def test_without_data_the_same_network_is_at_most_suspicious(
    subject: OneNetwork, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = np.full(10, 8.0)
    monkeypatch.setattr(detectors, "max_margins", lambda target, seed: own)
    quiet = without_data(subject, digits_test)
    assert (quiet.verdict.value, quiet.trigger) == ("not_detected", None)
    own[4] = 16
    found = without_data(subject, digits_test)
    assert (found.verdict.value, found.suspected) == ("suspicious", (EVERY, 4))
    assert (found.trigger, list(found.class_scores)) == (None, ["margin"])
    assert [one.evidence["label"] for one in scan_findings("own", found, digits_test)] == [4]


def without_data(subject: OneNetwork, data: Dataset) -> Scan:
    checked = subject.checked(data)
    return scan_target(checked.target, None, None, of_margins(), 0, checked.checks)


def test_a_fleet_unlike_the_network_gives_no_number(
    subject: OneNetwork, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_like(subject, digits_test, 60)
    better = replace(fleet, members=tuple(replace(member, accuracy=1.0) for member in fleet.members))
    result, _ = scanned(subject, digits_test, better, monkeypatch)
    assert [choice.value for choice in result.choices] == ["inconclusive"]
    assert (len(result.not_tested), result.findings, result.quantities) == (1, (), ())
    assert not any(entry.id.endswith("scan-false-alarms") for entry in result.measurements)


@pytest.mark.parametrize(
    ("useful", "failures", "verdict", "dropped"),
    [
        (60, 20, "suspicious", 20),
        (MIN_FLEET - 1, 0, "inconclusive", 0),
        (MIN_FLEET - 1, 10, "inconclusive", 10),
    ],
)
def test_control_networks_that_learned_nothing_hide_no_backdoor(
    useful: int, failures: int, verdict: str, dropped: int, subject: OneNetwork
) -> None:
    """Each of them looks more extreme than the model does."""
    random = np.random.default_rng(0)
    rows = [(8 * np.exp(0.02 * random.normal(size=10))).tolist() for _ in range(useful)]
    members = [Member(index, 0.98, {"margin": row}) for index, row in enumerate(rows)]
    members += [Member(useful + index, 0.87, {"margin": [800.0 + index, *rows[0][1:]]}) for index in range(failures)]
    fleet = Fleet(members=tuple(members), source="stand-ins", training_images=12_000, asked=useful + failures)
    own = {"margin": Found(np.array([80.0, *rows[0][1:]]))}
    found = judge_found(subject.target(), own, None, fleet, ())
    known = None if verdict == "inconclusive" else useful
    assert (found.verdict.value, found.calibrated and found.calibrated.fleet) == (verdict, known)
    assert found.as_json()["fleet"]["dropped"] == dropped
    assert any(f"{dropped} of {useful + failures}" in reason for reason in found.reasons) == bool(dropped)


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (100, ("margin", "pair"), {"sampled": 380, "of": 9_900}),
        (20, ("margin", "pair"), None),
        (100, ("margin",), None),
    ],
)
def test_a_random_sample_of_the_pairs_is_told(
    classes: int, names: tuple[str, ...], expected: dict[str, int] | None, subject: OneNetwork
) -> None:
    counts = {"margin": classes, "pair": len(inversion.pairs(classes)[0])}
    found = {name: Found(np.ones(counts[name])) for name in names}
    told = judge_found(replace(subject.target(), num_classes=classes), found, None, None, ())
    assert told.as_json()["pairs"] == expected
    assert any("380" in reason and "9,900" in reason for reason in told.reasons) == (expected is not None)


def of_margins() -> Fleet:
    random = np.random.default_rng(0)
    values = [{"margin": (8 * np.exp(0.02 * random.normal(size=10))).tolist()} for _ in range(60)]
    members = tuple(Member(index, 0.9, value) for index, value in enumerate(values))
    return Fleet(members=members, source="stand-ins", training_images=12_000, asked=60)


@pytest.mark.parametrize(("before", "verdict"), [(torch.nn.Identity(), "not_detected"), (Rounded(), "inconclusive")])
def test_without_an_input_gradient_nothing_is_concluded(
    before: torch.nn.Module, verdict: str, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "max_margins", lambda target, seed: np.full(10, 8.0))
    subject = OneNetwork(torch.nn.Sequential(before, small()))
    assert without_data(subject, digits_test).verdict.value == verdict


@pytest.mark.parametrize(("reached", "verdict"), [(1, "not_detected"), (0, "inconclusive")])
def test_searches_that_all_failed_are_no_evidence(reached: int, verdict: str, subject: OneNetwork) -> None:
    rows = of_margins().values(["margin"])["margin"]
    members = tuple(Member(index, 0.9, {"mask": row.tolist()}) for index, row in enumerate(rows))
    fleet = replace(of_margins(), members=members)
    inverted = Inverted(inversion.FORMS["mask"], np.ones(10), (), np.arange(10) < reached)
    found = judge_found(subject.target(), {"mask": of_classes(inverted)}, None, fleet, ())
    assert found.verdict.value == verdict


def test_without_a_fleet_it_is_not_tested(
    subject: OneNetwork, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "max_margins", lambda target, seed: np.full(10, 8.0))
    result, _ = scanned(subject, digits_test, None, monkeypatch)
    assert (len(result.not_tested), result.choices, result.findings) == (1, (), ())
    assert [row[1] for row in result.sections[0].rows] == ["8"] * 10  # what was measured, without a verdict


@pytest.mark.parametrize(
    ("settings", "committed", "expected"),
    [
        (ScanSettings(planted=False), False, None),
        (ScanSettings(planted=False, calibrate=True), False, ("half", 40)),
        (ScanSettings(planted=True, calibrate=True, trained=True), False, ("train", 40)),
        (ScanSettings(planted=True, calibrate=True, trained=True), True, None),  # they need not be
        (ScanSettings(planted=True, control_networks=25, trained=True), True, ("train", 25)),
    ],
)
def test_control_networks_are_trained_where_that_is_asked_for(
    settings: ScanSettings, committed: bool, expected: tuple[str, int] | None, subject: OneNetwork, digits: Dataset,
    digits_test: Dataset, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[tuple[str, int]] = []
    fleet = fleet_like(subject, digits_test, 0)

    def trained_fleet(build: object, identity: str, training: Dataset, *rest: Dataset, **options: Any) -> Fleet:
        asked.append(("train" if training is digits else "half", options["count"]))
        assert len(training) == (len(digits) if training is digits else len(digits_test) // 2)
        assert options["largest"] >= len(training)  # all of them are used
        return fleet

    monkeypatch.setattr(controls, "trained_fleet", trained_fleet)
    monkeypatch.setattr(backdoor_detection, "LEAST_DATA", 100)
    monkeypatch.setattr(backdoor_detection, "known_fleet", lambda arch, transform, data: fleet if committed else None)
    result = scan(cast(Subject, subject), settings, context({"test": digits_test, "train": digits}, {}))
    assert asked == ([expected] if expected else [])
    assert [choice.value for choice in result.choices] == (["not_detected"] if committed or expected else [])


@pytest.mark.parametrize(
    ("later", "each", "ready", "left", "trained"),
    [
        (False, 1.0, 0, None, 20),
        (False, 1.0, 3, 60.0, 20),
        (False, 1.0, 3, -1.0, 3),
        (True, 100.0, 0, 60.0, 0),  # not even one would be done in time
        (True, 1.0, 0, 60.0, 20),
        (True, 100.0, 20, 60.0, 20),
        (True, 1.0, 0, None, 20),
    ],
)
def test_a_fleet_that_the_time_budget_cut_is_no_result(
    later: bool, each: float, ready: int, left: float | None, trained: int, subject: OneNetwork, digits_test: Dataset,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was trained is in the cache, from which the same scan goes on."""
    made: list[int] = []

    def member(network: object, index: int, *rest: object) -> Member:
        made.append(index)
        return whole.members[index]

    whole = fleet_like(subject, digits_test, 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fleets, "control_network", lambda *given, **options: None)
    monkeypatch.setattr(fleets, "measure_member", member)
    monkeypatch.setattr(fleets, "members_seconds", lambda one, missing, *given, **options: each * len(missing))
    monkeypatch.setattr(backdoor_detection, "LEAST_DATA", 100)
    monkeypatch.setattr(backdoor_detection, "known_fleet", lambda arch, transform, data: None)
    settings = ScanSettings(planted=True, control_networks=20, later=later)
    anything, whole_run = context({"test": digits_test}, {}), settings.model_copy(update={"later": False})
    if ready:
        few = whole_run.model_copy(update={"control_networks": ready})
        controls_of(subject.target(), few, anything)
    at = replace(anything, deadline=None if left is None else time.monotonic() + left)
    if trained < 20:
        with pytest.raises(TimeShortError):
            scan(cast(Subject, subject), settings, at)
    else:
        assert len(scan(cast(Subject, subject), settings, at).choices) == 1
    assert made == list(range(trained))
    controls_of(subject.target(), whole_run, anything)
    assert made == list(range(20))  # none of them twice


@pytest.mark.parametrize(
    ("changes", "data", "trains"),
    [({}, "mnist:test", 0), ({"control_networks": 30}, "mnist:test", 30), ({}, "mine.npz", 40)],
)
def test_only_one_scan_of_an_architecture_pays_for_the_control_networks(
    changes: dict[str, int], data: str, trains: int
) -> None:
    own = [ScanSettings(planted=True, calibrate=True, trained=True, later=later, **changes) for later in (False, True)]
    first, later = (scan_row("report1-cnn", one, data=data).passes(one, 1_000, 0.5) for one in own)
    assert (first.training > 0, later.training) == (trains > 0, 0)
    assert first.backward == (trains + 1) * later.backward


def test_filters_find_poison_that_a_network_tells_apart(digits: Dataset) -> None:
    """A network whose features are 1 where the trigger is: whatever looks at them finds it."""
    poisoned = np.arange(1, 600, 100)

    class Sees(torch.nn.Module):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            lit = (x[:, 0, 10:14, 10:14].mean(dim=(1, 2)) > 0.99).float()
            return torch.cat([50 * lit[:, None], x.flatten(1)[:, ::97]], dim=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :10]

    facts = {"poisoned": poisoned.tolist()}
    settings = FilterSettings(trigger="patch:size=4:place=10x10:value=1", target_label=3, relabelled=True)
    found = data_filters(cast(Subject, OneNetwork(Sees(), facts)), settings, context({"train": digits}, {}))
    rates = {entry.id.rpartition("/")[2]: entry.value for entry in found.measurements}
    assert rates["filter-spectral-signatures"].n == len(poisoned)
    assert {entry.value.value for entry in found.measurements if entry.metric == "poison_detection_rate"} == {1}
    assert all(entry.value.bounds.value <= 0.01 for entry in found.measurements if entry.metric == "false_alarm_rate")
    blind = FilterSettings(trigger="patch:size=4:place=0x0:value=0", target_label=3, relabelled=False)
    missed = data_filters(cast(Subject, OneNetwork(Sees(), facts)), blind, context({"train": digits}, {}))
    assert all((entry.value.value or 0) < 0.3 for entry in missed.measurements)


@pytest.mark.parametrize(
    ("accused", "doubted", "found", "alarms"),
    [
        (90, 0, 4, 90),  # the highest score, whatever it costs
        (90, 200, 4, 90),  # no second cluster beside it
        (3, 200, 4, 3),  # a limit lies above the 1 % of clean images
        (0, 3, 4, 3),
    ],
)
def test_of_tied_scores_the_images_with_the_highest_one_are_refused(
    accused: int, doubted: int, found: int, alarms: int, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = np.arange(0, 6)
    scores = np.zeros(len(digits))
    scores[:4] = scores[6 : 6 + accused] = 2.0
    scores[6 + accused : 6 + accused + doubted] = 1.0
    row = FilterRow(lambda evidence: scores, needs_trusted=False)
    monkeypatch.setitem(cast(dict[str, FilterRow], FILTERS), "activation-clustering", row)
    monkeypatch.setattr(backdoor_detection, "FILTERS_SHOWN", ("activation-clustering",))
    settings = FilterSettings(trigger="patch:size=4:place=10x10:value=1", target_label=3, relabelled=True)
    network = build_network("report1-cnn", generator=generator(0, "scan test"))
    subject = OneNetwork(network, {"poisoned": poisoned.tolist()})
    result = data_filters(cast(Subject, subject), settings, context({"train": digits}, {}))
    assert [(entry.metric, entry.value.successes, entry.value.n) for entry in result.measurements] == [
        ("poison_detection_rate", found, 6),
        ("false_alarm_rate", alarms, len(digits) - 6),
    ]


def test_activation_clustering_accuses_a_cluster_of_clean_images_where_there_is_one(digits: Dataset) -> None:
    """Two clusters in the clean images, too: all images of a cluster have one score, and no limit lies among them."""

    class Halves(torch.nn.Module):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([50 * (x[:, 0, :1, 0] > 0.7), x.flatten(1)[:, ::97]], dim=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :10]

    facts = {"poisoned": list(range(1, 600, 100))}
    settings = FilterSettings(trigger="patch:size=4:place=10x10:value=1", target_label=3, relabelled=True)
    found = data_filters(cast(Subject, OneNetwork(Halves(), facts)), settings, context({"train": digits}, {}))
    values = {entry.id.rpartition("/")[2]: entry.value for entry in found.measurements}
    assert [value.n for value in values.values()] == [6, len(digits) - 6] * len(FILTERS_SHOWN)
    over = [name for name, value in values.items() if name.endswith("-false-alarms") and value.bounds.value > 0.01]
    assert over == ["filter-activation-clustering-false-alarms"]
    assert read_result(result_bytes(found), "result.json").measurements == found.measurements


@pytest.mark.parametrize("compared", [True, False])
def test_a_removal_reports_what_it_did_and_the_planted_trigger_afterwards(
    compared: bool, digits: Dataset, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With control networks it says whether the class still stands out; without any, that the class is a guess."""
    monkeypatch.setattr(margin, "STEPS", 2)
    for name, form in inversion.FORMS.items():
        monkeypatch.setitem(inversion.FORMS, name, replace(form, steps=60 if name == "mask" else 3))
    poisoned = plant(
        digits_test, trigger=parse_trigger("patch:size=5:place=0x0:value=1"), target_label=3, source_label=None,
        label_mode="dirty", select="random", seed=0, poison_rate=0.2,
    )  # fmt: skip

    @dataclass
    class Paired(OneNetwork):
        def twin(self) -> OneNetwork:
            return OneNetwork(small(), id="report-1/baseline")

    def watched(target: NetworkTarget, whole: Dataset, given: object, seed: int) -> Suspect:
        used.append(whole)
        assert given is asked  # the run's control networks judge the repaired networks, too
        own = None
        if compared:
            _, search, held_out = parts_of(whole, seed)
            own = stand_ins(target, search, held_out, 60, label=3)
            own = replace(own, members=(replace(own.members[0], accuracy=1.0), *own.members[1:]))
        return suspect(target, whole, own, seed)

    used: list[Dataset] = []
    monkeypatch.setattr(backdoor_removal, "suspect", watched)
    images = np.concatenate([digits_test.images, digits.images])  # trained on the first 300, the last 600 validate
    train = Dataset(images, np.concatenate([digits_test.labels, digits.labels]), "digits", 10)
    network = tuned(small(), poisoned.dataset, natural, 0, epochs=80)
    subject = Paired(network, facts={"n_validation": 600})
    asked = cast(Any, object()) if compared else None
    monkeypatch.setattr(
        backdoor_removal,
        "controls_of",
        lambda target, settings, context: controls.Controls(asked, train, train, "" if compared else "none"),
    )
    own = ScanSettings(planted=True, trained=True)
    settings = RemovalSettings(trigger="patch:size=5:place=0x0:value=1", target_label=3, scan=own, images=600)
    result = removal(cast(Subject, subject), settings, context({"train": train}, {}))
    assert sorted(used[0].indices) == list(range(300, 900))
    assert read_result(result_bytes(result), "result.json").measurements == result.measurements
    rates = {entry.id.rpartition("/")[2]: entry.value.value or 0.0 for entry in result.measurements}
    assert rates["unrepaired-planted"] > 0.6
    assert rates["repaired-planted"] < rates["unrepaired-planted"] - 0.3
    assert rates["repaired-accuracy"] >= rates["unrepaired-accuracy"] - 0.011
    assert {"unrepaired-relearned", "repaired-relearned", "clean-relearned"} <= set(rates)
    (section,) = result.sections
    assert len(section.rows) == 1 + len(REMOVERS)
    column = [one.id for one in section.columns].index("p")
    assert [row[column] is not None for row in section.rows] == [compared] * len(section.rows)
    assert len(result.not_tested) == (not compared)


def test_the_outcome_of_a_removal_tells_a_repair_from_a_doubt_and_from_a_weak_suspicion() -> None:
    done = rate(99, 100)

    def state(p: float | None, success: int) -> State:
        return State(done, rate(success, 100), done, 1.0, p)

    cases = {"repair": (0.02, 0.4, 1), "doubt": (0.02, 0.03, 1), "weak": (0.3, 0.4, 1)}
    told = {name: _outcome(state(p, 90), state(after, left), 3) for name, (p, after, left) in cases.items()}
    assert len(set(told.values())) == len(cases)
    assert [name for name, text in told.items() if "still" in text] == ["doubt"]


@pytest.mark.parametrize(("facts", "seen"), [({"n_validation": 600}, False), ({"n_validation": 599}, True), ({}, True)])
def test_a_removal_takes_images_that_the_network_has_not_seen(facts: dict[str, int], seen: bool) -> None:
    """Where there are enough; else it says so."""
    train = Dataset(np.zeros((900, 1, 2, 2), np.uint8), np.zeros(900, np.int64), "n", 10)
    subject = cast(Subject, OneNetwork(small(), facts))
    used, called = _clean_images(train, subject, 500, 0)
    assert (bool((used.indices < 300).any()), len(used)) == (seen, 500)
    assert ("trained on" in called) == seen


def small() -> torch.nn.Module:
    draws = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)
        )
    with torch.no_grad():
        for value in network.parameters():
            value.uniform_(-0.03, 0.03, generator=draws)
    return network


def test_other_control_networks_make_a_scan_stale() -> None:
    assert decides_results("blue/backdoors/known_fleets.json")
    assert decides_results("runs/backdoors/fleet.py")
    assert not decides_results("runs/verbs/backdoor_scan.py")


@pytest.mark.parametrize("arch", NETWORKS)
def test_the_committed_fleets_are_of_the_code_of_today(arch: str) -> None:
    """Else the scan of built-in networks would say "not tested" without anybody noticing."""
    fleet = known_fleet(arch, InputTransform())
    assert fleet is not None
    assert 1 / (1 + len(fleet.members)) <= P_BACKDOORED  # else nothing could be `backdoored`
    values = fleet.values(sorted(DETECTORS))
    assert {name: row.shape[1] for name, row in values.items()} == {
        "additive": 10,
        "margin": 10,
        "mask": 10,
        "pair": 90,
    }
    assert all(np.isfinite(row).all() and (row > 0).all() for row in values.values())
    assert min(member.accuracy for member in fleet.members) > 0.95
