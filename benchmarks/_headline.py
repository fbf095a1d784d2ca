"""The ten rows that docs/results.md leads with, and what was asked for and missed: all from results files."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from _pages import Result

Entry = Mapping[str, Any]
Row = tuple[str, str, str, str, str, str]
COLUMNS = ("what", "ours", "published, or best peer", "ratio or difference", "n", "command")
WEAKER_P = 0.05


def headline(results: Mapping[str, Result]) -> list[Row]:
    """The rows, in order of what a reader should know first."""
    evasion, pipeline = results["evasion"], results["pipeline"]
    latest = max((name for name in results if name.startswith("zoo_")), default="")
    return [
        _claim(results["reproduction"], "table-6/defended-fgsm-accuracy", "Report 1's defended network, under attack"),
        _claim(results["reproduction"], "table-5/trigger", "Report 1's backdoor, on other digits"),
        _zoo(latest, results[latest]),
        _strength(evasion),
        _suite(evasion, "autoattack", "documented", "AutoAttack"),
        _suite(evasion, "autoattack", "ours", "AutoAttack, the peer given our memory layout"),
        _suite(evasion, "fast", "documented", "Suite `fast` beside AutoAttack"),
        _pgd(evasion),
        _memory(evasion),
        _whole(pipeline),
    ]


def _claim(result: Result, figure: str, what: str) -> Row:
    (row,) = (entry for entry in result["reproduction"] if entry["figure"] == figure and entry["report"] == "report-1")
    ours, said = row["correct"], row["published"]
    points = 100 * (ours["value"] - said["value"])
    interval = f"[{100 * ours['ci_low']:.2f}, {100 * ours['ci_high']:.2f}]"
    return (what, f"{ours['value_text']} {interval}", f"published: {said['value_text']}", f"{points:+.1f} points",
            f"{ours['n']:,}", f"`{result['command']}`")  # fmt: skip


def _zoo(name: str, result: Result) -> Row:
    planted = [row for row in result["rows"] if row["kind"] != "honest"]
    honest = [row for row in result["rows"] if row["kind"] == "honest"]
    caught = sum(row["verdict"] != "reliable" for row in planted)
    spared = sum(row["verdict"] == "reliable" for row in honest)
    return (
        f"Trust verdict, zoo {name[-1].upper()}: broken defences not called `reliable`; honest networks called it",
        f"{caught} of {len(planted)}; {spared} of {len(honest)}", "no peer gives a verdict", "-",
        f"{planted[0]['n']:,} images a network", f"`{result['command']}`",
    )  # fmt: skip


def _strength(result: Result) -> Row:
    rows = result["rows"]["quality"]
    sure = [row for row in rows if row["p"] <= WEAKER_P]
    weaker, stronger = (sum(sign * row["points"] > 0 for row in sure) for sign in (1, -1))
    return (
        f"Strength of single attacks: {len(rows)} paired rows, p at most {WEAKER_P}", f"stronger in {stronger}",
        f"stronger in {weaker}", f"{len(rows) - len(sure)} undecided",
        f"{min(row['n'] for row in rows):,} to {max(row['n'] for row in rows):,}",
        "`scripts/bench evasion --rows quality`",
    )  # fmt: skip


def _suite(result: Result, suite: str, settings: str, what: str) -> Row:
    """The pairs of the newest commit in the file."""
    rows = [row for row in result["rows"]["autoattack-speed"]
            if (row["suite"], row["peer_settings"], row["network"]) == (suite, settings, "pgd-seed0")]  # fmt: skip
    rows = [row for row in rows if row["commit"] == rows[-1]["commit"]]
    ours, theirs = (statistics.fmean(row[f"{side}_accuracy"] for row in rows) for side in ("ours", "peer"))
    seconds = [statistics.median(row[f"{side}_seconds"] for row in rows) for side in ("ours", "peer")]
    ratio = statistics.median(row["ratio"] for row in rows)
    pairs = f"{len(rows)} pair{'s' if len(rows) > 1 else ''}"
    return (f"{what}, linf 0.3", f"{seconds[0]:.0f} s, {ours:.2f} % left", f"{seconds[1]:.0f} s, {theirs:.2f} % left",
            f"{ratio:.2f} times as fast, {ours - theirs:+.2f} points", f"{rows[0]['n']:,} images, {pairs}",
            f"`{rows[-1]['command']}`")  # fmt: skip


def _pgd(result: Result) -> Row:
    rows = [row for row in result["rows"]["pgd-speed"]
            if (row["dtype"], row["peer_settings"], row["threads"]) == ("torch.float32", "documented", 1)]  # fmt: skip
    best = min(rows, key=lambda row: row["ratio"])
    mine, theirs = best["images_a_second"]
    return ("PGD-40, float32, one thread", f"{mine:.0f} images/s", f"{best['peer']}: {theirs:.0f} images/s",
            f"{best['ratio']:.2f} times as fast", f"{best['n']:,} images, {best['pairs']} pairs",
            "`scripts/bench evasion --rows pgd-speed`")  # fmt: skip


def _memory(result: Result) -> Row:
    rows = [row for row in result["rows"]["memory"] if row["attack"] == "autoattack"]
    (mine,) = (row for row in rows if row["side"] == "ours")
    best = min((row for row in rows if row["side"] != "ours"), key=lambda row: row["peak_mib"])
    return ("Peak memory of AutoAttack", f"{mine['peak_mib']:.0f} MiB", f"{best['side']}: {best['peak_mib']:.0f} MiB",
            f"{mine['peak_mib'] / best['peak_mib']:.2f} times as much", f"{mine['n']:,} images, 3 processes",
            f"`{mine['command']}`")  # fmt: skip


def _whole(result: Result) -> Row:
    rows = [row for row in result["rows"]["ratios"] if (row["version"], row["side"]) == ("L", "ours-auto")]
    best = min(rows, key=lambda row: row["ratio"])
    theirs = f"{best['peer']}: {best['peer_seconds']:.0f} s"
    return ("Report 1's whole protocol", f"{best['ours_seconds']:.0f} s", theirs, f"{best['ratio']:.2f} times as fast",
            f"{best['pairs']} pairs", f"`{result['command']}`")  # fmt: skip


def missed(results: Mapping[str, Result]) -> list[str]:
    """Every bound and target that was set before and not reached."""
    found = [
        f"{row['figure']}: {row['mean']:.2f}, asked {row['bound']}"
        for row in results["must_reach"]["rows"]
        if row["mean"] is not None and not row["mean_reached"]
    ]
    found += [
        f"`{row['what']}`: {row['seconds']} s, asked at most {row['bound_seconds']} s"
        for row in results["main_job"]["rows"]
        if row["seconds"] > row["bound_seconds"]
    ]
    found += [
        f"report 1's protocol, version {row['version']}, {row['side']} beside {row['peer']}: {row['ratio']:.2f} times "
        f"as "
        f"fast, asked {row['target']}"
        for row in results["pipeline"]["rows"]["ratios"]
        if not row["reached"]
    ]
    return [*found, *_zoos(results)]


def _zoos(results: Mapping[str, Result]) -> Sequence[str]:
    found = []
    for name, result in results.items():
        planted = [row for row in result["rows"] if row["kind"] != "honest"] if name.startswith("zoo_") else []
        seen = sum(row["ok"] for row in planted)
        if seen < len(planted):
            told = f"{seen} of {len(planted)} broken defences flagged by a check meant for them, asked all"
            found.append(f"zoo {name[-1].upper()}: {told}")
    return found
