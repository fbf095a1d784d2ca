from __future__ import annotations

from dataclasses import replace

import pytest

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.findings import Severity
from secure_ai.core.result import Model
from secure_ai.core.results import CURVE, Measurement, rate, rate_or_reason
from secure_ai.core.trust import Trust, Verdict, check
from secure_ai.runs.judgements import judge_measurements

DOUBTFUL = Trust(Verdict.DOUBTFUL, ())
BROKEN = Trust(Verdict.BROKEN, (check("made-for-another-network", False, "made for another"),))
MASKED = Trust(Verdict.BROKEN, (check("zero-gradients", False, "no gradient"),))


def entry(identifier: str, percent: float, trust: Trust = DOUBTFUL, metric: str = "robust_accuracy",
          made_for: str = "", trigger: str = "") -> Measurement:  # fmt: skip
    return Measurement(
        id=identifier,
        model=identifier.rsplit("/", 1)[0],
        metric=metric,
        value=rate(round(percent * 100), 10_000),
        trust=trust,
        budget=PerturbationBudget("linf", 0.25),
        protocol=identifier.rsplit("/", 1)[-1],
        stage="assess/attack",
        replay="secure-ai run",
        made_for=made_for,
        trigger=trigger,
    )


def model(identifier: str, role: str, against: str = "") -> Model:
    return Model(id=identifier, role=role, digest="", format="safetensors", arch="", against=against)


def ids(*measurements: Measurement) -> list[str]:
    return [finding.id for finding in judge_measurements(measurements, ())]


def defended(transferred: float, pgd: float) -> tuple[Measurement, Measurement]:
    return (
        entry("net/defended/transferred", transferred, BROKEN, made_for="net/baseline"),
        entry("net/defended/pgd", pgd),
    )


def test_points_of_a_curve_are_not_judged_as_if_at_the_budget_asked_for() -> None:
    asked, beyond = entry("net/attacked", 90.0), entry("net/curve/0.5", 1.0)
    assert ids(asked, beyond) == ["SAI-EV-001"]
    assert ids(asked, replace(beyond, condition=CURVE)) == []


@pytest.mark.parametrize(("pgd", "severity"), [(2.0, Severity.HIGH), (78.0, Severity.HIGH), (80.0, None), (90.0, None)])
def test_severity_follows_the_robust_accuracy(pgd: float, severity: Severity | None) -> None:
    found = judge_measurements([entry("net/a/pgd", pgd)], ())
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_an_overstated_number_is_found_and_swapped_measurements_are_not() -> None:
    found = {finding.id: finding for finding in judge_measurements(defended(98.0, 5.0), ())}
    assert found["SAI-EV-002"].evidence == {
        "claimed": "net/defended/transferred", "lowest": "net/defended/pgd", "points": 93.0,
    }  # fmt: skip
    assert "[broken]" in found["SAI-EV-002"].message
    assert "SAI-EV-002" not in ids(*defended(5.0, 98.0))
    assert "SAI-EV-002" not in ids(*defended(90.0, 90.0))


@pytest.mark.parametrize(("trust", "made_for"), [(BROKEN, ""), (DOUBTFUL, "net/other")])
def test_examples_made_for_another_network_never_decide_the_severity(trust: Trust, made_for: str) -> None:
    assert ids(entry("n/d/transferred", 2.0, trust, made_for=made_for)) == []
    assert ids(entry("n/d/own", 2.0, MASKED, made_for="n/d")) == ["SAI-EV-001"]


def test_a_rate_over_no_sample_is_not_judged() -> None:
    assert ids(replace(entry("n/d/pgd", 0.0), value=rate_or_reason(0, 0, "no images"))) == []


TWINS = (model("net/clean", "baseline"), model("net/poisoned", "poisoned", against="net/clean"))


def success(identifier: str, percent: float, trigger: str = "patch") -> Measurement:
    return entry(identifier, percent, metric="backdoor_success_rate", trigger=trigger)


@pytest.mark.parametrize(
    ("poisoned", "clean", "severity"),
    [
        (99.5, 0.1, Severity.CRITICAL),
        (30.0, 0.1, Severity.HIGH),
        (0.1, 0.1, None),
        (99.5, 99.5, None),
        (0.1, 99.5, None),
    ],
)
def test_a_backdoor_is_one_only_above_the_clean_network(
    poisoned: float, clean: float, severity: Severity | None
) -> None:
    rows = [success("net/clean/backdoor", clean), success("net/poisoned/backdoor", poisoned)]
    assert [finding.severity for finding in judge_measurements(rows, TWINS)] == ([] if severity is None else [severity])


def test_the_clean_rate_beside_a_backdoor_is_of_the_same_trigger() -> None:
    clean = success("net/clean/backdoor", 99.5)
    other = success("net/clean/backdoor-other", 0.1, "pixel")
    own = success("net/poisoned/backdoor-other", 99.5, "pixel")
    (finding,) = judge_measurements([clean, other, own], TWINS)
    assert finding.evidence["clean_model"] == other.value.as_json()
    assert judge_measurements([clean, own], TWINS) == ()


def test_the_clean_rate_beside_a_backdoor_is_the_twins() -> None:
    rows = [success("net/clean/backdoor", 0.1), success("net/poisoned/backdoor", 99.5)]
    elsewhere = (TWINS[0], model("net/poisoned", "poisoned", against="net/third"))
    assert judge_measurements(rows, elsewhere) == ()
    assert judge_measurements(rows, ()) == ()


@pytest.mark.parametrize(
    ("role", "planted"), [("baseline", True), ("defended", True), ("subject", False), ("surrogate", False)]
)
def test_findings_about_our_own_networks_are_marked_planted(role: str, planted: bool) -> None:
    (finding,) = judge_measurements([entry("net/a/pgd", 2.0)], [model("net/a", role)])
    assert finding.planted is planted


def test_a_model_that_is_not_listed_counts_as_the_users() -> None:
    (finding,) = judge_measurements([entry("net/a/pgd", 2.0)], ())
    assert not finding.planted


def test_a_model_that_is_fed_wrongly_is_not_called_weak() -> None:
    weak = entry("subject/attacked", 2.0)
    wrong = check("input-range", False, "61 of 300 right as given, 203 with --range -1,1")
    owner = replace(model("subject", "subject"), title="mine.pt")
    (finding,) = judge_measurements([weak], [owner])
    assert finding.message.startswith("mine.pt ")
    overstated = defended(98.0, 5.0)
    assert "SAI-EV-002" in ids(*overstated)
    both = [weak, *(replace(m, model="subject") for m in overstated)]
    (told,) = judge_measurements(both, [replace(owner, preflight=(wrong,))])
    assert (told.id, told.severity, told.evidence) == ("SAI-PF-001", Severity.MEDIUM, {"check": "input-range"})
    assert "--mean" in told.remediation


def test_what_preflight_found_of_the_users_model_is_a_finding() -> None:
    checks = (check("logits", False, "answers with probabilities"), check("eval-mode", True, "every module obeys"))
    (finding,) = judge_measurements([], [replace(model("subject", "subject"), preflight=checks)])
    assert (finding.id, finding.severity, finding.planted) == ("SAI-PF-001", Severity.LOW, False)
    assert "--mean" not in finding.remediation
    assert judge_measurements([], [replace(model("net", "baseline"), preflight=checks)]) == ()
