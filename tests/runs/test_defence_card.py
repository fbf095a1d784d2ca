"""The card and the picture's points, from typed results."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.comparisons import Comparison, Distance
from secure_ai.core.events import ignore_event
from secure_ai.core.result import Model
from secure_ai.core.results import MeasuredQuantity, Measurement, Quantity, rate
from secure_ai.core.sections import Cell, Ref, Section
from secure_ai.core.trust import Trust, Verdict
from secure_ai.data.dataset import Dataset
from secure_ai.report.render.png import frontier_png
from secure_ai.runs.outputs.defence_card import class_card, defence_card, points
from secure_ai.runs.recipe.plan import Plan, plan
from secure_ai.runs.recipe.recipe import Recipe, load_recipe
from secure_ai.runs.stages.confidence import calibration_error, worst_confidence
from secure_ai.runs.stages.entries import per_sample, quantity_entry, rate_entry


def cells(card: Section) -> dict[str, dict[str, Cell]]:
    """By network and column."""
    names = [column.id for column in card.columns]
    return {row[0].id: dict(zip(names, row, strict=True)) for row in card.rows if isinstance(row[0], Ref)}


def model(name: str, role: str) -> Model:
    return Model(id=name, role=role, digest="", format="", arch="", file="f", title=f"title of {name}")


def measured(name: str, clean: int, robust: int) -> list[Measurement]:
    return [
        rate_entry(name, "clean", "clean_accuracy", rate(clean, 1000), "protocol"),
        rate_entry(name, "suite", "robust_accuracy", rate(robust, 1000), "protocol"),
    ]


def quantities(name: str) -> list[MeasuredQuantity]:
    return [
        quantity_entry(name, "train/seconds", "training_seconds", 12.5, "seconds"),
        quantity_entry(name, "inference/seconds", "inference_seconds", 0.5, "seconds", n=1000),
        quantity_entry(name, "inference/images", "inference_images", 1000, "images"),
        quantity_entry(name, "calibration/error", "calibration_error", 0.02, "", n=1000),
    ]


def test_the_card_holds_what_was_measured_and_nothing_else() -> None:
    models = [model("a", "baseline"), model("b", "defended"), model("c", "poisoned")]
    compared = Comparison(
        card="x", before="a/suite", after="b/suite", n=1000, only_before=0, only_after=900, difference=0.9, ci_low=0.8,
        ci_high=1.0, p=1e-9, p_holm=2e-9, trust=Verdict.RELIABLE,
    )  # fmt: skip
    (card,) = defence_card(models, [*measured("a", 990, 0), *measured("b", 985, 900)], quantities("b"), [compared], [])
    rows = cells(card)
    assert list(rows) == ["a", "b"]
    assert rows["b"]["suite"] == rate(900, 1000)
    assert rows["b"]["p"] == "2e-09"
    assert rows["b"]["latency"] == Quantity(0.5, "ms", n=1000)
    assert rows["b"]["seconds"] == Quantity(12.5, "seconds")
    assert rows["a"]["seconds"] is None
    assert "certified" not in {column.id for column in card.columns}


def test_a_median_distance_that_is_infinite_says_why() -> None:
    far = Distance(
        id="b/median-distance", model="b", metric="median_min_distance", norm="linf", attack="fmn", n=100, median=None,
        ci_low=0.4, ci_high=None, found=rate(40, 100), infinite="fewer than half were broken",
    )  # fmt: skip
    (card,) = defence_card([model("a", "baseline"), model("b", "defended")], measured("b", 985, 900), [], [], [far])
    expected = Quantity(None, "linf", 0.4, None, 100, "fewer than half were broken")
    assert [row["distance"] for row in cells(card).values()] == [None, expected]


def test_the_card_and_the_picture_say_within_which_budget() -> None:
    def within(name: str, condition: str, eps: float) -> Measurement:
        budget = PerturbationBudget("linf", eps)
        return rate_entry(name, condition, "robust_accuracy", rate(900, 1000), "protocol", budget=budget)

    clean = [entry for name in "ab" for entry in measured(name, 990, 0) if entry.condition == "clean"]
    attacked = [within("a", "pgd", 0.25), within("b", "pgd", 0.3), within("b", "suite", 0.3)]
    models = [model("a", "baseline"), model("b", "defended")]
    (card,) = defence_card(models, [*clean, *attacked, within("b", "certified", 0.1)], [], [], [])
    within_what = [[row[name] for name in ("attack-budget", "certified-budget")] for row in cells(card).values()]
    assert within_what == [["linf 0.25", None], ["linf 0.3", "linf 0.1"]]
    (point,) = points({"b": "B"}, [*clean, *attacked], quantities("b"))
    assert point.title == "B, linf 0.3"


def test_no_card_without_a_defence() -> None:
    assert defence_card([model("a", "baseline"), model("b", "baseline")], [], [], [], []) == ()
    assert defence_card([model("b", "defended")], [], [], [], []) == ()


def test_the_card_by_class_counts_what_withstood_the_suite() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    data = Dataset(images, np.array([0, 0, 0, 2, 2, 2]), "six", 3)
    bits = np.array([True, True, False, False, False, True])
    kept = [per_sample(entry, bits) for name in "abc" for entry in measured(name, 6, 3)]
    models = [model("a", "baseline"), model("b", "defended"), model("c", "poisoned"), model("d", "defended")]
    (card,) = class_card(models, kept, data)
    expected = {"class-0": rate(2, 3), "class-2": rate(1, 3)}
    assert cells(card) == {name: {"model": Ref("model", name), **expected} for name in "ab"}
    assert class_card(models, [entry for entry in kept if entry.id.endswith("/clean")], data) == ()


def test_a_point_needs_all_three() -> None:
    every = [*measured("a", 990, 0), *measured("b", 985, 900)]
    found = points({"a": "A", "b": "B"}, every, quantities("b"))
    assert [(p.title, p.clean.successes, p.robust.successes, p.seconds) for p in found] == [("B", 985, 900, 12.5)]


def test_a_figure_without_a_reliable_verdict_is_marked() -> None:
    clean, robust = measured("b", 985, 900)
    weak = replace(robust, trust=Trust(Verdict.DOUBTFUL, ()))
    titles = [points({"b": "B"}, [clean, entry], quantities("b"))[0].title for entry in (robust, weak)]
    assert titles == ["B", "B, doubtful"]


def test_the_picture_is_the_same_for_the_same_numbers() -> None:
    rows = [(f"network {i}", rate(980 - i, 1000), rate(100 * i, 1000), 10.0 * i) for i in range(8)]
    first = frontier_png(rows, "title")
    assert first == frontier_png(rows, "title")
    assert first != frontier_png(rows[:7], "title")


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [([1.0, 1.0], [True, True], 0.0), ([1.0, 1.0], [True, False], 0.5), ([0.9, 0.6], [True, True], 0.25)],
)
def test_calibration_error_by_hand(confidence: list[float], right: list[bool], expected: float) -> None:
    assert calibration_error(np.array(confidence), np.array(right)) == pytest.approx(expected)


def test_an_image_that_is_wrong_as_it_is_counts_as_attacked() -> None:
    clean, attacked = np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.7, 0.3], [0.4, 0.6]])
    assert worst_confidence(clean, attacked, np.array([0, 0])).tolist() == [0.9, 0.6]


def planned(recipe: Recipe) -> Plan:
    return plan(recipe, {"train": 60_000, "test": 10_000}, "auto", {}, lambda: pytest.fail("asked for"), ignore_event)


def attack_eps(made: Plan, network: str) -> dict[str, float]:
    """By measure: within what it attacks."""
    rows = {row.id: row.settings.model_dump() for row in made.networks[network].measures}
    return {name: settings["eps"] for name, settings in rows.items() if name in ("pgd", "white-box", "suite")}


def test_every_network_of_the_card_has_the_rows_of_all_its_columns() -> None:
    made = planned(load_recipe("full"))
    shown = [network for network in made.networks.values() if network.role in ("baseline", "defended")]
    for network in shown:
        rows = {row.id: row.settings.model_dump() for row in network.measures}
        assert {"clean", "white-box", "suite", "distance", "confidence"} <= set(rows), network.id
        assert [attack.partition(":")[0] for attack in rows["white-box"]["attacks"]] == ["fgsm", "pgd"]
        assert {rows[name]["eps"] for name in ("white-box", "suite", "confidence")} == {rows["suite"]["eps"]}
    quick = {row.id for network in planned(load_recipe("quick")).networks.values() for row in network.measures}
    assert not {"distance", "confidence"} & quick


def test_the_recipe_full_trains_the_defences_beside_the_reports() -> None:
    made = planned(load_recipe("full"))
    ids = {stage.id for stage in made.stages}
    for name in ("defended-recommended", "trades", "certified"):
        assert {f"defences/{name}", f"defences/{name}/suite", f"defences/{name}/confidence"} <= ids
        assert made.networks[f"defences/{name}"].against == "defences/undefended"
        assert attack_eps(made, f"defences/{name}") == attack_eps(made, "defences/undefended") != {}
    assert "defences/certified/certified" in ids
    assert len([network for network in made.networks.values() if network.role in ("baseline", "defended")]) >= 8
    assert not made.known
    matrix = next(stage for stage in made.stages if stage.id == "transfer/matrix")
    assert {"report-1/baseline", "defences/trades"} < set(matrix.needs)
    assert "defences/undefended" not in matrix.needs  # the baseline's weights again
    alone = planned(load_recipe("full", ['parts=["defences"]']))
    assert {network.against for network in alone.networks.values()} == {""}


def test_full_trains_control_networks_where_none_are_committed_and_standard_does_not() -> None:
    own = 'data.test="mine.npz"'
    made = {name: planned(load_recipe(name, [own])) for name in ("full", "standard")}
    stages = {name: {stage.id: stage for stage in one.stages} for name, one in made.items()}
    for network in ("report-1/baseline", "report-1/badnets", "report-2/baseline"):
        for name, trains in (("full", True), ("standard", False)):
            stage = stages[name][f"{network}/backdoor-scan"]
            assert (stage.settings["own"]["calibrate"], "train" in stage.data) == (trains, trains)
    first, later = (stages["full"][f"report-1/{name}/backdoor-scan"].cost_seconds for name in ("baseline", "badnets"))
    assert first > 10 * later  # control networks are trained once an architecture
    removal = stages["full"]["report-1/badnets/backdoor-removal"]
    alone = planned(load_recipe("full", [own, 'parts=["report-1","backdoors"]']))  # no scan before it
    first_removal = next(stage for stage in alone.stages if stage.id == removal.id)
    assert first_removal.cost_seconds > removal.cost_seconds + first / 2
    mnist = {stage.id: stage for stage in planned(load_recipe("full")).stages}
    assert mnist["report-1/baseline/backdoor-scan"].cost_seconds < 2 * later
    asked = {stage.id: stage for stage in planned(load_recipe("full", ["scan.control_networks=40"])).stages}
    assert asked["report-1/baseline/backdoor-scan"].cost_seconds > 10 * later


@pytest.mark.parametrize(
    ("modes", "first"),
    [(["poisoned"], "poisoned"), (["poisoned", "baseline"], "baseline"), (["adv_only"], "baseline")],
)
def test_the_first_scan_of_an_architecture_carries_the_training_whatever_the_modes(
    modes: list[str], first: str
) -> None:
    changes = ['data.test="mine.npz"', 'parts=["report-2","scan","backdoors"]', f"report_2.modes={json.dumps(modes)}"]
    made = planned(load_recipe("full", changes))
    own = {stage.id: stage.settings["own"] for stage in made.stages if stage.id.endswith("/backdoor-scan")}
    assert [name for name, settings in own.items() if not settings["later"]] == [f"report-2/{first}/backdoor-scan"]
    assert next(iter(own)) == f"report-2/{first}/backdoor-scan"


def test_full_after_standard_repeats_no_scan_against_committed_control_networks() -> None:
    standard, full = (
        {stage.id: stage for stage in planned(load_recipe(name)).stages if stage.id.endswith("/backdoor-scan")}
        for name in ("standard", "full")
    )
    assert set(standard) < set(full)
    assert {name: (full[name].settings, full[name].needs, full[name].data) for name in standard} == {
        name: (stage.settings, stage.needs, stage.data) for name, stage in standard.items()
    }


def test_standard_shows_the_defences_that_an_earlier_run_of_full_left() -> None:
    """The same stages as those of `full`, settings and all, so that the store knows them; none of them is run."""
    made, full = planned(load_recipe("standard")), planned(load_recipe("full"))
    of_full = {stage.id: stage for stage in full.stages if stage.id.startswith("defences/")}
    assert {stage.id: (stage.settings, stage.needs, stage.data) for stage in made.known} == {
        name: (stage.settings, stage.needs, stage.data) for name, stage in of_full.items()
    }
    assert not {stage.id for stage in made.stages} & set(of_full)
    assert not planned(load_recipe("quick")).known
