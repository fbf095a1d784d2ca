"""Before and after on the same images: exact McNemar, the paired interval, Holm over the rows of a card."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from secure_ai.core.statistics import holm, mcnemar_exact, paired_difference
from secure_ai.core.trust import Verdict

WORSE = [verdict.value for verdict in Verdict]
# card -> (measurement before, measurement after); each is a share of the same test images classified correctly
CARDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "report 1, version P": (
        ("report-1/baseline/clean", "report-1/defended-p/clean"),
        ("report-1/baseline/fgsm", "report-1/defended-p/fgsm"),
        ("report-1/baseline/pgd", "report-1/defended-p/pgd"),
        ("report-1/baseline/suite", "report-1/defended-p/suite"),
    ),
    "report 1, version L": (
        ("report-1/baseline/clean", "report-1/defended-l/clean"),
        ("report-1/baseline/fgsm", "report-1/defended-l/fgsm"),
        ("report-1/baseline/pgd", "report-1/defended-l/pgd"),
        ("report-1/baseline/suite", "report-1/defended-l/suite"),
    ),
    "report 1, poisoning": (
        ("report-1/baseline/clean", "report-1/poisoned/clean"),
        ("report-1/baseline/clean", "report-1/badnets/clean"),
    ),
    "report 2, adversarial training": (
        ("report-2/baseline/clean", "report-2/defended/clean"),
        ("report-2/baseline/fgsm", "report-2/defended/fgsm"),
        ("report-2/baseline/pgd", "report-2/defended/pgd"),
        ("report-2/baseline/suite", "report-2/defended/suite"),
    ),
    "report 2, poisoning": (("report-2/baseline/clean", "report-2/poisoned/clean"),),
}


def pack(right: np.ndarray) -> dict[str, Any]:
    """(N,) bool as JSON: `n` and the bits in base64."""
    bits = np.packbits(np.asarray(right, dtype=bool)).tobytes()
    return {"n": len(right), "bits": base64.b64encode(bits).decode("ascii")}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """What `pack` was given."""
    bits = np.frombuffer(base64.b64decode(packed["bits"], validate=True), dtype=np.uint8)
    return np.unpackbits(bits, count=packed["n"]).astype(bool)


def comparisons(outcomes: Mapping[str, Mapping[str, Any]], verdicts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The entry `comparisons` of report.json: every card's rows that this run measured.

    Args:
        outcomes: measurement id -> `pack` of who was right, over the run's test images in order.
        verdicts: measurement id -> its trust verdict; a difference deserves no more trust than the worse of its two.
    """
    found: list[dict[str, Any]] = []
    for card, pairs in CARDS.items():
        measured = [pair for pair in pairs if all(identifier in outcomes for identifier in pair)]
        rows = [
            _row(card, before, after, outcomes) | {"trust": _worse(verdicts[before], verdicts[after])}
            for before, after in measured
        ]
        adjusted = holm([row["p"] for row in rows])
        found += [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]
    return found


def _worse(first: str, second: str) -> str:
    return max(first, second, key=WORSE.index)


def _row(card: str, before: str, after: str, outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    first, second = unpack(outcomes[before]), unpack(outcomes[after])
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference, low, high = paired_difference(only_first, only_second, len(first))
    return {
        "card": card,
        "before": before,
        "after": after,
        "n": len(first),
        "only_before": only_first,
        "only_after": only_second,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "p": mcnemar_exact(only_first, only_second),
    }
