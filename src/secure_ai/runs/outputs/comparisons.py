"""Before and after on the same images: exact McNemar, the paired interval, Holm over the rows of a card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from secure_ai.core.comparisons import Comparison
from secure_ai.core.result import PerSample
from secure_ai.core.results import Measurement
from secure_ai.core.statistics import holm, mcnemar_exact, paired_difference
from secure_ai.core.trust import Verdict
from secure_ai.runs.engine.measure import Network
from secure_ai.runs.stages.entries import unpacked

CONDITIONS = ("clean", "fgsm", "pgd", "suite")  # measured alike on a network and on its twin
VERDICTS = list(Verdict)


def comparisons(
    networks: Mapping[str, Network], measurements: Sequence[Measurement], per_sample: Iterable[PerSample]
) -> tuple[Comparison, ...]:
    """Every network against its twin, condition by condition: both on the same images, within the same norm and eps."""
    entries, correct = {entry.id: entry for entry in measurements}, {entry.id: entry for entry in per_sample}
    found: list[Comparison] = []
    for card in dict.fromkeys(network.card for network in networks.values() if network.card):
        pairs = [
            (f"{network.against}/{condition}", f"{network.id}/{condition}")
            for network in networks.values()
            if network.card == card
            for condition in CONDITIONS
        ]
        measured = [pair for pair in pairs if correct.keys() >= set(pair) and entries.keys() >= set(pair)]
        alike = [(first, second) for first, second in measured if _budget(entries[first]) == _budget(entries[second])]
        found += _card(card, alike, entries, correct)
    return tuple(found)


def _budget(entry: Measurement) -> tuple[str, float] | None:
    return (entry.budget.norm, entry.budget.eps) if entry.budget else None


def _card(
    card: str,
    pairs: Sequence[tuple[str, str]],
    entries: Mapping[str, Measurement],
    correct: Mapping[str, PerSample],
) -> list[Comparison]:
    counts = []
    for before, after in pairs:
        first, second = unpacked(correct[before]), unpacked(correct[after])
        counts.append((len(first), int((first & ~second).sum()), int((second & ~first).sum())))
    p_values = [mcnemar_exact(only_first, only_second) for _, only_first, only_second in counts]
    rows = zip(pairs, counts, p_values, holm(p_values), strict=True)
    return [
        _row(card, pair, count, p, p_holm, _worse(entries[pair[0]], entries[pair[1]]))
        for pair, count, p, p_holm in rows
    ]


def _row(
    card: str, pair: tuple[str, str], count: tuple[int, int, int], p: float, p_holm: float, trust: Verdict
) -> Comparison:
    n, only_before, only_after = count
    difference, low, high = paired_difference(only_before, only_after, n)
    return Comparison(
        card=card, before=pair[0], after=pair[1], n=n, only_before=only_before, only_after=only_after,
        difference=difference, ci_low=low, ci_high=high, p=p, p_holm=p_holm, trust=trust,
    )  # fmt: skip


def _worse(first: Measurement, second: Measurement) -> Verdict:
    """A difference deserves no more trust than the worse of its two."""
    verdicts = [entry.trust.verdict for entry in (first, second) if entry.trust is not None]
    return max(verdicts, key=VERDICTS.index, default=Verdict.DOUBTFUL)
