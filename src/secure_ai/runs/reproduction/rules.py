"""Rules over measurements that decide whether a published figure holds, and say why in one sentence.

No rule knows the figure it judges: fed with swapped measurements it says the opposite. Each takes the published row and
what the run measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from secure_ai.core.trust import MIN_N_FOR_A_CLAIM
from secure_ai.report.model import FigureStatus
from secure_ai.report.render.text import plural, seconds_text
from secure_ai.runs.reproduction.judge import (
    FigureRule,
    Judgement,
    Published,
    Tolerance,
    brief,
    missing,
    value_text,
    within,
)
from secure_ai.runs.reproduction.values import Measured, Reading

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
            f"widened by {tolerance}."
        )
        return Judgement(FigureStatus.NOT_SUPPORTED, reason, same, correct)
    if not within(row.value, correct, tolerance):
        reason = (
            f"The same protocol gives {ours}, but measured correctly it is {brief(correct, row.unit)}, "
            f"too far from {published}."
        )
        return Judgement(FigureStatus.WRONG, reason, same, correct)
    reason = f"Reproduced: ours is {ours}, and {published} lies within its interval widened by {tolerance}."
    return Judgement(FigureStatus.SUPPORTED, reason, same, correct)


def measured(row: Published, run: Measured) -> Judgement:
    """`judge_figure` on the values that the row names; the report's protocol is the correct one where it names one."""
    same = run.reading(row.same)
    correct = run.reading(row.correct) if row.correct else same
    if same is None or correct is None:
        return missing(*run.absent(*filter(None, (row.same, row.correct))))
    return judge_figure(row, same, correct)


def per_image_time(network: str, divided_by: int) -> FigureRule:
    """The rule for a time per image: it must be divided by the number of images that were timed.

    Args:
        network: prefix of the ids.
        divided_by: the number that the report divides by, where `NETWORK/inference/divisor` is not given.
    """

    def rule(row: Published, run: Measured) -> Judgement:
        names = [f"{network}/inference/{part}" for part in ("seconds", "images")]
        found = run.readings(names)
        if found is None or row.value is None or found[1].value < 1:
            return missing(*(run.absent(*names) or names))
        seconds, images = (item.value for item in found)
        given = run.reading(f"{network}/inference/divisor")
        divisor = given.value if given and given.value >= 1 else divided_by
        same, correct = seconds / divisor, seconds / images
        ours = (Reading(names[0], same, same, same), Reading(names[0], correct, correct, correct))
        if images != divisor:
            reason = (
                f"The time of {images:,.0f} images was divided by {divisor:,.0f}: published "
                f"as {seconds_text(row.value)}, it is {seconds_text(row.value * divisor / images)} on the same machine."
            )
            return Judgement(FigureStatus.WRONG, reason, *ours)
        reason = (
            f"A time of the authors' machine, correctly divided by the {plural(int(images), 'image')} that it timed; "
            f"this machine takes {seconds_text(correct)}."
        )
        return Judgement(FigureStatus.NOT_COMPARABLE, reason, *ours)

    return rule


def machine_time(row: Published, run: Measured) -> Judgement:
    """A duration depends on the machine: shown beside ours, never judged."""
    ours = run.reading(row.same)
    if ours is None or row.value is None or ours.value < SHORTEST_SECONDS:
        return missing(row.same)
    ratio = row.value / ours.value
    reason = f"A time of the authors' machine; this one takes {seconds_text(ours.value)} ({ratio:.2g} times as fast)."
    return Judgement(FigureStatus.NOT_COMPARABLE, reason, ours, ours)


def first_images_only(row: Published, run: Measured) -> Judgement:
    """The rule for a rate over the first few images: compared with all images, and marked when n is too small."""
    same, full = run.reading(row.same), run.reading(row.correct)
    if same is None or full is None or row.value is None:
        return missing(*run.absent(row.same, row.correct))
    tolerance = row.tolerance or EXACT
    if same.low > full.high or full.low > same.high:
        reason = (
            f"The first {same.n:,} images are not the test set: they give {brief(same)}, all {full.n:,} give "
            f"{brief(full)}."
        )
        return Judgement(FigureStatus.WRONG, reason, same, full)
    if not within(row.value, same, tolerance):
        return measured(row, run)
    if same.n < MIN_N_FOR_A_CLAIM:
        reason = (
            f"Reproduced, yet only indicative: n = {same.n:,} is below {MIN_N_FOR_A_CLAIM:,} and the first images are "
            f"no random sample; all {full.n:,} give {brief(full)}."
        )
    else:
        reason = f"Reproduced on {same.n:,} images; all {full.n:,} give {brief(full)}."
    return Judgement(FigureStatus.SUPPORTED, reason, same, full)


def subtract(run: Measured, minuend: str, subtrahends: Sequence[str]) -> Reading | None:
    """`minuend` less the lowest of `subtrahends`, with a conservative interval; None where one is not measured."""
    first, others = run.reading(minuend), run.readings(subtrahends)
    if first is None or others is None:
        return None
    second = min(others, key=lambda item: item.value)
    name = f"{minuend} - {second.id}"
    low, high = first.low - second.high, first.high - second.low
    return Reading(
        name, first.value - second.value, low, high, word=first.word or second.word, condition=second.condition
    )


def difference(minuend: str, subtrahend: str, *, correct: tuple[str, tuple[str, ...]] | None = None) -> FigureRule:
    """The rule for a published difference of two rates, in points.

    Args:
        minuend: id of the rate that the report subtracts from.
        subtrahend: id of the rate that it subtracts.
        correct: what answers the question rightly: the minuend, and the rates of which the lowest is subtracted.
    """
    right_minuend, right_subtrahends = correct or (minuend, (subtrahend,))

    def rule(row: Published, run: Measured) -> Judgement:
        same = subtract(run, minuend, (subtrahend,))
        right = subtract(run, right_minuend, right_subtrahends)
        if same is None or right is None:
            return missing(*run.absent(minuend, subtrahend, right_minuend, *right_subtrahends))
        return judge_figure(row, same, right)

    return rule
