from __future__ import annotations

import time
from pathlib import Path

import pytest

from secure_ai.core.errors import ConfigError
from secure_ai.runs.recipe.config import Change, parse_change, parse_toml, surroundings
from secure_ai.runs.recipe.origins import Origin
from secure_ai.runs.recipe.recipe import load_recipe


def test_a_flag_beats_the_environment_beats_the_project_beats_the_recipe_beats_the_default(tmp_path: Path) -> None:
    default = load_recipe("report-1").report_1.epochs
    quick = load_recipe("quick").report_1.epochs
    (tmp_path / "secure-ai.toml").write_text("[report_1]\nepochs = 11\n")
    project = surroundings({}, tmp_path)
    environment = surroundings({"SECURE_AI_REPORT_1__EPOCHS": "12", "HOME": "x"}, tmp_path)
    flag = [*environment.changes, parse_change("report_1.epochs=13")]
    assert [
        default,
        quick,
        load_recipe("quick", project.changes).report_1.epochs,
        load_recipe("quick", environment.changes).report_1.epochs,
        load_recipe("quick", flag).report_1.epochs,
    ] == [5, 3, 11, 12, 13]


def test_recipe_and_folder_can_be_set_around_a_run(tmp_path: Path) -> None:
    (tmp_path / "secure-ai.toml").write_text('recipe = "quick"\nout = "here"\nseed = 3\n')
    around = surroundings({"SECURE_AI_OUT": "there"}, tmp_path)
    assert around.options == {"recipe": "quick", "out": "there"}
    assert around.changes == (Change("seed", 3, "secure-ai.toml", Origin.PROJECT),)
    assert surroundings({}, tmp_path / "empty").changes == ()


@pytest.mark.parametrize(
    ("environment", "project", "words"),
    [
        ({"SECURE_AI_SEEED": "1"}, "", ["SECURE_AI_SEEED", "seed"]),
        ({"SECURE_AI_SEED": "one"}, "", ["SECURE_AI_SEED", "integer"]),
        ({}, "[report_1]\nepoch = 3\n", ["secure-ai.toml", "report_1.epoch", "epochs"]),
        ({}, "[assess]\ncurve = [0.5, -1.0]\n", ["secure-ai.toml, assess.curve.1"]),
        ({}, "recipe = 3\n", ["secure-ai.toml", "recipe"]),
        ({}, "recipe = \n", ["secure-ai.toml", "TOML"]),
    ],
)
def test_an_error_names_source_key_and_nearest(
    tmp_path: Path, environment: dict[str, str], project: str, words: list[str]
) -> None:
    (tmp_path / "secure-ai.toml").write_text(project)
    with pytest.raises(ConfigError) as caught:
        load_recipe("quick", surroundings(environment, tmp_path).changes)
    assert all(word in str(caught.value) for word in words)


DEEP = "[a]\n" + "\n".join(f"[a{'.b' * depth}]" for depth in range(1, 20))


@pytest.mark.parametrize(
    "text", [".".join("a" * 200_000) + " = 1", '"\u2028".' * 20_000 + "a = 1", "x = " + "[" * 90 + "]" * 90, DEEP],
    ids=["dotted", "quoted", "lists", "sections"],
)  # fmt: skip
def test_toml_that_would_cost_more_than_its_size_is_refused(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError):
        parse_toml(text, "r.toml")
    assert time.process_time() - started < 1


def test_dots_of_a_usual_recipe_are_fine() -> None:
    numbers = ", ".join(f"{n / 7:.3f}" for n in range(50))
    assert len(parse_toml(f"assess.curve = [{numbers}]", "r.toml")["assess"]["curve"]) == 50
