"""The section on backdoors of docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from _package import rate
from _pages import Result, source, table

Row = Mapping[str, Any]
Lines = list[str]
RULES = ("backdoored", "suspicious or backdoored", "Neural Cleanse's published rule", "MM-BD's published rule")


def backdoors(result: Result) -> Lines:
    """False alarms and detection by kind, filters, guards, removal."""
    lines = ["# Backdoors: scan, filters, removal", "", *source(result), f"{result['protocol']}.", ""]
    lines += ["Alarms by rule; on clean networks every one is false, on the others the more the better.", ""]
    lines += table(("networks", *RULES), [*_alarm_rows(result["summary"], result["rows"])])
    lines += _pair_scores(result["pair_scores"])
    lines += _planted(result["rows"])
    lines += ["Of the networks found (suspicious or backdoored), the scan names the right target class:", ""]
    found = [(kind, f"{one[0]} of {one[1]}") for kind, own in result["summary"].items()
             if (one := own.get("right label among those found"))]  # fmt: skip
    lines += table(("kind", "right class"), found)
    lines += _guards(result)
    lines += _filters(result["filters"]) + _art(result.get("art", []))
    lines += _removal(result["removal"])
    return lines


def scanned_files(result: Result) -> Lines:
    """Networks of a run of the recipe `standard`, scanned against the committed control networks."""
    rows = []
    for name, one in result["networks"].items():
        scan = one["scan"]
        trigger = text(scan["trigger"]["success"]) if scan["trigger"] else "-"
        suspected = "-" if scan["verdict"] == "not_detected" else scan["suspected_label"]
        alike = scan["false_alarm_rate"]
        extreme = f"{alike['successes']} of {alike['n']}"
        rows.append((name, scan["verdict"], extreme, suspected, trigger, one["neural_cleanse_index"], one["mm_bd_p"]))
    intro = (
        "Networks that a run of the recipe `standard` left, scanned with training images; what was planted in them "
        "and how well it works: [reproduction](reproduction.md). `badnets_cnn` has a backdoor that works, "
        "`poisoned_cnn` a planted one that does not, the others none: an alarm there is false. Report 2's networks "
        "were trained on these images. *As extreme*: clean control networks. *Trigger*: the reconstructed one's "
        "success on held-out images of other classes, which is no sign by itself. Published rules: an index above "
        "2, a p below 0.05."
    )  # fmt: skip
    columns = ("network", "verdict", "as extreme", "class", "trigger", "Neural Cleanse's index", "MM-BD's p")
    return ["# The scan of report 1's networks", "", *source(result), intro, "", *table(columns, rows)]


def _alarm_rows(summary: Mapping[str, Any], rows: Sequence[Row]) -> Iterable[tuple[str, ...]]:
    for kind, own in summary.items():
        for group in ("all", "working"):
            if group in own:
                name = {"all": kind, "working": f"{kind}, planted success >= 95 %"}[group]
                yield (name, *(text(own[group][rule]) for rule in RULES))
        if kind == "clean":
            for recipe in dict.fromkeys(row["recipe"] for row in rows if row["kind"] == "clean"):
                part = [row for row in rows if row["kind"] == "clean" and row["recipe"] == recipe]
                yield (f"clean, {recipe}", *(text(share(part, test).as_json()) for test in _tests()))


def _pair_scores(looks: Mapping[str, Mapping[str, Any]]) -> Lines:
    """What it changes that scores of pairs are without class effects."""
    intro = (
        "A first look was at other networks (seeds from 1000; clean-label as faint waves, which nothing learned). "
        "Pairs were compared with the same pair of clean networks as they are, and every source-specific backdoor was "
        "missed. Since then how hard each source and each target is for a network is taken out before: chosen on clean "
        "control networks and on 14 networks of other seeds. Both ways on the same measured values, p <= 0.05:"
    )
    ways = ("as they are", "without class effects")
    columns = ("networks", *(f"{look}: {way}" for look in looks for way in ways))
    kinds = dict.fromkeys(kind for look in looks.values() for kind in look)
    rows = [
        (
            kind,
            *(
                f"{found[kind][way]['successes']} of {found[kind][way]['n']}"
                for found in looks.values()
                for way in ways
            ),
        )
        for kind in kinds
    ]
    return [intro, "", *table(columns, rows)]


def _planted(rows: Sequence[Row]) -> Lines:
    """How well what was planted works: there is nothing to find where it does not."""
    told = []
    for kind in dict.fromkeys(row["kind"] for row in rows if row["planted_success"]):
        own = [row["planted_success"]["value"] for row in rows if row["kind"] == kind]
        told.append((kind, ", ".join(f"{100 * value:.1f}" for value in own)))
    intro = "What was planted works on so many of the held-out images, in percent, network by network (95: it works):"
    return [intro, "", *table(("kind", "planted success"), told)]


def _tests() -> tuple[Callable[[Row], bool], ...]:
    return (
        lambda row: row["scan"]["verdict"] == "backdoored",
        lambda row: row["scan"]["verdict"] in ("backdoored", "suspicious"),
        lambda row: row["neural_cleanse_index"] > 2,
        lambda row: row["mm_bd_p"] < 0.05,
    )


def share(rows: Sequence[Row], test: Callable[[Row], bool]) -> Any:
    """The rate of rows that pass."""
    return rate(sum(map(test, rows)), len(rows))


def text(one: Mapping[str, Any] | None) -> str:
    """A rate as `12 of 20: 60.0 % [38.7, 78.1]`."""
    if one is None or one["value"] is None:
        return "-"
    low, high = 100 * one["ci_low"], 100 * one["ci_high"]
    return f"{one['successes']} of {one['n']}: {100 * one['value']:.1f} % [{low:.1f}, {high:.1f}]"


def _pooled(entries: Sequence[Mapping[str, Any]]) -> str:
    """All inputs together, and the least and the most of one network or set where there are several."""
    hits, n = sum(one["successes"] for one in entries), sum(one["n"] for one in entries)
    each = [100 * one["value"] for one in entries if one["n"]]
    spread = f" ({min(each):.1f} to {max(each):.1f})" if len(each) > 1 else ""
    return f"{100 * hits / n:.1f} %{spread}" if n else "-"


def _interval(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:.1f} % [{100 * found['ci_low']:.1f}, {100 * found['ci_high']:.1f}]"


def _guards(result: Mapping[str, Any]) -> Lines:
    intro = (
        "Guards, threshold at 1 % of clean inputs: of all inputs (the least and the most of one network). STRIP on "
        "the networks of the first table; with one half-weight overlay, as it was at first, it had refused 42.1 % "
        "of blends and 43.4 % of patches of others. The expert on the networks that were repaired, on those with "
        "numbers from 1000 with a plain quantile as its threshold; today it is conformal, as STRIP's is:"
    )
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in result["rows"] if row["strip"]):
        strip = [row["strip"] for row in result["rows"] if row["kind"] == kind]
        expert = [row["expert"] for row in result["removal"] if row["kind"] == kind and row.get("expert")]
        cells = [
            _pooled([one[which] for one in group]) for group in (strip, expert) for which in ("triggered", "clean")
        ]
        rows.append((kind, len(strip), *cells[:2], len(expert), *cells[2:]))
    columns = ("kind", "networks", "STRIP refuses of triggered", "of clean", "networks", "expert refuses of triggered",
               "of clean")  # fmt: skip
    return [intro, "", *table(columns, rows)]


def _filters(entries: Sequence[Mapping[str, Any]]) -> Lines:
    if not entries:
        return ["Data filters: not measured.", ""]
    names = list(entries[0]["filters"])
    rows = []
    for kind, dose in dict.fromkeys((one["kind"], one["dose"]) for one in entries):
        own = [one["filters"] for one in entries if (one["kind"], one["dose"]) == (kind, dose)]
        cells = [_above_limit([one[name] for one in own]) for name in names]
        rows.append((kind, f"{100 * dose:g} %", len(own), *cells))
    intro = (
        "Data filters on 24,000 images: poisoned images found / clean ones taken for poisoned (least to most). "
        "`trusted-loss` and `pixel-support` have 2,000 trusted images and a limit from those. The others have none: "
        "their limit is one that at most 1 % of the clean images exceed, which no user knows. "
        "`activation-clustering` gives the smaller cluster of a class one score. *No such limit*: the highest score is "
        "that of more than 1 % of the clean images, so that any limit is exceeded by no image or by too many. Sets of "
        "the four main kinds are of the first look (seeds from 1000), the others of seed 2000."
    )
    return [intro, "", *table(("kind", "dose", "sets", *names), rows)]


def _above_limit(entries: Sequence[Mapping[str, Any]]) -> str:
    """Poisoned and clean images above a filter's limit; no rate where no image of any set is above it."""
    found, alarms = ([one[what] for one in entries] for what in ("found", "false_alarms"))
    if not any(one["successes"] for one in (*found, *alarms)):
        return "no such limit"
    return f"{_pooled(found)} / {_pooled(alarms)}"


