"""Code and paths that a source of settings names: a canary for every source, and what each may still name."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_ai.core.errors import ConfigError
from secure_ai.runs.recipe.config import parse_change, surroundings
from secure_ai.runs.recipe.origins import ATTACK_KEYS, CODE_KEYS, PATH_KEYS, Origin, refuse_named
from secure_ai.runs.recipe.recipe import Recipe, load_recipe

CODE = "canary.py:make"


def project(folder: Path, text: str) -> None:
    (folder / "secure-ai.toml").write_text(text)


def string_keys() -> set[str]:
    """Every key of a recipe that holds free text."""
    found = set()
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        fields = getattr(section, "model_fields", None)
        for key, inner in ({name: field} if fields is None else {f"{name}.{k}": f for k, f in fields.items()}).items():
            if inner.annotation in (str, str | None):
                found.add(key)
    return found


def test_every_text_key_of_a_recipe_is_decided() -> None:
    neither = {"name", "title", "deviates", "assess.eps", "report_1.badnets_place"}
    assert string_keys() - neither <= CODE_KEYS | PATH_KEYS | ATTACK_KEYS


@pytest.mark.parametrize("key", sorted(CODE_KEYS))
@pytest.mark.parametrize("value", [CODE, "canary:make", "os:getcwd"])
def test_code_is_named_by_a_flag_only(tmp_path: Path, key: str, value: str) -> None:
    section, name = key.split(".")
    project(tmp_path, f'[{section}]\n{name} = "{value}"\n')
    with pytest.raises(ConfigError) as from_project:
        surroundings({}, tmp_path)
    variable = f"SECURE_AI_{section}__{name}".upper()
    with pytest.raises(ConfigError) as from_environment:
        surroundings({variable: value}, tmp_path / "elsewhere")
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "r"\ntitle = "r"\nparts = []\nlimit_seconds = 9\n[{section}]\n{name} = "{value}"\n')
    with pytest.raises(ConfigError) as from_recipe:
        load_recipe(str(recipe))
    for caught, source in ((from_project, "secure-ai.toml"), (from_environment, variable), (from_recipe, "r.toml")):
        assert source in caught.value.where
        assert key in caught.value.where
        assert caught.value.got == value
    assert load_recipe("assess", [parse_change(f"{key}={value}")]).assess.surrogate_arch == value


@pytest.mark.parametrize("key", sorted(CODE_KEYS))
@pytest.mark.parametrize("origin", list(Origin))
def test_a_built_in_architecture_may_be_named_anywhere(tmp_path: Path, key: str, origin: Origin) -> None:
    refuse_named(key, "report1-cnn", origin, "here", tmp_path)


@pytest.mark.parametrize("key", sorted(PATH_KEYS | ATTACK_KEYS))
@pytest.mark.parametrize("path", ["/etc/hostname", "../x.npz", "a/../../x.npz", "link/x.npz"])
def test_paths_of_a_project_file_stay_beneath_its_folder(tmp_path: Path, key: str, path: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    value = f"fast, examples:{path}" if key in ATTACK_KEYS else path
    with pytest.raises(ConfigError) as caught:
        refuse_named(key, value, Origin.PROJECT, "secure-ai.toml", folder)
    assert caught.value.got == path
    refuse_named(key, value, Origin.FLAG, "a flag", folder)
    refuse_named(key, value, Origin.ENVIRONMENT, "environment variable X", folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.test", "mnist:test~1000"),
        ("data.test", "data/x.npz"),
        ("data.test", "./data/../x.npz"),
        ("out", "outputs"),
        ("recipe", "standard"),
        ("suite.attack", "fast,examples:saved.npz"),
        ("assess.eps", "/etc/passwd"),
    ],
)
def test_what_stays_beneath_is_taken(tmp_path: Path, key: str, value: str) -> None:
    refuse_named(key, value, Origin.PROJECT, "secure-ai.toml", tmp_path)


def test_a_recipe_that_the_project_file_names_is_held_to_the_same(tmp_path: Path) -> None:
    head = 'name = "r"\ntitle = "r"\nparts = []\nlimit_seconds = 9\n'
    project(tmp_path, 'recipe = "r.toml"\n')
    (tmp_path / "r.toml").write_text(head + '[data]\ntest = "/etc/hostname"\n')
    with pytest.raises(ConfigError) as caught:
        surroundings({}, tmp_path)
    assert caught.value.got == "/etc/hostname"
    (tmp_path / "r.toml").write_text(head + '[data]\ntest = "x.npz"\n')
    assert surroundings({}, tmp_path).options == {"recipe": "r.toml"}


@pytest.mark.parametrize("key", sorted(CODE_KEYS))
def test_a_section_in_one_value_names_no_code_either(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError) as caught:
        surroundings({f"SECURE_AI_{section}".upper(): f'{{{name} = "{CODE}"}}'}, tmp_path)
    assert caught.value.got == CODE
    kept = surroundings({f"SECURE_AI_{section}".upper(): f'{{{name} = "report1-cnn"}}'}, tmp_path)
    assert load_recipe("assess", kept.changes).assess.surrogate_arch == "report1-cnn"


@pytest.mark.parametrize("key", sorted(key for key in PATH_KEYS | ATTACK_KEYS if "." in key))
def test_a_section_in_one_value_names_no_path_outside_either(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    value = "examples:../x.npz" if key in ATTACK_KEYS else "../x.npz"
    with pytest.raises(ConfigError) as caught:
        refuse_named(section, {name: value}, Origin.PROJECT, "secure-ai.toml", tmp_path)
    assert caught.value.got == "../x.npz"
