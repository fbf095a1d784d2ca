"""The page of attacks beside their peers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _package import mcnemar_exact
from _pages import Result, cell_text, source, table


def evasion(result: Result) -> list[str]:
    """Ours against the peers, row by row; a row that was not measured is absent."""
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    lines = [
        "# Attacks beside their peers",
        "",
        f"Same network, images, machine and threads; {peers}. In percent or percentage points.",
        "",
        "- *points*: ours minus the peer's robust accuracy. Above 0 the peer's attack is the stronger one.",
        "- *p*: exact McNemar test on the same images and attack seeds. With several seeds the pairs are not "
        "independent.",
        "- A ratio is the peer's seconds over ours: the median of interleaved pairs, each side at its best batch size.",
        "- Accuracies of suites are over all images. Those of single attacks are over the n images that the network "
        "classifies correctly. Fewer than 1,000 images are indicative.",
        "- *peer settings*: `documented` runs the peer as its documentation does; `ours` gives it our memory layout "
        "and "
        "frozen weights.",
        "- `natural` is report 1's network trained without attack, `pgd` the same on PGD examples (linf 0.3), "
        "`fgsm-rs` "
        "the recipe of 2001.03994. Each entry names its commit, and the digest of the weights where it was kept.",
        "",
        "Rows above 0.3 points were measured again on more pairs, rows below -0.3 mostly not, so what is left leans "
        "our "
        "way. [The notes](../../benchmarks/notes.md) tell every look, and what ran beside the timed rows.",
        "",
        *source(result),
    ]
    for row, (title, shown) in EVASION_TABLES.items():
        columns = (*shown, "threads", "commit", "network_digest")
        entries = result["rows"].get(row, [])
        if entries:
            cells = [[cell_text(entry.get(column)) for column in columns] for entry in entries]
            names = [column.replace("_", " ") for column in columns]
            lines += [
                f"## {title}",
                "",
                *_commands(row, entries),
                *table(names, cells),
                *(SUMMARIES[row](entries) if row in SUMMARIES else []),
            ]
    return lines


def _commands(row: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """By which commands the entries of a table were made."""
    known = sorted({entry["command"] for entry in entries if "command" in entry})
    older = sum("command" not in entry for entry in entries)
    told = [f"`{command}`" for command in known]
    if older:
        told.append(f"{older} by `scripts/bench evasion --rows {row}`, from before an entry kept its whole command")
    return [f"Entries made by: {'; '.join(told)}.", ""]


def _over_seeds(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean, spread and worst over a recipe's training seeds (attack seed 0), and over attack seeds of one network."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["attack_seed"] == 0:
            groups.setdefault((entry["network"].rpartition("-seed")[0], "training"), []).append(entry)
    for entry in entries:
        groups.setdefault((entry["network"], "attack"), []).append(entry)
    rows = []
    for (name, kind), found in groups.items():
        if len(found) == 1:
            continue
        sides = [[entry[key] for entry in found] for key in ("ours_accuracy", "peer_accuracy")]
        pairs = [sum(entry[key] for entry in found) for key in ("only_ours_breaks", "only_peer_breaks")]
        means = [round(statistics.fmean(side), 2) for side in sides]
        rows.append((name, f"{len(found)} {kind} seeds", means[0], round(statistics.stdev(sides[0]), 2), min(sides[0]),
                     means[1], min(sides[1]), *pairs, f"{mcnemar_exact(*pairs):.2g}"))  # fmt: skip
    names = ("what", "over", "ours mean", "standard deviation", "worst", "peer mean", "peer worst",
             "only ours breaks", "only peer breaks", "p")  # fmt: skip
    return table(names, rows)


def _over_pairs(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Medians over the pairs of a suite in the same settings."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        key = ("network", "suite", "peer_settings", "dtype", "commit")
        groups.setdefault(tuple(entry[field] for field in key), []).append(entry)
    rows = [
        (
            *key,
            len(found),
            *(round(statistics.median(entry[field] for entry in found), 2) for field in ("ratio", "cpu_ratio")),
            *(round(statistics.fmean(entry[f"{side}_accuracy"] for entry in found), 2) for side in ("ours", "peer")),
        )
        for key, found in groups.items()
    ]
    names = ("network", "suite", "peer settings", "dtype", "commit", "pairs", "median ratio", "median cpu ratio",
             "ours mean accuracy", "peer mean accuracy")  # fmt: skip
    return table(names, rows)


MOST_ABOVE = 0.3  # points that ours may be above a peer (issue: evasion you can trust)


def _over_networks(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each attack and peer over all networks, and which rows lie above what was asked for."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault((entry["attack"], entry["peer"]), []).append(entry)
    rows = []
    for (attack, peer), found in groups.items():
        pairs = sum(entry["n"] * entry["seeds"] for entry in found)
        ours, theirs = (sum(entry[f"only_{side}_breaks"] for entry in found) for side in ("ours", "peer"))
        points = round(100 * (theirs - ours) / pairs, 2)
        rows.append((attack, peer, len(found), pairs, points, ours, theirs, f"{mcnemar_exact(ours, theirs):.2g}"))
    names = ("attack", "peer", "networks", "pairs", "points", "only ours breaks", "only peer breaks", "p")
    above = [entry for entry in entries if entry["points"] > MOST_ABOVE]
    worse = [entry for entry in entries if entry["points"] > 0 and entry["p"] <= 0.05]
    lead = (
        f"Asked: never more than {MOST_ABOVE} points above, by a paired test. Of the {len(entries)} rows of this table "
        f"{len(above)} are above{_named(above)}; with p at most 0.05 ours is the worse in {len(worse)}, some by less"
        f"{_named(worse)} (see the notes). Rows of fewer than 1,000 images are indicative"
    )
    return [f"{lead}. Over the networks together:", "", *table(names, rows)]


def _named(entries: Sequence[Mapping[str, Any]]) -> str:
    texts = [f"{e['network']} {e['attack']} {e['peer']} {e['points']:+.2f}, p {e['p']:.2g}" for e in entries]
    return f" ({'; '.join(texts)})" if texts else ""


SUMMARIES: dict[str, Callable[[Sequence[Mapping[str, Any]]], list[str]]] = {
    "autoattack-seeds": _over_seeds,
    "autoattack-speed": _over_pairs,
    "quality": _over_networks,
}


PAIRED = ("n", "ours_accuracy", "peer_accuracy", "points", "only_ours_breaks", "only_peer_breaks", "p")
TIMES = ("ours_seconds", "peer_seconds")
SPEED = ("network", "peer", "peer_settings", "dtype", "n", "batches", "images_a_second", "ratio", "cpu_ratio", "pairs",
         "machine")  # fmt: skip
EVASION_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "quality": ("The same attack, the same settings",
                ("network", "budget", "attack", "peer", "seeds", *PAIRED, "peer_forward_a_sample")),
    "autoattack-seeds": ("AutoAttack by training and attack seed", ("network", "attack_seed", *PAIRED, *TIMES)),
    "autoattack-norms": ("The suites in other norms, and `plus`, against the reference",
                         ("network", "suite", "budget", *PAIRED, *TIMES)),
    "autoattack-weak": ("AutoAttack where little is robust",
                        ("network", "attack_seed", *PAIRED, *TIMES)),
    "autoattack-speed": ("AutoAttack and `fast` against the reference",
                         ("network", "suite", "peer_settings", "dtype", "pair", *PAIRED, *TIMES, "ratio", "cpu_ratio")),
    "pgd-speed": ("PGD-40", SPEED),
    "fgsm-speed": ("FGSM, end to end", SPEED),
    "fast-seeds": ("The suite `fast` by training and attack seed",
                   ("network", "attack_seed", "n", "accuracy", "interval")),
    "memory": ("Peak memory of a process", ("network", "attack", "side", "n", "peak_mib", "peaks_mib")),
    "protocol": ("Passes of a never-broken sample, forward/backward",
                 ("suite", "budget", "attack", "ours", "declared", "peer")),
    "profile": ("A step of PGD beside a bare forward and backward pass",
                ("network", "dtype", "n", "step_ms", "bare_ms", "overhead")),
}  # fmt: skip
