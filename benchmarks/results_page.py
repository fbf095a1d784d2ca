"""Writes docs/results.md and docs/results/ from the result files, so that no figure on them is typed by hand.

scripts/bench results_page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from _backdoor_page import backdoors, scanned_files
from _headline import COLUMNS, headline, missed
from _page_attacks import evasion
from _page_defences import card, defences, frontier
from _page_report import main_job, measurements, must_reach, reproduction, tolerances
from _page_speed import pipeline
from _page_zoo import zoo
from _pages import Result, table
from _record import RESULTS, ROOT

DOCS = ROOT / "docs"
GENERATED = "This page is written by `scripts/bench results_page`; do not edit it."
Section = Callable[[Result], list[str]]
PAGES: dict[str, tuple[str, Section, str]] = {
    "reproduction": ("reproduction", reproduction, "every figure of the two published reports: published, ours, why"),
    "measurements": ("reproduction", measurements, "every rate of that run with n, interval and verdict"),
    "tolerances": ("pipeline", tolerances, "how far two runs of report 1's protocol differ, by seed and by stack"),
    "bounds": ("must_reach", must_reach, "figures over three training seeds beside bounds that were set before"),
    "attacks": ("evasion", evasion, "attacks beside Foolbox, Torchattacks, ART and AutoAttack: strength, time, memory"),
    "defences": ("defences", defences, "what each defence keeps under attack, and what was asked for"),
    "speed": ("pipeline", pipeline, "report 1's whole protocol beside TensorFlow with ART and PyTorch with Foolbox"),
    "time": ("main_job", main_job, "seconds and memory of the tool's own runs beside their bounds"),
    "backdoors": (
        "backdoors",
        backdoors,
        "false alarms and detection by kind of trigger; filters, guards, removal",
    ),
    "backdoors-reports": ("backdoors_reports", scanned_files, "the model scan of report 1's three networks"),
}
"""Page -> results file, what writes it, what it shows."""
PICTURES: dict[str, tuple[str, Callable[[Result], bytes]]] = {"images/defences.png": ("defences", frontier)}
"""Picture beneath docs/ -> results file, what draws it."""
ZOO = "self-test of the trust verdict on planted broken defences and on honest networks"
ZOO_LEAD = [
    "# Self-test of the trust verdict",
    "",
    GENERATED,
    "",
    "Each zoo holds networks with planted broken defences, which the verdict must flag by the check made for them, and "
    "honest networks, which no check ought to flag. *Robust as shown*: under the attack list. *Adaptive*: under an "
    "attack made for the defence: gradients passed straight through a rounding, averaged over noise, logits scaled "
    "back, "
    "both ways of a router at once; for a network that one-step training overfitted, more of the same. A network's "
    "name: "
    "architecture, training and its eps, epochs x images, seed. In percent, with 95 % intervals. What changed between "
    "the zoos is in [the notes](../../benchmarks/notes.md).",
    "",
]


def load() -> dict[str, Result]:
    """Every results file by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def shown(results: Mapping[str, Result]) -> dict[str, tuple[str, Section, str]]:
    """The pages whose results are there."""
    return {name: row for name, row in PAGES.items() if row[0] in results}


def first_page(results: Mapping[str, Result]) -> list[str]:
    """docs/results.md."""
    links = [f"- [{name}](results/{name}.md): {about}" for name, (_, _, about) in shown(results).items()]
    return [
        "# Results",
        "",
        "What was measured, beside what was published or the best peer, and the command that measures it again. "
        + GENERATED,
        "",
        *table(COLUMNS, headline(results)),
        "Every figure is of the commit and machine that its page names; today's code may differ. Fewer than 1,000 "
        "images, "
        "or fewer than 5 pairs, are indicative. An interval covers these images and these networks: small networks, "
        "MNIST.",
        "",
        "## Asked for and missed",
        "",
        *(f"- {line}" for line in missed(results)),
        "",
        "## Tables",
        "",
        *links,
        f"- [trust](results/trust.md): {ZOO}",
        "",
        "## How to read them",
        "",
        "- Bounds and targets were written down before the measurement. What missed them stays in the table.",
        "- An entry that was measured again stays in its results file under `replaced`; "
        "[the notes](../benchmarks/notes.md) tell what single runs showed.",
        "- Peers run as their documentation says, and a second time with our memory layout where that makes them "
        "faster.",
        "- Attack quality is compared image by image, with the exact McNemar test. Rows in which ours looked weaker "
        "were "
        "measured again more often than the others, so what is left leans our way.",
        "- The verdicts `reliable`, `doubtful` and `broken` are explained in [trust.md](trust.md).",
    ]


def pages() -> dict[str, str]:
    """Every generated page by its path beneath docs/."""
    results = load()
    made = {"results.md": first_page(results)}
    for name, (file, section, _) in shown(results).items():
        title, *rest = section(results[file])
        made[f"results/{name}.md"] = [title, "", GENERATED, *rest]
    if "defence_card" in results:
        made["results/defences.md"] += card(results["defence_card"])
    zoos = [line for name, result in results.items() if name.startswith("zoo_") for line in zoo(result)]
    made["results/trust.md"] = [*ZOO_LEAD, *zoos]
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def main() -> None:
    """Write them."""
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote docs/{name}")
    results = load()
    for name, (file, draw) in PICTURES.items():
        (DOCS / name).write_bytes(draw(results[file]))
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
