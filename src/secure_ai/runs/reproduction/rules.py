"""Rules over measurements that decide whether a published figure holds, and say why in one sentence.

No rule knows the figure it judges: fed with swapped measurements it says the opposite. Each takes the published row and
the flat mapping of values (`values.VALUE_KEYS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secure_ai.core.trust import MIN_N_FOR_A_CLAIM
from secure_ai.report.render.text import plural, seconds_text
from secure_ai.runs.reproduction.judge import (
    Judgement,
    Published,
    Rule,
    Status,
    Tolerance,
    absent,
    brief,
    missing,
    value_text,
    within,
)
from secure_ai.runs.reproduction.values import Reading, reading, readings

SHORTEST_SECONDS = 1e-9
EXACT = Tolerance(0.0, 1.0, "the number is exact")


def judge_figure(row: Published, same: Reading, correct: Reading) -> Judgement:
    """Holds if `same`, by the report's protocol, agrees within the tolerance and `correct` does not contradict it."""
    tolerance = row.tolerance or EXACT
    if row.value is None:
        return missing()
    published, ours = value_text(row.value, row.unit), brief(same, row.unit)
    if not within(row.value, same, tolerance):
        reason = (
            f"Not reproduced: the same protocol gives {ours} here, and {published} lies outside its interval even "
            f"widened by {tolerance}, the fixed tolerance."
        )
        return Judgement(Status.NOT_SUPPORTED, reason, same, correct)
    if not within(row.value, correct, tolerance):
        reason = (
            f"The same protocol gives {ours}, but measured correctly it is {brief(correct, row.unit)}, "
            f"too far from {published}."
        )
        return Judgement(Status.WRONG, reason, same, correct)
    reason = (
        f"Reproduced: ours is {ours}, and {published} lies within its interval widened by {tolerance}, the fixed "
        "tolerance."
    )
    return Judgement(Status.SUPPORTED, reason, same, correct)


def measured(row: Published, values: Mapping[str, Any]) -> Judgement:
    """`judge_figure` on the values that the row names; the report's protocol is the correct one where it names one."""
    same = reading(values, row.same)
    correct = reading(values, row.correct) if row.correct else same
    if same is None or correct is None:
        return missing(*absent(values, *filter(None, (row.same, row.correct))))
    return judge_figure(row, same, correct)


def per_image_time(network: str, divided_by: int) -> Rule:
    """The rule for a time per image: it must be divided by the number of images that were timed.

    Args:
        network: prefix of the ids.
        divided_by: the number that the report divides by, where `NETWORK/inference/divisor` is not given.
    """

    def rule(row: Published, values: Mapping[str, Any]) -> Judgement:
        names = [f"{network}/inference/{part}" for part in ("seconds", "images")]
        found = readings(values, names)
        if found is None or row.value is None or found[1].value < 1:
            return missing(*(absent(values, *names) or names))
        seconds, images = (item.value for item in found)
        given = reading(values, f"{network}/inference/divisor")
        divisor = given.value if given and given.value >= 1 else divided_by
        same, correct = seconds / divisor, seconds / images
        ours = (Reading(names[0], same, same, same), Reading(names[0], correct, correct, correct))
        if images != divisor:
            reason = (
                f"The time of {images:,.0f} images was divided by {divisor:,.0f}: published "
                f"as {seconds_text(row.value)}, it is {seconds_text(row.value * divisor / images)} on the same machine."
            )
            return Judgement(Status.WRONG, reason, *ours)
        reason = (
            f"A time of the authors' machine, rightly divided by the {plural(int(images), 'image')} that it timed; "
            f"this machine takes {seconds_text(correct)}."
        )
        return Judgement(Status.NOT_COMPARABLE, reason, *ours)

    return rule


def machine_time(row: Published, values: Mapping[str, Any]) -> Judgement:
    """A duration depends on the machine: shown beside ours, never judged."""
    ours = reading(values, row.same)
    if ours is None or row.value is None or ours.value < SHORTEST_SECONDS:
        return missing(row.same)
    ratio = row.value / ours.value
    reason = f"A time of the authors' machine; this one takes {seconds_text(ours.value)} ({ratio:.2g} times as fast)."
    return Judgement(Status.NOT_COMPARABLE, reason, ours, ours)


def first_images_only(row: Published, values: Mapping[str, Any]) -> Judgement:
    """The rule for a rate over the first few images: compared with all images, and marked when n is too small."""
    same, full = reading(values, row.same), reading(values, row.correct)
    if same is None or full is None or row.value is None:
        return missing(*absent(values, row.same, row.correct))
    tolerance = row.tolerance or EXACT
    if same.low > full.high or full.low > same.high:
        reason = (
            f"The first {same.n:,} images are not the test set: they give {brief(same)}, all {full.n:,} give "
            f"{brief(full)}."
        )
        return Judgement(Status.WRONG, reason, same, full)
    if not within(row.value, same, tolerance):
        return measured(row, values)
    if same.n < MIN_N_FOR_A_CLAIM:
        reason = (
            f"Reproduced, yet only indicative: n = {same.n:,} is below {MIN_N_FOR_A_CLAIM:,} and the first images are "
            f"no random sample; all {full.n:,} give {brief(full)}."
        )
    else:
        reason = f"Reproduced on {same.n:,} images; all {full.n:,} give {brief(full)}."
    return Judgement(Status.SUPPORTED, reason, same, full)


def subtract(values: Mapping[str, Any], minuend: str, subtrahends: Sequence[str]) -> Reading | None:
    """`minuend` less the lowest of `subtrahends`, with a conservative interval; None where one is not measured."""
    first, others = reading(values, minuend), readings(values, subtrahends)
    if first is None or others is None:
        return None
    second = min(others, key=lambda item: item.value)
    name = f"{minuend} - {second.id}"
    low, high = first.low - second.high, first.high - second.low
    return Reading(name, first.value - second.value, low, high, word=first.word or second.word)


def difference(minuend: str, subtrahend: str, *, correct: tuple[str, tuple[str, ...]] | None = None) -> Rule:
    """The rule for a published difference of two rates, in points.

    Args:
        minuend: id of the rate that the report subtracts from.
        subtrahend: id of the rate that it subtracts.
        correct: what answers the question rightly: the minuend, and the rates of which the lowest is subtracted.
    """
    right_minuend, right_subtrahends = correct or (minuend, (subtrahend,))

    def rule(row: Published, values: Mapping[str, Any]) -> Judgement:
        same = subtract(values, minuend, (subtrahend,))
        right = subtract(values, right_minuend, right_subtrahends)
        if same is None or right is None:
            return missing(*absent(values, minuend, subtrahend, right_minuend, *right_subtrahends))
        return judge_figure(row, same, right)

    return rule
