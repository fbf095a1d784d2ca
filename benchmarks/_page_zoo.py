"""The page of the trust verdict's self-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from _pages import Result, source, table


def zoo(result: Result) -> list[str]:
    """What the trust verdict said of planted broken defences and of honest networks."""
    name = str(result["command"]).partition("--set ")[2][:1]
    planted = [row for row in result["rows"] if row["kind"] != "honest"]
    honest = [row for row in result["rows"] if row["kind"] == "honest"]
    flagged, spared = (sum(row["ok"] for row in rows) for rows in (planted, honest))
    reliable = sum(row["verdict"] == "reliable" for row in honest)
    noted = sum(row["verdict"] != "reliable" for row in planted)
    chosen = "Thresholds were chosen on this set" if name == "A" else "Run once, with the thresholds of zoo A"
    fine = (
        f"{spared} of {len(honest)} honest networks failed no check but the sample's size (a claim needs 1,000)"
        if name == "A" or result["rows"][0].get("n", 1_000) < 1_000
        else f"{reliable} of {len(honest)} honest networks were called `reliable`"
    )
    missing = result.get("not_run", [])
    left = [f"Without a row, {len(missing)} of the set: {', '.join(missing)}.", ""] if missing else []
    return [
        f"## Zoo {name}",
        "",
        f"{flagged} of {len(planted)} broken defences were flagged by a check that is meant for them; {noted} were not "
        f"called `reliable`. {fine}. {chosen}. {_inflated(planted)} of the {len(planted)} defences show over 1 point "
        f"more "
        f"than the adaptive attack leaves. Attack list: `{result['suite']}`; data: {result['data']}.",
        "",
        *left,
        *source(result),
        *table(
            ("broken defence", "budget", "clean", "robust as shown", "adaptive", "verdict", "failed checks"),
            [
                (
                    row["model"].split("@")[0],
                    _budget(row),
                    *map(_rate, _rates(row)),
                    row["verdict"],
                    ", ".join(row["failed"]),
                )
                for row in planted
            ],
        ),
        *table(
            ("honest network", "budget", "clean", "robust", "verdict", "failed checks"),
            [
                (
                    row["model"].split("@")[0],
                    _budget(row),
                    *map(_rate, _rates(row)),
                    row["verdict"],
                    ", ".join(row["failed"]),
                )
                for row in honest
            ],
        ),
    ]


def _budget(row: Mapping[str, Any]) -> str:
    return f"{row.get('norm', 'linf')} {row['eps']}"


def _inflated(planted: Sequence[Mapping[str, Any]]) -> int:
    """How many rows show a robust accuracy more than a point above the adaptive one's."""
    shares = [[rate["value"] for rate in _rates(row)] for row in planted]
    return sum(shown - adaptive > 0.01 for _, shown, adaptive in shares)


def _rates(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row[key] for key in row if key.endswith("_accuracy")]


def _rate(rate: Mapping[str, Any]) -> str:
    value, low, high = (round(100 * rate[key], 1) for key in ("value", "ci_low", "ci_high"))
    return f"{value} ({low} to {high})"
