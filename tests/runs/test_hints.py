"""A hint is tried: what it says to do instead works, in a verb's request and in a recipe."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.cli.main import run_command
from secure_ai.core.budget import parse_budget
from secure_ai.core.errors import SecureAIError
from secure_ai.core.result import Replay
from secure_ai.data.dataset import Dataset
from secure_ai.red.evasion.suite.parse import parse_attacks, parse_suite
from secure_ai.runs.recipe.config import surroundings
from secure_ai.runs.recipe.prepare import prepare
from secure_ai.runs.recipe.recipe import load_recipe
from secure_ai.runs.verbs.replay import _place
from secure_ai.runs.verbs.run import run


def hint_of(request: Callable[[], object]) -> str:
    with pytest.raises(SecureAIError) as caught:
        request()
    assert caught.value.hint
    return caught.value.hint


def meant(hint: str) -> str:
    """The name in `did you mean NAME?`."""
    found = re.fullmatch(r"did you mean (\S+)\?", hint)
    assert found is not None, hint
    return found[1]


def test_the_nearest_recipe_and_the_nearest_key_are_there() -> None:
    name = meant(hint_of(lambda: load_recipe("standrad")))
    assert load_recipe(name).name == "standard"
    key = meant(hint_of(lambda: load_recipe("quick", ["report_1.epoch=7"])))
    assert load_recipe("quick", [f"report_1.{key}=7"]).report_1.epochs == 7


@pytest.mark.parametrize(
    ("typed", "wanted"), [("pdg", "{}"), ("pgd:step=3", "pgd:{}=3"), ("apgd-c", "{}"), ("square:querybudget=9", "")]
)
def test_the_nearest_attack_and_setting_are_there(typed: str, wanted: str) -> None:
    name = meant(hint_of(lambda: parse_attacks(typed)))
    text = wanted.format(name) if wanted else f"square:{name}=9"
    assert parse_attacks(text)[0].text.startswith(text.partition("=")[0].partition(":")[0])


def test_an_eps_of_pixel_values_is_the_fraction_that_is_told() -> None:
    hint = hint_of(lambda: parse_budget("linf", "8", 784))
    told = re.search(r"\d+/255", hint)
    assert told is not None
    assert parse_budget("linf", told[0], 784).eps == pytest.approx(8 / 255)


def test_fewer_steps_are_accepted_and_each_attack_once() -> None:
    assert "steps" in hint_of(lambda: parse_suite("pgd:steps=90000:restarts=900", "linf", "gradients", 10**6, 10))
    assert parse_suite("pgd:steps=90:restarts=9", "linf", "gradients", 10**6, 10).plans
    twice = ",".join([parse_attacks("fast")[0].text, "fast"])
    assert "suite" in hint_of(lambda: parse_attacks(twice))
    assert parse_attacks("fast")
    assert hint_of(lambda: parse_attacks("fast:steps=3"))
    assert parse_attacks("pgd:steps=3")  # the attack with the setting, as told


def test_a_recipe_where_a_model_is_expected_is_named_by_its_flag(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path]
) -> None:
    assert run_command(["run", "quick", "--json"]) == 2
    hint = json.loads(capsys.readouterr().out)["error"]["hint"]
    given = [w for role, path in digit_files.items() for w in ("--set", f"data.{role}={json.dumps(str(path))}")]
    assert run_command(["run", *shlex.split(hint), *given, "--dry-run"]) == 0


def test_code_and_paths_that_files_may_not_name_may_be_named_by_flags(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = 'name = "mine"\ntitle = "t"\nparts = ["assess"]\nlimit_seconds = 9\n'
    file.write_text(text + '[assess]\nsurrogate_arch = "helpers.py:make"\n')
    hint = hint_of(lambda: load_recipe(str(file)))
    flag, change = hint.partition("--set ")[1:]
    assert flag
    assert load_recipe("assess", [change]).assess.surrogate_arch == "helpers.py:make"
    (tmp_path / "secure-ai.toml").write_text('[data]\ntest = "../elsewhere.npz"\n')
    assert "command line" in hint_of(lambda: surroundings({}, tmp_path))
    assert load_recipe("assess", ['data.test="../elsewhere.npz"']).data.test == "../elsewhere.npz"


def test_what_is_no_image_of_the_run_has_a_nearest_one() -> None:
    images = np.zeros((40, 1, 4, 4), dtype=np.uint8)
    data = Dataset(images, np.arange(40) % 2, "x", 2).select(np.arange(0, 40, 7), "every seventh")
    record: Any = Replay.__new__(Replay)
    hint = hint_of(lambda: _place(data, record, 9))
    assert _place(data, record, int(hint.split()[-1])) == 1


@pytest.fixture
def changes(digit_files: dict[str, Path]) -> list[str]:
    return [f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()]


def test_the_command_of_a_run_is_one(changes: list[str]) -> None:
    """`measure it again: COMMAND`, of a finding that has no replay."""
    words = shlex.split(prepare("quick", None, None, None, changes, 3, "auto").command)
    assert words[0] == "secure-ai"
    assert run_command([*words[1:], "--dry-run"]) == 0


def test_a_folder_whose_earlier_results_cannot_be_removed_has_two_ways_out(tmp_path: Path, changes: list[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    store = tmp_path / "out" / ".store"
    store.symlink_to(tmp_path / "elsewhere")

    def request(name: str) -> int:
        return run("quick", changes=changes, out=tmp_path / name, fresh=True, time_budget=0.001).exit_code

    assert "--out" in hint_of(lambda: request("out"))
    assert request("another") == 3  # nothing fits the budget: it ran
    store.unlink()
    assert request("out") == 3
