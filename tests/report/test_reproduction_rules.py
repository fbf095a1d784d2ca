"""Explanations are rules over measurements: fed with swapped measurements they say the opposite."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.results import Rate, rate
from secure_ai.runs.reproduction import claims, claims_printed, rules, rules_backdoor, rules_robustness, tolerances
from secure_ai.runs.reproduction.judge import Holds, Published, Rule, Status, Tolerance, Unit
from secure_ai.runs.reproduction.values import Reading


def r(share: float, n: int = 10000) -> Rate:
    return rate(round(share * n), n)


def row(rule: Rule, value: float | None = None, unit: Unit = "share", same: str = "", correct: str = "",
        tolerance: Tolerance | None = None) -> Published:  # fmt: skip
    return Published("report-1", "table-0/x", "a claim", value, unit, rule, same, correct, tolerance)


def judge_robust(transferred: float, fgsm: float, pgd: float, published: float, claimed: str) -> Any:
    rule = rules_robustness.robust("net", claimed)
    values = {"net/transferred": r(transferred), "net/fgsm": r(fgsm), "net/pgd": r(pgd)}
    return rule(row(rule, published, tolerance=tolerances.TRANSFERRED), values)


def test_transferred_examples_are_not_robustness() -> None:
    judged = judge_robust(0.992, 0.059, 0.0, 0.9855, "transferred")
    assert judged.holds is Holds.NO
    assert judged.status is Status.WRONG
    assert judged.correct.id == "net/pgd"
    assert judged.reason.startswith("Scored on examples made for another network")
    assert "5.90 %" in judged.reason
    assert "93.3 points lower" in judged.reason


def test_swapped_transferred_and_white_box_rates_give_the_opposite_sentence() -> None:
    judged = judge_robust(0.059, 0.992, 0.985, 0.992, "fgsm")
    assert judged.status is Status.WRONG
    assert judged.correct.id == "net/transferred"
    assert "Its own gradient misleads the attack" in judged.reason
    assert "made for another network leave 5.90 %" in judged.reason


def test_one_step_is_not_robustness() -> None:
    judged = judge_robust(0.929, 0.9177, 0.33, 0.9177, "fgsm")
    assert judged.status is Status.WRONG
    assert judged.reason.startswith("One step only")
    assert "58.8 points lower" in judged.reason


def test_transferred_close_to_own_fgsm_but_above_pgd_blames_the_single_step() -> None:
    judged = judge_robust(0.929, 0.9177, 0.33, 0.929, "transferred")
    assert judged.reason.startswith("One step only")


def test_agreeing_measurements_hold() -> None:
    judged = judge_robust(0.951, 0.949, 0.945, 0.95, "transferred")
    assert judged.holds is Holds.YES
    assert "agree" in judged.reason


def test_agreeing_measurements_far_from_the_published_figure_do_not_support_it() -> None:
    judged = judge_robust(0.71, 0.705, 0.70, 0.9855, "transferred")
    assert judged.status is Status.NOT_SUPPORTED
    assert "not reproduced" in judged.reason


shares = st.integers(0, 1000).map(lambda hits: rate(hits, 1000))


@settings(max_examples=60, deadline=None)
@given(shares, shares, shares)
def test_the_claim_is_always_the_lowest_of_three(transferred: Rate, fgsm: Rate, pgd: Rate) -> None:
    rule = rules_robustness.robust("net", "transferred")
    values = {"net/transferred": transferred, "net/fgsm": fgsm, "net/pgd": pgd}
    judged = rule(row(rule, transferred.value, tolerance=tolerances.TRANSFERRED), values)
    lowest = min(item.value or 0.0 for item in (transferred, fgsm, pgd))
    assert judged.correct is not None
    assert judged.correct.value == lowest
    apart = (transferred.ci_low or 0) > (judged.correct.high) and (transferred.value or 0) - lowest >= 0.02
    assert (judged.holds is Holds.NO) == apart


def test_a_doubtful_rate_is_never_spelled_without_the_word() -> None:
    rule = rules_robustness.robust("net", "transferred")
    doubtful = {**r(0.059).as_json(), "trust": {"verdict": "doubtful", "checks": []}}
    values = {"net/transferred": r(0.992), "net/fgsm": doubtful, "net/pgd": r(0.0)}
    assert "5.90 % (doubtful)" in rule(row(rule, 0.9855, tolerance=tolerances.TRANSFERRED), values).reason


def judge_backdoor(poisoned: float, clean: float) -> Any:
    rule = rules_backdoor.backdoor("poisoned", "clean")
    values = {"poisoned": r(poisoned, 8972), "clean": r(clean, 8972), "sevens": r(0.9912, 1028)}
    return rule(row(rule, 0.9912, same="sevens", tolerance=tolerances.ONE_CLASS), values)


def test_accuracy_on_triggered_target_images_is_not_backdoor_success() -> None:
    judged = judge_backdoor(0.0012, 0.0014)
    assert judged.status is Status.WRONG
    assert judged.reason.startswith("No working backdoor")
    assert judged.same.value == pytest.approx(0.9912, abs=1e-3)
    assert judged.correct.value == pytest.approx(0.0012, abs=1e-3)


def test_a_working_backdoor_of_the_published_strength_holds() -> None:
    judged = judge_backdoor(0.9915, 0.0014)
    assert judged.holds is Holds.YES
    assert judged.reason.startswith("A working backdoor")


def test_a_weaker_backdoor_is_told_from_none() -> None:
    judged = judge_backdoor(0.40, 0.0014)
    assert judged.status is Status.WRONG
    assert judged.reason.startswith("A backdoor, but not of that strength")


@pytest.mark.parametrize(
    ("success", "clean", "confidence", "status"),
    [
        (0.97, 0.003, 0.95, Status.SUPPORTED),
        (0.97, 0.003, 0.55, Status.NOT_SUPPORTED),
        (0.97, 0.003, None, Status.NOT_MEASURED),
        (0.10, 0.003, 0.95, Status.WRONG),
        (0.97, 0.97, 0.95, Status.WRONG),
    ],
)
def test_confident_backdoor(success: float, clean: float, confidence: float | None, status: Status) -> None:
    rule = rules_backdoor.confident_backdoor("success", "clean", "confidence")
    values: dict[str, Any] = {"success": r(success, 1028), "clean": r(clean, 1028)}
    values |= {} if confidence is None else {"confidence": confidence}
    assert rule(row(rule), values).status is status


@pytest.mark.parametrize(
    ("images", "divisor", "status"), [(10000, 640, Status.WRONG), (10000, 10000, Status.NOT_COMPARABLE)]
)
def test_a_time_is_divided_by_the_images_that_were_timed(images: int, divisor: int, status: Status) -> None:
    rule = rules.per_image_time("net", 640)
    values = {"net/inference/seconds": 3.8, "net/inference/images": images, "net/inference/divisor": divisor}
    judged = rule(row(rule, 5.94e-3, "seconds"), values)
    assert judged.status is status
    assert judged.correct is not None
    assert judged.correct.value == pytest.approx(3.8 / 10000)
    assert ("was divided by 640: published as 5.94 ms, it is 380 µs" in judged.reason) == (divisor == 640)


def test_the_published_divisor_is_the_default() -> None:
    rule = rules.per_image_time("net", 640)
    values = {"net/inference/seconds": 3.8, "net/inference/images": 10000}
    assert rule(row(rule, 5.94e-3, "seconds"), values).status is Status.WRONG


@pytest.mark.parametrize(
    ("same", "correct", "status"),
    [(0.157, 0.150, Status.SUPPORTED), (0.157, 0.60, Status.WRONG), (0.60, 0.157, Status.NOT_SUPPORTED)],
)
def test_a_figure_needs_both_measurements(same: float, correct: float, status: Status) -> None:
    published = row(rules.measured, 0.1577, same="same", correct="correct", tolerance=tolerances.FGSM_UNDEFENDED)
    assert rules.measured(published, {"same": r(same), "correct": r(correct)}).status is status


@pytest.mark.parametrize(("full", "status"), [(0.182, Status.SUPPORTED), (0.30, Status.WRONG)])
def test_the_first_images_are_compared_with_all(full: float, status: Status) -> None:
    rule = rules.first_images_only
    published = row(rule, 0.175, same="first", correct="all", tolerance=tolerances.FGSM_UNDEFENDED)
    judged = rule(published, {"first": rate(112, 640), "all": r(full)})
    assert judged.status is status
    assert ("only indicative" in judged.reason) == (status is Status.SUPPORTED)


def test_a_gain_goes_from_the_lowest_accuracy_of_the_one_to_that_of_the_other() -> None:
    rule = rules_robustness.gain("net", "base", "fgsm", "transferred")
    published = row(rule, 0.8278, "points", tolerance=tolerances.DIFFERENCE_ATTACKED)
    values = {"net/transferred": r(0.992), "net/fgsm": r(0.059), "net/pgd": r(0.01)}
    values |= {"base/fgsm": r(0.157), "base/pgd": r(0.0)}
    judged = rule(published, values)
    assert judged.status is Status.WRONG
    assert judged.correct is not None
    assert judged.correct.value == pytest.approx(0.01)
    assert "lowest of FGSM and PGD-40 on the one network" in judged.reason
    agreeing = values | {"net/fgsm": r(0.99), "net/pgd": r(0.8)}
    assert rule(published, agreeing).status is Status.SUPPORTED
    assert rule(published, {key: value for key, value in values.items() if key != "base/pgd"}).holds.value == (
        "not_measured"
    )


def test_a_suite_decides_where_it_leaves_least() -> None:
    rule = rules_robustness.robust("net", "fgsm")
    published = row(rule, 0.918, tolerance=tolerances.FGSM_DEFENDED)
    values = {"net/transferred": r(0.93), "net/fgsm": r(0.918), "net/pgd": r(0.17)}
    without, weak = rule(published, values), rule(published, values | {"net/suite": r(0.4, 1000)})
    judged = rule(published, values | {"net/suite": r(0.048, 1000)})
    assert judged.correct is not None
    assert judged.correct.id == "net/suite"
    assert "A whole suite of attacks" in judged.reason
    assert weak == without
    assert "PGD-40" in without.reason


def test_random_errors_by_chi_square(sample: Any) -> None:
    rule = claims.random_errors("matrix")
    piled = rule(row(rule), {"matrix": sample.PILED})
    even = rule(row(rule), {"matrix": sample.EVEN})
    assert (piled.status, even.status) == (Status.WRONG, Status.SUPPORTED)
    assert (
        "71 % of 8,400 errors go to one wrong class per true class (evenly spread: 11 %), 74 % to 3 or 8"
        in piled.reason
    )
    assert "Not distinguishable from random" in even.reason


def test_classes_that_differ_and_classes_that_do_not() -> None:
    rule = claims.even_classes("matrix")
    equal = [[95, 5, 0], [5, 95, 0], [0, 5, 95]]
    uneven = [[99, 1, 0], [40, 60, 0], [0, 1, 99]]
    assert rule(row(rule), {"matrix": equal}).status is Status.SUPPORTED
    judged = rule(row(rule), {"matrix": uneven})
    assert judged.status is Status.WRONG
    assert "60.00 % (class 1)" in judged.reason


@pytest.mark.parametrize(
    ("fixed", "fresh", "status"),
    [
        (0.992, 0.9177, Status.WRONG),
        (0.9177, 0.992, Status.SUPPORTED),
        (0.99, 0.985, Status.NOT_SUPPORTED),
        (0.5, 0.6, Status.NOT_SUPPORTED),
    ],
)
def test_which_version_made_the_published_figure(fixed: float, fresh: float, status: Status) -> None:
    rule = claims.fresh_examples(0.9855, tolerances.TRANSFERRED, "fixed", "fresh")
    assert rule(row(rule), {"fixed": r(fixed), "fresh": r(fresh)}).status is status


@pytest.mark.parametrize(("loss", "status"), [(3.9, Status.SUPPORTED), (3.0, Status.WRONG)])
def test_two_orders_of_magnitude(loss: float, status: Status) -> None:
    rule = claims.ratio_above("attacked", "clean", 100.0)
    assert rule(row(rule), {"attacked": loss, "clean": 0.0338}).status is status


@pytest.mark.parametrize(("sevens", "status"), [(6265, Status.WRONG), (6000, Status.SUPPORTED)])
def test_poison_rate_is_computed_from_the_data(sevens: int, status: Status) -> None:
    rule = claims_printed.share_of(100, "sevens", 60000)
    assert rule(row(rule, 0.0167), {"sevens": sevens}).status is status


@pytest.mark.parametrize(("side", "status"), [(4, Status.SUPPORTED), (6, Status.WRONG)])
def test_arithmetic(side: int, status: Status) -> None:
    rule = claims_printed.arithmetic(side * side / 784, f"{side * side} of 784 pixels", 0.005)
    assert rule(row(rule, 0.02), {}).status is status


def test_numbers_printed_twice() -> None:
    table = claims_printed.Printed("table", 0.9890, "share", 0.00005)
    same = claims_printed.Printed("figure", 0.98904, "share", 0.0)
    other = claims_printed.Printed("figure", 0.9877, "share", 0.0)
    agreeing, differing = claims_printed.printed_twice(same, table), claims_printed.printed_twice(other, table)
    assert agreeing(row(agreeing), {}).status is Status.SUPPORTED
    assert "98.77 % (figure) but 98.90 % (table)" in differing(row(differing), {}).reason
    one = claims_printed.one_run({"a": (same, table)})
    three = claims_printed.one_run({"a": (same, table), "accuracy": (other, table)})
    assert one(row(one), {}).status is Status.SUPPORTED
    assert three(row(three), {}).reason == "1 of 2 numbers that are printed twice differ (accuracy)."


COUNTS = [(None, Status.NOT_SUPPORTED), (2, Status.NOT_SUPPORTED), (3, Status.SUPPORTED)]


@pytest.mark.parametrize(("count", "status"), COUNTS)
def test_claims_about_the_published_program(count: int | None, status: Status) -> None:
    rule = claims_printed.in_program("key", 0, 3, "checks")
    assert rule(row(rule), {} if count is None else {"key": count}).status is status


def test_removed_and_complete_claims_about_the_published_program() -> None:
    removed = claims_printed.not_in_program("asserts", 1, "assert")
    assert removed(row(removed), {}).reason == "The published program still has 1 assert."
    assert removed(row(removed), {"asserts": 0}).status is Status.SUPPORTED
    scanned = claims_printed.whole_codebase("files", 1, 8, 465)
    assert scanned(row(scanned), {}).status is Status.WRONG
    assert scanned(row(scanned), {"files": 8}).status is Status.SUPPORTED


@pytest.mark.parametrize(("ours", "status"), [(1, Status.SUPPORTED), (2, Status.NOT_SUPPORTED)])
def test_counts(ours: int, status: Status) -> None:
    rule = claims_printed.count_of("count")
    assert rule(row(rule, 1.0, "count"), {"count": ours}).status is status


def test_reading_of_a_difference_keeps_the_trust_word() -> None:
    doubtful = {**r(0.5).as_json(), "trust": {"verdict": "doubtful", "checks": []}}
    found = rules.subtract({"a": r(0.9), "b": doubtful}, "a", ["b"])
    assert isinstance(found, Reading)
    assert (found.word, round(found.value, 6)) == ("doubtful", 0.4)
    assert found.low < found.value < found.high