def _art(entries: Sequence[Mapping[str, Any]]) -> Lines:
    if not entries:
        return ["ART's defences of training data: not measured.", ""]
    names = list(entries[0]["filters"])
    rows = [
        (one["id"], f"{100 * one['dose']:g} %", *(
            " / ".join(_interval(one["filters"][name][what]) for what in ("found", "false_alarms"))
            for name in names
        ))
        for one in entries
    ]  # fmt: skip
    intro = (
        "ART 1.20's defences on such sets, one a kind, as it decides itself: poisoned images found / clean ones taken "
        "for poisoned. Its clustering refuses a cluster of every class. Its spectral signatures refuse 1.5 times the "
        "fraction that they are told of every class: the true one of the whole set, so that most poison must pass, or "
        "(class) of the poisoned class. All see the penultimate layer."
    )
    return [intro, "", *table(("set", "dose", *names), rows)]


def _removal(entries: Sequence[Mapping[str, Any]]) -> Lines:
    if not entries:
        return ["Removal: not measured.", ""]
    rows = []
    for one in entries:
        planted, chosen = one["planted_trigger_success"], one["chosen"]
        before, after = (one[when]["clean_accuracy"]["value"] for when in ("before", "after"))
        learned = [one[when]["success_after_relearning"]["value"] for when in ("before", "after")]
        rows.append(
            (one["id"], chosen, f"{100 * before:.2f} -> {100 * after:.2f}",
             " / ".join(f"{name} {100 * value['value']:.1f}" for name, value in planted.items()),
             max((f"{100 * value['value']:.1f}" for value in one["on_clean_networks"].values()), key=float),
             f"{100 * learned[0]:.0f} -> {100 * learned[1]:.0f}",
             ", ".join(f"{100 * value['value']:.0f}" for value in one["relearned_by_clean_networks"].values()))
        )  # fmt: skip
    intro = (
        "Removal with at most 3,000 images, in percent. Networks with numbers from 1000 are of the first look, "
        "their second scans by the scores of then; of those it is a second try: the first, before unlearning went "
        "in rounds, had left 39 % of patch-1000's success. The planted trigger's success was measured afterwards, "
        "for every remover; on clean networks: its most on those that were kept. Learned again: success of the "
        "reconstructed trigger after five epochs on 50 triggered images, by this network, and the same trigger by "
        "clean networks."
    )
    columns = ("network", "chosen", "clean accuracy", "planted trigger's success", "on clean networks", "learned again",
               "by clean ones")  # fmt: skip
    return [intro, "", *table(columns, rows)]
