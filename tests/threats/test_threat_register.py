"""The register: both reports' rows, and statuses that follow the measurements."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from secure_ai.core.results import Rate, rate
from secure_ai.threats.register import REGISTER, REPORT_1, REPORT_2, threat_rows
from secure_ai.threats.rules import Status, refuses, reveals_backdoor, robust_floor, unmitigated_backdoor
from secure_ai.threats.taxonomy import NAMES, STRIDE


def entry(identifier: str, value: Rate, verdict: str | None = "reliable") -> dict[str, Any]:
    trust = verdict and {"verdict": verdict, "checks": []}
    return {"id": identifier, "model": identifier.rsplit("/", 1)[0], "metric": "x", "value": value.as_json(),
            "trust": trust, "budget": None}  # fmt: skip


def r(share: float, n: int = 10000) -> Rate:
    return rate(round(share * n), n)


def known(**shares: float | tuple[float, int] | tuple[float, int, str]) -> dict[str, dict[str, Any]]:
    """Measurements by id; `__` in a name stands for `/`."""
    found = {}
    for name, given in shares.items():
        share, n, *rest = given if isinstance(given, tuple) else (given, 10000)
        identifier = name.replace("__", "/")
        found[identifier] = entry(identifier, r(share, n), *rest)
    return found


def test_the_reports_are_there_with_their_own_words() -> None:
    claims = Counter((row.report, row.where, row.claimed) for row in REGISTER)
    assert claims == {
        ("report-1", "table 2", "implemented"): 9,  # 8 there; adversarial training counts once for each version
        ("report-1", "table 2", "proposed"): 15,
        ("report-1", "section 4.7", "proposed"): 6,
        ("report-1", "section 5.2", "proposed"): 3,
        ("report-2", "section 9", "implemented"): 8,
    }
    assert {row.letter for row in REPORT_1} == {row.letter for row in REPORT_2} == set(STRIDE)


def test_ids_are_unique_and_stable_in_form() -> None:
    ids = [row.id for row in REGISTER]
    assert len(set(ids)) == len(ids)
    for row in REGISTER:
        assert re.fullmatch(rf"{row.report}/{row.letter}/[a-z0-9-]+", row.id)


def test_every_taxonomy_id_is_known_and_used_once_a_row() -> None:
    for row in REGISTER:
        assert row.taxonomy, row.id
        assert set(row.taxonomy) <= set(NAMES), row.id
        assert len(set(row.taxonomy)) == len(row.taxonomy), row.id
    forms = r"AML\.[TM]\d{4}(\.\d{3})?|ML(0[1-9]|10):2023|NISTAML\.0\d\d?|CWE-\d+"
    assert [name for name in NAMES if not re.fullmatch(forms, name)] == []


def test_nothing_is_mitigated_without_measurements() -> None:
    rows = threat_rows([], [])
    assert len(rows) == len(REGISTER)
    assert {row["status"] for row in rows} == {"not_tested"}
    assert all(row["reason"] for row in rows)


BASELINE = {"base__fgsm": 0.15, "base__pgd": 0.0}


def status_of_defence(**shares: Any) -> Status:
    return robust_floor("net", "base").apply(known(**{**BASELINE, **shares})).status


def test_adversarial_training_counts_only_by_its_lowest_accuracy() -> None:
    assert status_of_defence(net__transferred=0.992, net__fgsm=0.059, net__pgd=0.0) is Status.INEFFECTIVE
    assert status_of_defence(net__transferred=0.95, net__fgsm=0.93, net__pgd=0.91) is Status.MITIGATED
    assert status_of_defence(net__transferred=0.95, net__fgsm=0.93, net__pgd=0.80) is Status.INCONCLUSIVE
    outcome = robust_floor("net", "base").apply(
        known(**BASELINE, net__transferred=0.992, net__fgsm=0.059, net__pgd=0.0)
    )
    assert outcome.reason.startswith("Claimed, measured ineffective: the lowest of three robust accuracies is 0.00 %")


def test_a_mitigation_that_changes_nothing_is_not_one() -> None:
    shares: dict[str, Any] = {"net__transferred": 0.95, "net__fgsm": 0.93, "net__pgd": 0.91}
    assert status_of_defence(**shares) is Status.MITIGATED
    assert status_of_defence(**shares, base__fgsm=0.93, base__pgd=0.91) is Status.INCONCLUSIVE


def test_untrusted_or_few_samples_show_nothing() -> None:
    shares: dict[str, Any] = {"net__transferred": 0.95, "net__fgsm": 0.93}
    assert status_of_defence(**shares, net__pgd=(0.91, 10000, "doubtful")) is Status.INCONCLUSIVE
    assert status_of_defence(**shares, net__pgd=(0.91, 500)) is Status.INCONCLUSIVE
    assert status_of_defence(**shares) is Status.NOT_TESTED


@pytest.mark.parametrize(
    ("clean", "triggered", "success", "status"),
    [
        (0.989, 0.999, 0.998, Status.INEFFECTIVE),
        (0.989, 0.40, 0.998, Status.MITIGATED),
        (0.40, 0.989, 0.998, Status.MITIGATED),
        (0.989, 0.991, 0.001, Status.INCONCLUSIVE),
    ],
)
def test_a_metric_that_does_not_move_detects_nothing(
    clean: float, triggered: float, success: float, status: Status
) -> None:
    rule = reveals_backdoor("net", "clean", "triggered", "backdoor")
    measured = known(net__clean=(clean, 1028), net__triggered=(triggered, 1028), net__backdoor=success)
    assert rule.apply(measured).status is status


@pytest.mark.parametrize(("hit", "status"), [(0.97, Status.INEFFECTIVE), (0.003, Status.INCONCLUSIVE)])
def test_a_demonstration_is_no_mitigation(hit: float, status: Status) -> None:
    rule = unmitigated_backdoor("bad/backdoor", "good/backdoor")
    assert rule.apply(known(bad__backdoor=(hit, 1028), good__backdoor=(0.003, 1028))).status is status


@pytest.mark.parametrize(
    ("refused", "accepted", "status"),
    [(1.0, 1.0, Status.MITIGATED), (0.9, 1.0, Status.INEFFECTIVE), (1.0, 0.0, Status.INEFFECTIVE)],
)
def test_a_guard_must_refuse_attacks_and_accept_the_rest(refused: float, accepted: float, status: Status) -> None:
    rule = refuses("attacks/refused", "clean/accepted")
    assert rule.apply(known(attacks__refused=(refused, 20), clean__accepted=(accepted, 5))).status is status


def value_for(identifier: str, *, on: bool) -> dict[str, Any]:
    """A measurement that shows the mitigation on (working) or off."""
    if "badnets" in identifier:
        shares = {"sevens-clean": 0.989, "sevens-triggered": 0.40 if on else 0.999, "backdoor": 0.998}
    elif identifier.startswith("check/"):
        shares = {"refused": 1.0 if on else 0.0, "accepted": 1.0}
    elif identifier.endswith("/backdoor"):
        shares = {"backdoor": 0.97 if "poisoned" in identifier else 0.003}
    else:
        shares = dict.fromkeys(("transferred", "fgsm", "pgd"), 0.95 if on and "defended" in identifier else 0.05)
    return entry(identifier, r(shares[identifier.rsplit("/", 1)[1]], 1028))


@pytest.mark.parametrize("row", [row for row in REGISTER if row.rule], ids=lambda row: row.id)
def test_switching_a_mitigation_off_turns_its_row(row: Any) -> None:
    def status(on: bool) -> str:
        measured = [value_for(name, on=on) for name in row.rule.evidence]
        found = {item["id"]: item for item in threat_rows(measured, [])}[row.id]
        assert found["evidence"] == list(row.rule.evidence)
        return str(found["status"])

    demonstration = row.id == "report-2/T/poisoning-module"  # it mitigates nothing, so there is nothing to switch on
    assert (status(True), status(False)) == ("ineffective" if demonstration else "mitigated", "ineffective")


def test_findings_about_the_same_measurement_are_linked() -> None:
    measured = [value_for(name, on=False) for name in REPORT_1[0].rule.evidence] if REPORT_1[0].rule else []
    finding = {"id": "SAI-EV-001", "evidence": {"measurement": "report-1/defended-p/pgd", "n": 3}}
    other = {"id": "B101", "evidence": {"line": 7}}
    rows = {row["id"]: row["findings"] for row in threat_rows(measured, [finding, other, finding])}
    assert rows[REPORT_1[0].id] == ["SAI-EV-001"]
    assert rows["report-1/T/signing"] == []
