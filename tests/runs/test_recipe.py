from __future__ import annotations

from pathlib import Path

import pytest

from secure_ai.core.errors import ConfigError, SecureAIError
from secure_ai.runs.recipe.recipe import load_recipe, recipe_names

GOOD = 'name = "mine"\ntitle = "t"\nparts = ["audit"]\nlimit_seconds = 10\n'


def test_every_built_in_recipe_loads_under_its_own_name() -> None:
    assert recipe_names() == ["assess", "deep", "full", "quick", "report-1", "report-2", "standard"]
    assert all(load_recipe(name).name == name for name in recipe_names())


def test_a_file_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    recipe = load_recipe(str(path), ["report_1.epochs=3", "seed=7", "data.test=mnist:test~100"])
    assert (recipe.name, recipe.report_1.epochs, recipe.seed, recipe.data.test) == ("mine", 3, 7, "mnist:test~100")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("report_1.epoch=3", "did you mean epochs"),
        ("report_1.epochs=0", "greater than or equal to 1"),
        ("report_1.epochs=10000", "less than or equal to 1000"),
        ('report_1.epochs="5"', "valid integer"),
        ("report_1.epochs=2.0", "valid integer"),
        ("report_1.epochs=true", "valid integer"),
        ("report_1.eps=nan", "less than or equal to 1"),
        ("report_1.eps=1.5", "less than or equal to 1"),
        ('report_2.modes=["all"]', "baseline"),
        ('parts=["report-9"]', "report-1"),
        ("seed=-1", "greater than or equal to 0"),
        ("scan.control_networks=18", "greater than or equal to 19"),  # no verdict rests on fewer
        ("nonsense", "KEY=VALUE"),
        ("a..b=1", "KEY=VALUE"),
        ("name.x=1", "not a section"),
    ],
)
def test_a_bad_change_says_what_is_wrong(change: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("standard", [change])
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"name = ",
        b"\xff\xfe",
        b'name = "x"',
        GOOD.encode() + b'__class__ = "x"\n',
        GOOD.encode() + b"seed = 1\nseed = 2\n",
        GOOD.encode().replace(b"10", b"-1"),
        b"a = " + b"[" * 50_000,
        GOOD.encode() + b"[data]\ntrain = 3\n",
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_recipe(str(path))


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe("standart")
    assert "standard" in refused.value.hint


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SecureAIError):
        load_recipe(str(tmp_path / "none.toml"))
