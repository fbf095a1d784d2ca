"""Explanations are rules over measurements: fed with swapped measurements they say the opposite."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.comparisons import Confusion
from secure_ai.core.results import MeasuredQuantity, Measurement, Rate, rate
from secure_ai.core.trust import Trust, Verdict
from secure_ai.report.model import FigureStatus, FigureUnit, Holds
from secure_ai.runs.reproduction import claims, claims_printed, rules, rules_backdoor, rules_robustness, tolerances
from secure_ai.runs.reproduction.judge import FigureRule, Judgement, Published, Tolerance
from secure_ai.runs.reproduction.values import Measured

SUPPORTED, NOT_SUPPORTED, WRONG, NOT_MEASURED, NOT_COMPARABLE = FigureStatus
DOUBTFUL = Trust(Verdict.DOUBTFUL, ())
Value = Rate | float | tuple[tuple[int, ...], ...]

# FGSM errors that pile up on few classes, and errors that fall evenly.
TOP = [3, 3, 3, 8, 3, 3, 3, 3, 3, 3]
PILED = tuple(tuple(150 if i == j else 600 if j == TOP[i] else 30 for j in range(10)) for i in range(10))
EVEN = tuple(tuple(150 if i == j else 94 for j in range(10)) for i in range(10))


def measured(values: Mapping[str, Value], doubtful: tuple[str, ...] = ()) -> Measured:
    rates, quantities, confusions = {}, {}, {}
    for name, value in values.items():
        if isinstance(value, Rate):
            rates[name] = Measurement(
                id=name, model="", metric="", value=value, stage="", replay="",
                trust=DOUBTFUL if name in doubtful else None, condition=name.rpartition("/")[2],
            )  # fmt: skip
        elif isinstance(value, tuple):
            confusions[name] = Confusion(id=name, model="", counts=value)
        else:
            quantities[name] = MeasuredQuantity(id=name, model="", metric="", value=value, unit="", stage="")
    return Measured(rates, quantities, confusions)


def r(share: float, n: int = 10000) -> Rate:
    return rate(round(share * n), n)


def judged(rule: FigureRule, values: Mapping[str, Value], value: float | None = None, unit: FigureUnit = "share",
           same: str = "", correct: str = "", tolerance: Tolerance | None = None,
           doubtful: tuple[str, ...] = ()) -> Judgement:  # fmt: skip
    row = Published("report-1", "table-0/x", "a claim", value, unit, rule, same, correct, tolerance)
    return rule(row, measured(values, doubtful))


def correct_of(judgement: Judgement) -> tuple[str, float, str]:
    """Id, value and condition of what was measured correctly."""
    assert judgement.correct is not None
    return judgement.correct.id, round(judgement.correct.value, 6), judgement.correct.condition


def judge_robust(transferred: float, fgsm: float, pgd: float, published: float, claimed: str) -> Judgement:
    values = {"net/transferred": r(transferred), "net/fgsm": r(fgsm), "net/pgd": r(pgd)}
    return judged(rules_robustness.robust("net", claimed), values, published, tolerance=tolerances.TRANSFERRED)


@pytest.mark.parametrize(
    ("rates", "published", "claimed", "lowest"),
    [
        ((0.992, 0.059, 0.0), 0.9855, "transferred", ("net/pgd", 0.0, "pgd")),
        ((0.059, 0.992, 0.985), 0.992, "fgsm", ("net/transferred", 0.059, "transferred")),  # swapped
        ((0.929, 0.9177, 0.33), 0.9177, "fgsm", ("net/pgd", 0.33, "pgd")),
        ((0.929, 0.9177, 0.33), 0.929, "transferred", ("net/pgd", 0.33, "pgd")),
    ],
)
def test_a_robust_accuracy_above_another_is_wrong(
    rates: tuple[float, float, float], published: float, claimed: str, lowest: tuple[str, float, str]
) -> None:
    judgement = judge_robust(*rates, published, claimed)
    assert (judgement.status, judgement.holds) == (WRONG, Holds.NO)
    assert correct_of(judgement) == lowest


def test_agreeing_measurements_hold() -> None:
    assert judge_robust(0.951, 0.949, 0.945, 0.95, "transferred").holds is Holds.YES


def test_agreeing_measurements_far_from_the_published_figure_do_not_support_it() -> None:
    assert judge_robust(0.71, 0.705, 0.70, 0.9855, "transferred").status is NOT_SUPPORTED


shares = st.integers(0, 1000).map(lambda hits: rate(hits, 1000))


@settings(max_examples=60, deadline=None)
@given(shares, shares, shares)
def test_the_claim_is_always_the_lowest_of_three(transferred: Rate, fgsm: Rate, pgd: Rate) -> None:
    values = {"net/transferred": transferred, "net/fgsm": fgsm, "net/pgd": pgd}
    rule = rules_robustness.robust("net", "transferred")
    judgement = judged(rule, values, transferred.value, tolerance=tolerances.TRANSFERRED)
    lowest = min(item.bounds.value for item in (transferred, fgsm, pgd))
    assert judgement.correct is not None
    assert judgement.correct.value == lowest
    apart = transferred.bounds.low > judgement.correct.high and transferred.bounds.value - lowest >= 0.02
    assert (judgement.holds is Holds.NO) == apart


def test_a_doubtful_rate_is_never_spelled_without_the_word() -> None:
    values = {"net/transferred": r(0.992), "net/fgsm": r(0.059), "net/pgd": r(0.0)}
    rule = rules_robustness.robust("net", "transferred")
    found = judged(rule, values, 0.9855, tolerance=tolerances.TRANSFERRED, doubtful=("net/fgsm", "net/pgd"))
    assert found.correct is not None
    assert found.correct.word == "doubtful"
    assert "5.90 % (doubtful)" in found.reason


@pytest.mark.parametrize(
    ("poisoned", "clean", "status"),
    [(0.0012, 0.0014, WRONG), (0.9915, 0.0014, SUPPORTED), (0.0014, 0.9915, WRONG), (0.40, 0.0014, WRONG)],
)
def test_only_images_of_other_classes_count_as_backdoor_success(
    poisoned: float, clean: float, status: FigureStatus
) -> None:
    values = {"poisoned": r(poisoned, 8972), "clean": r(clean, 8972), "sevens": r(0.9912, 1028)}
    rule = rules_backdoor.backdoor("poisoned", "clean")
    judgement = judged(rule, values, 0.9912, same="sevens", tolerance=tolerances.ONE_CLASS)
    assert judgement.status is status
    assert judgement.same is not None
    assert judgement.same.id == "sevens"
    assert correct_of(judgement)[0] == "poisoned"


@pytest.mark.parametrize(
    ("success", "clean", "confidence", "status"),
    [
        (0.97, 0.003, 0.95, SUPPORTED),
        (0.97, 0.003, 0.55, NOT_SUPPORTED),
        (0.97, 0.003, None, NOT_MEASURED),
        (0.10, 0.003, 0.95, WRONG),
        (0.97, 0.97, 0.95, WRONG),
    ],
)
def test_confident_backdoor(success: float, clean: float, confidence: float | None, status: FigureStatus) -> None:
    rule = rules_backdoor.confident_backdoor("success", "clean", "confidence")
    values: dict[str, Value] = {"success": r(success, 1028), "clean": r(clean, 1028)}
    values |= {} if confidence is None else {"confidence": confidence}
    assert judged(rule, values).status is status


@pytest.mark.parametrize(
    ("images", "divisor", "status"),
    [(10000, 640, WRONG), (10000, None, WRONG), (10000, 10000, NOT_COMPARABLE), (640, None, NOT_COMPARABLE)],
)
def test_a_time_is_divided_by_the_images_that_were_timed(
    images: int, divisor: int | None, status: FigureStatus
) -> None:
    rule = rules.per_image_time("net", 640)
    values: dict[str, Value] = {"net/inference/seconds": 3.8, "net/inference/images": images}
    values |= {} if divisor is None else {"net/inference/divisor": divisor}
    judgement = judged(rule, values, 5.94e-3, "seconds")
    assert judgement.status is status
    assert judgement.same is not None
    assert judgement.same.value == pytest.approx(3.8 / (divisor or 640))
    assert correct_of(judgement)[1] == pytest.approx(3.8 / images, abs=1e-6)


@pytest.mark.parametrize(
    ("same", "correct", "status"), [(0.157, 0.150, SUPPORTED), (0.157, 0.60, WRONG), (0.60, 0.157, NOT_SUPPORTED)]
)
def test_a_figure_needs_both_measurements(same: float, correct: float, status: FigureStatus) -> None:
    values = {"same": r(same), "correct": r(correct)}
    judgement = judged(rules.measured, values, 0.1577, same="same", correct="correct",
                       tolerance=tolerances.FGSM_UNDEFENDED)  # fmt: skip
    assert judgement.status is status


@pytest.mark.parametrize(("full", "status"), [(0.182, SUPPORTED), (0.30, WRONG)])
def test_the_first_images_are_compared_with_all(full: float, status: FigureStatus) -> None:
    values = {"first": rate(112, 640), "all": r(full)}
    judgement = judged(rules.first_images_only, values, 0.175, same="first", correct="all",
                       tolerance=tolerances.FGSM_UNDEFENDED)  # fmt: skip
    assert judgement.status is status
    assert judgement.same is not None
    assert judgement.same.word == "indicative"


def test_a_gain_goes_from_the_lowest_accuracy_of_the_one_to_that_of_the_other() -> None:
    rule = rules_robustness.gain("net", "base", "fgsm", "transferred")
    values: dict[str, Value] = {"net/transferred": r(0.992), "net/fgsm": r(0.059), "net/pgd": r(0.01)}
    values |= {"base/fgsm": r(0.157), "base/pgd": r(0.0)}

    def gained(content: Mapping[str, Value]) -> Judgement:
        return judged(rule, content, 0.8278, "points", tolerance=tolerances.DIFFERENCE_ATTACKED)

    assert gained(values).status is WRONG
    assert correct_of(gained(values)) == ("net/pgd - base/pgd", 0.01, "pgd")
    assert gained(values | {"net/fgsm": r(0.99), "net/pgd": r(0.8)}).status is SUPPORTED
    assert gained({key: value for key, value in values.items() if key != "base/pgd"}).holds is Holds.NOT_MEASURED


def test_a_suite_decides_where_it_leaves_least() -> None:
    rule = rules_robustness.robust("net", "fgsm")
    values = {"net/transferred": r(0.93), "net/fgsm": r(0.918), "net/pgd": r(0.17)}

    def lowest(content: Mapping[str, Value]) -> tuple[str, float, str]:
        return correct_of(judged(rule, content, 0.918, tolerance=tolerances.FGSM_DEFENDED))

    assert lowest(values) == ("net/pgd", 0.17, "pgd")
    assert lowest(values | {"net/suite": r(0.4, 1000)}) == ("net/pgd", 0.17, "pgd")
    assert lowest(values | {"net/suite": r(0.048, 1000)}) == ("net/suite", 0.048, "suite")


@pytest.mark.parametrize(("counts", "status", "share"), [(PILED, WRONG, 0.714), (EVEN, SUPPORTED, 0.111)])
def test_random_errors_by_chi_square(counts: tuple[tuple[int, ...], ...], status: FigureStatus, share: float) -> None:
    judgement = judged(claims.random_errors("matrix"), {"matrix": counts})
    assert judgement.status is status
    assert correct_of(judgement)[1] == pytest.approx(share, abs=1e-3)


EQUAL = ((95, 5, 0), (5, 95, 0), (0, 5, 95))
UNEVEN = ((99, 1, 0), (40, 60, 0), (0, 1, 99))


@pytest.mark.parametrize(("counts", "status"), [(EQUAL, SUPPORTED), (UNEVEN, WRONG)])
def test_classes_that_differ_and_classes_that_do_not(counts: tuple[tuple[int, ...], ...], status: FigureStatus) -> None:
    assert judged(claims.even_classes("matrix"), {"matrix": counts}).status is status


@pytest.mark.parametrize(
    ("fixed", "fresh", "status"),
    [(0.987, 0.9177, WRONG), (0.9177, 0.987, SUPPORTED), (0.99, 0.985, NOT_SUPPORTED), (0.5, 0.6, NOT_SUPPORTED)],
)
def test_which_version_made_the_published_figure(fixed: float, fresh: float, status: FigureStatus) -> None:
    rule = claims.fresh_examples(0.9855, tolerances.TRANSFERRED, "fixed", "fresh")
    assert judged(rule, {"fixed": r(fixed), "fresh": r(fresh)}).status is status


@pytest.mark.parametrize(
    ("loss", "clean", "status"), [(3.9, 0.0338, SUPPORTED), (3.0, 0.0338, WRONG), (3.0, 0.0, NOT_MEASURED)]
)
def test_two_orders_of_magnitude(loss: float, clean: float, status: FigureStatus) -> None:
    assert judged(claims.ratio_above("attacked", "clean", 100.0), {"attacked": loss, "clean": clean}).status is status


@pytest.mark.parametrize(("sevens", "status"), [(6265, WRONG), (6000, SUPPORTED)])
def test_poison_rate_is_computed_from_the_data(sevens: int, status: FigureStatus) -> None:
    assert judged(claims_printed.share_of(100, "sevens", 60000), {"sevens": sevens}, 0.0167).status is status


@pytest.mark.parametrize(("side", "status"), [(4, SUPPORTED), (6, WRONG)])
def test_arithmetic(side: int, status: FigureStatus) -> None:
    rule = claims_printed.arithmetic(side * side / 784, f"{side * side} of 784 pixels", 0.005)
    assert judged(rule, {}, 0.02).status is status


def test_numbers_printed_twice() -> None:
    table = claims_printed.Printed("table", 0.9890, "share", 0.00005)
    same = claims_printed.Printed("figure", 0.98904, "share", 0.0)
    other = claims_printed.Printed("figure", 0.9877, "share", 0.0)
    assert judged(claims_printed.printed_twice(same, table), {}).status is SUPPORTED
    assert judged(claims_printed.printed_twice(other, table), {}).status is WRONG
    assert judged(claims_printed.one_run({"a": (same, table)}), {}).status is SUPPORTED
    assert judged(claims_printed.one_run({"a": (same, table), "b": (other, table)}), {}).status is WRONG


@pytest.mark.parametrize(("count", "status"), [(None, NOT_SUPPORTED), (2, NOT_SUPPORTED), (3, SUPPORTED)])
def test_claims_about_the_published_program(count: int | None, status: FigureStatus) -> None:
    rule = claims_printed.in_program("key", 0, 3, "checks")
    assert judged(rule, {} if count is None else {"key": count}).status is status


def test_removed_and_complete_claims_about_the_published_program() -> None:
    removed = claims_printed.not_in_program("asserts", 1, "assert")
    assert judged(removed, {}).status is WRONG
    assert judged(removed, {"asserts": 0}).status is SUPPORTED
    scanned = claims_printed.whole_codebase("files", 1, 8, 465)
    assert judged(scanned, {}).status is WRONG
    assert judged(scanned, {"files": 8}).status is SUPPORTED


@pytest.mark.parametrize(("ours", "status"), [(1, SUPPORTED), (2, NOT_SUPPORTED)])
def test_counts(ours: int, status: FigureStatus) -> None:
    assert judged(claims_printed.count_of("count"), {"count": ours}, 1.0, "count").status is status


def test_reading_of_a_difference_keeps_the_trust_word_and_the_condition() -> None:
    found = rules.subtract(measured({"a": r(0.9), "b/pgd": r(0.5)}, doubtful=("b/pgd",)), "a", ["b/pgd"])
    assert found is not None
    assert (found.word, found.condition, round(found.value, 6)) == ("doubtful", "pgd", 0.4)
    assert found.low < found.value < found.high
    assert not found.is_rate
