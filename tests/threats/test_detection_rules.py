"""Rules over detectors: switching the detector off, or planting a false alarm, turns the status."""

from __future__ import annotations

import pytest

from secure_ai.core.results import Measurement, Rate, rate
from secure_ai.threats.model import ThreatStatus
from secure_ai.threats.rules_detection import finds_poison, scan_tells_apart


def measurement(identifier: str, value: Rate) -> tuple[str, Measurement]:
    return identifier, Measurement(id=identifier, model="m", metric="x", value=value, stage="", replay="")


@pytest.mark.parametrize(
    ("planted", "clean", "success", "status"),
    [
        (0, 30, 990, ThreatStatus.MITIGATED),
        (30, 30, 990, ThreatStatus.INEFFECTIVE),
        (0, 0, 990, ThreatStatus.INEFFECTIVE),
        (0, 30, 10, ThreatStatus.INCONCLUSIVE),
    ],
)
def test_a_scan_must_find_the_backdoor_and_spare_the_clean_network(
    planted: int, clean: int, success: int, status: ThreatStatus
) -> None:
    rule = scan_tells_apart("bad", "good")
    entries = dict(
        [
            measurement("bad/scan-false-alarms", rate(planted, 50)),
            measurement("good/scan-false-alarms", rate(clean, 50)),
            measurement("bad/backdoor", rate(success, 1000)),
        ]
    )
    assert rule.apply(entries).status is status
    assert rule.apply(dict(list(entries.items())[:2])).status is ThreatStatus.NOT_TESTED
    few = entries | dict([measurement("bad/scan-false-alarms", rate(0, 10))])
    assert rule.apply(few).status is ThreatStatus.INCONCLUSIVE


@pytest.mark.parametrize(
    ("found", "alarms", "status"),
    [
        (190, 10, ThreatStatus.MITIGATED),
        (190, 11, ThreatStatus.INEFFECTIVE),  # too many clean ones beside them
        (2, 10, ThreatStatus.INEFFECTIVE),
        (100, 10, ThreatStatus.INCONCLUSIVE),
        (100, 11, ThreatStatus.INEFFECTIVE),
    ],
)
def test_a_filter_must_find_most_of_the_poison_and_spare_the_clean(
    found: int, alarms: int, status: ThreatStatus
) -> None:
    entries = dict(
        [measurement("bad/filter-x", rate(found, 200)), measurement("bad/filter-x-false-alarms", rate(alarms, 1000))]
    )
    judged = finds_poison("bad/filter-x").apply(entries)
    assert (judged.status, judged.decided_by) == (status, tuple(entries.values()))
    alone = dict(list(entries.items())[:1])
    assert finds_poison("bad/filter-x").apply(alone).status is ThreatStatus.NOT_TESTED
