"""The register: both reports' rows, and statuses that follow the measurements."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from secure_ai.core.findings import Finding, Severity
from secure_ai.core.results import MeasuredChoice, Measurement, rate
from secure_ai.core.trust import Trust, Verdict
from secure_ai.runs.cases.report_1.threats import ROWS as REPORT_1
from secure_ai.runs.cases.report_2.threats import ROWS as REPORT_2
from secure_ai.runs.cases.table import CASES
from secure_ai.threats.model import ThreatStatus
from secure_ai.threats.register import Row, threat_rows
from secure_ai.threats.rules import ThreatRule, refuses, reveals_backdoor, robust_floor, unmitigated_backdoor
from secure_ai.threats.taxonomy import NAMES, STRIDE

THREATS = [row for case in CASES for row in case.threats]
MITIGATED, INEFFECTIVE, INCONCLUSIVE, NOT_TESTED = (
    ThreatStatus.MITIGATED, ThreatStatus.INEFFECTIVE, ThreatStatus.INCONCLUSIVE, ThreatStatus.NOT_TESTED,
)  # fmt: skip


def entry(identifier: str, share: float, n: int = 10000, verdict: Verdict | None = Verdict.RELIABLE) -> Measurement:
    return Measurement(
        id=identifier,
        model=identifier.rsplit("/", 1)[0],
        metric="x",
        value=rate(round(share * n), n),
        stage="s",
        replay="r",
        trust=None if verdict is None else Trust(verdict, ()),
    )


def known(**shares: float | tuple[Any, ...]) -> dict[str, Measurement]:
    """Measurements by id; `__` in a name stands for `/`."""
    found = {}
    for name, given in shares.items():
        identifier = name.replace("__", "/")
        found[identifier] = entry(identifier, *(given if isinstance(given, tuple) else (given,)))
    return found


def test_the_reports_are_there_with_their_own_words() -> None:
    claims = Counter((row.report, row.where, row.claimed) for row in THREATS)
    assert claims == {
        ("report-1", "table 2", "implemented"): 9,  # 8 there; adversarial training counts once for each version
        ("report-1", "table 2", "proposed"): 15,
        ("report-1", "section 4.7", "proposed"): 6,
        ("report-1", "section 5.2", "proposed"): 3,
        ("report-2", "section 9", "implemented"): 8,
    }
    assert {row.letter for row in REPORT_1} == {row.letter for row in REPORT_2} == set(STRIDE)


def test_ids_are_unique_and_stable_in_form() -> None:
    ids = [row.id for row in THREATS]
    assert len(set(ids)) == len(ids)
    for row in THREATS:
        assert re.fullmatch(rf"{row.report}/{row.letter}/[a-z0-9-]+", row.id)


def test_every_taxonomy_id_is_known_and_used_once_a_row() -> None:
    for row in THREATS:
        assert row.taxonomy, row.id
        assert set(row.taxonomy) <= set(NAMES), row.id
        assert len(set(row.taxonomy)) == len(row.taxonomy), row.id
    forms = r"AML\.[TM]\d{4}(\.\d{3})?|ML(0[1-9]|10):2023|NISTAML\.0\d\d?|CWE-\d+"
    assert [name for name in NAMES if not re.fullmatch(forms, name)] == []


def test_nothing_is_mitigated_without_measurements() -> None:
    rows = threat_rows(THREATS, (), ())
    assert [row.id for row in rows] == [row.id for row in THREATS]
    assert {(row.status, row.indicative) for row in rows} == {(NOT_TESTED, False)}
    assert all(row.reason for row in rows)


BASELINE = {"base__fgsm": 0.15, "base__pgd": 0.0}


def status_of_defence(**shares: Any) -> ThreatStatus:
    return robust_floor("net", "base").apply(known(**{**BASELINE, **shares})).status


def test_adversarial_training_counts_only_by_its_lowest_accuracy() -> None:
    assert status_of_defence(net__transferred=0.992, net__fgsm=0.059, net__pgd=0.0) is INEFFECTIVE
    assert status_of_defence(net__transferred=0.0, net__fgsm=0.992, net__pgd=0.95) is INEFFECTIVE
    assert status_of_defence(net__transferred=0.95, net__fgsm=0.93, net__pgd=0.91) is MITIGATED
    assert status_of_defence(net__transferred=0.95, net__fgsm=0.93, net__pgd=0.80) is INCONCLUSIVE
    judgement = robust_floor("net", "base").apply(known(**BASELINE, net__transferred=0.9, net__fgsm=0.2, net__pgd=0.1))
    assert [m.id for m in judgement.decided_by] == ["net/pgd"]


def test_a_mitigation_that_changes_nothing_is_not_one() -> None:
    shares: dict[str, Any] = {"net__transferred": 0.95, "net__fgsm": 0.93, "net__pgd": 0.91}
    assert status_of_defence(**shares) is MITIGATED
    assert status_of_defence(**shares, base__fgsm=0.93, base__pgd=0.91) is INCONCLUSIVE


def test_untrusted_or_few_samples_show_nothing() -> None:
    shares: dict[str, Any] = {"net__transferred": 0.95, "net__fgsm": 0.93}
    assert status_of_defence(**shares, net__pgd=(0.91, 10000, Verdict.DOUBTFUL)) is INCONCLUSIVE
    assert status_of_defence(**shares, net__pgd=(0.91, 10000, None)) is INCONCLUSIVE
    assert status_of_defence(**shares, net__pgd=(0.91, 500)) is INCONCLUSIVE
    assert status_of_defence(**shares) is NOT_TESTED


@pytest.mark.parametrize(
    ("pgd", "indicative"),
    [
        ((0.91, 10000, Verdict.RELIABLE), False),
        ((0.05, 10000, Verdict.RELIABLE), False),
        ((0.05, 10000, Verdict.DOUBTFUL), True),
        ((0.05, 10000, None), True),
        ((0.05, 999, Verdict.RELIABLE), True),
    ],
)
def test_a_status_is_indicative_where_what_decided_it_is(pgd: tuple[Any, ...], indicative: bool) -> None:
    measured = known(**BASELINE, net__transferred=(0.95, 10000, Verdict.BROKEN), net__fgsm=0.93, net__pgd=pgd)
    assert robust_floor("net", "base").apply(measured).indicative is indicative


@pytest.mark.parametrize(
    ("clean", "triggered", "success", "status"),
    [
        (0.989, 0.999, 0.998, INEFFECTIVE),
        (0.989, 0.40, 0.998, MITIGATED),
        (0.40, 0.989, 0.998, MITIGATED),
        (0.989, 0.991, 0.001, INCONCLUSIVE),
    ],
)
def test_a_metric_that_does_not_move_detects_nothing(
    clean: float, triggered: float, success: float, status: ThreatStatus
) -> None:
    rule = reveals_backdoor("net", "clean", "triggered", "backdoor")
    measured = known(net__clean=(clean, 1028), net__triggered=(triggered, 1028), net__backdoor=success)
    assert rule.apply(measured).status is status


@pytest.mark.parametrize(("hit", "status"), [(0.97, INEFFECTIVE), (0.003, INCONCLUSIVE)])
def test_a_demonstration_is_no_mitigation(hit: float, status: ThreatStatus) -> None:
    rule = unmitigated_backdoor("bad/backdoor", "good/backdoor")
    assert rule.apply(known(bad__backdoor=(hit, 1028), good__backdoor=(0.003, 1028))).status is status


@pytest.mark.parametrize(
    ("refused", "accepted", "status"),
    [(1.0, 1.0, MITIGATED), (0.9, 1.0, INEFFECTIVE), (1.0, 0.0, INEFFECTIVE)],
)
def test_a_guard_must_refuse_attacks_and_accept_the_rest(refused: float, accepted: float, status: ThreatStatus) -> None:
    judgement = refuses("attacks/refused", "clean/accepted", "files").apply(
        known(attacks__refused=(refused, 20), clean__accepted=(accepted, 5))
    )
    assert (judgement.status, judgement.indicative) == (status, True)


def value_for(identifier: str, *, on: bool) -> Measurement:
    """A measurement that shows the mitigation on (working) or off."""
    if identifier.endswith("/scan-false-alarms"):
        return entry(identifier, 0.0 if on and "badnets" in identifier else 0.5, 1028)
    if "/filter-" in identifier and identifier.endswith("-false-alarms"):
        return entry(identifier, 0.005, 1028)  # a filter that is off refuses nothing, clean or not
    if "/filter-" in identifier:
        return entry(identifier, 0.95 if on else 0.02, 1028)
    if "badnets" in identifier:
        shares = {"sevens-clean": 0.989, "sevens-triggered": 0.40 if on else 0.999, "backdoor": 0.998}
    elif identifier.startswith("check/"):
        shares = {"refused": 1.0 if on else 0.0, "accepted": 1.0}
    elif identifier.endswith("/backdoor"):
        shares = {"backdoor": 0.97 if "poisoned" in identifier else 0.003}
    else:
        shares = dict.fromkeys(("transferred", "fgsm", "pgd"), 0.95 if on and "defended" in identifier else 0.05)
    return entry(identifier, shares[identifier.rsplit("/", 1)[1]], 1028)


def ruled(row: Row) -> ThreatRule:
    assert row.rule
    return row.rule


@pytest.mark.parametrize("row", [row for row in THREATS if row.rule], ids=lambda row: row.id)
def test_switching_a_mitigation_off_turns_its_row(row: Row) -> None:
    def status(on: bool) -> ThreatStatus:
        (found,) = threat_rows([row], [value_for(name, on=on) for name in ruled(row).evidence], ())
        assert found.evidence == ruled(row).evidence
        return found.status

    demonstration = row.id == "report-2/T/poisoning-module"  # it mitigates nothing, so there is nothing to switch on
    assert (status(True), status(False)) == (INEFFECTIVE if demonstration else MITIGATED, INEFFECTIVE)


def finding(identifier: str, **evidence: Any) -> Finding:
    return Finding(id=identifier, severity=Severity.LOW, severity_rule="", message="", location="", evidence=evidence)


def test_findings_about_the_same_measurement_are_linked() -> None:
    measured = [value_for(name, on=False) for name in ruled(REPORT_1[0]).evidence]
    about, other = finding("SAI-EV-001", measurement="report-1/defended-p/pgd", n=3), finding("B101", line=7)
    rows = {row.id: row.findings for row in threat_rows(REPORT_1, measured, [about, other, about])}
    assert rows[REPORT_1[0].id] == ("SAI-EV-001",)
    assert rows["report-1/T/signing"] == ()


SCAN = MeasuredChoice(id="net/scan", model="net", metric="v", value="backdoored", allowed=("backdoored",), stage="s")


def test_evidence_of_a_measure_is_listed_and_decides_nothing() -> None:
    unruled = next(row for row in REPORT_1 if row.rule is None)
    given = {unruled.id: (entry("net/found", 0.99), SCAN), REPORT_1[0].id: (entry("net/found", 0.99),)}
    measured = [value_for(name, on=False) for name in ruled(REPORT_1[0]).evidence]
    rows = {row.id: row for row in threat_rows(REPORT_1, measured, [finding("X", m="net/scan")], given)}
    assert (rows[unruled.id].status, rows[unruled.id].evidence) == (NOT_TESTED, ("net/found", "net/scan"))
    assert rows[unruled.id].findings == ("X",)
    assert rows[REPORT_1[0].id].status is INEFFECTIVE
    assert rows[REPORT_1[0].id].evidence == (*ruled(REPORT_1[0]).evidence, "net/found")


def test_evidence_for_an_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no-such-row"):
        threat_rows(REPORT_1, (), (), {"no-such-row": (SCAN,)})
