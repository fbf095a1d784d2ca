"""Recipes: what a run does, as one checked value. `recipes/*.toml` hold them; `--set` and flags change single keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from secure_ai.core.errors import ConfigError
from secure_ai.runs.cases.defences.settings import DefencesSection
from secure_ai.runs.cases.report_1.settings import Report1Section
from secure_ai.runs.cases.report_2.settings import Report2Section
from secure_ai.runs.recipe.config import MAX_TOML_DEPTH, Change, flatten, parse_change, parse_toml, read_toml
from secure_ai.runs.recipe.origins import Origin, refuse_named
from secure_ai.runs.recipe.section import Section

Part = Literal["report-1", "report-2", "suite", "defences", "scan", "backdoors", "assess", "audit"]


Factor = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


Eps = Annotated[str, BeforeValidator(lambda eps: f"{eps:g}" if type(eps) in (int, float) else eps)]


class DataSection(Section):
    """Where the data comes from, in the forms of `--data`."""

    train: str = "mnist:train"
    test: str = "mnist:test"
    split: Literal["train", "test", "val"] = "test"
    n: int | None = Field(None, ge=1)
    resize: int | None = Field(None, ge=1, le=1024)


class SuiteSection(Section):
    """The suite of attacks on baseline and defended networks, and what else the defence card tells of them."""

    attack: str = "fast"
    n: int = Field(1000, ge=1)
    distance_n: int = Field(100, ge=1)
    distance_steps: int = Field(50, ge=1, le=100_000)
    confidence_n: int = Field(300, ge=1)


class ScanSection(Section):
    """The scan for a backdoor: how many control networks are trained; unset: 40, and only where none are committed."""

    control_networks: int | None = Field(None, ge=19, le=1_000)


class TransferSection(Section):
    """The transfer matrix of a run with several networks."""

    n: int = Field(500, ge=1)
    steps: int = Field(4, ge=1, le=100_000)


class AssessSection(Section):
    """How a network of the user's own is assessed; `surrogate` is another network's file."""

    attack: str = "fast"
    norm: Annotated[Literal["linf", "l2", "l1", "l0"], BeforeValidator(_lower)] = "linf"
    eps: Eps = "0.1"
    n: int = Field(1000, ge=1)
    curve: list[Factor] = Field([0.0, 0.25, 0.5, 1.0, 1.5, 2.0], max_length=50)
    distance_n: int = Field(200, ge=1)
    distance_steps: int = Field(100, ge=1, le=100_000)
    surrogate: str | None = None
    surrogate_arch: str | None = None


class Recipe(Section):
    """One recipe, whole."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    title: str = Field(max_length=200)
    deviates: str = ""
    seed: int = Field(42, ge=0, le=2**63 - 1)
    parts: list[Part]
    limit_seconds: int = Field(ge=1)
    data: DataSection = DataSection()
    report_1: Report1Section = Report1Section()
    report_2: Report2Section = Report2Section()
    defences: DefencesSection = DefencesSection()
    assess: AssessSection = AssessSection()
    suite: SuiteSection = SuiteSection()
    scan: ScanSection = ScanSection()
    transfer: TransferSection = TransferSection()


def recipe_names() -> list[str]:
    """The built-in recipes."""
    folder = resources.files("secure_ai") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_file: str, changes: Sequence[Change | str] = ()) -> Recipe:
    """A recipe by name or from a TOML file, with changes of single keys; a later one wins.

    Args:
        changes: `Change`s, or texts such as `report_1.epochs=1`.

    Raises:
        ConfigError: no such recipe, malformed TOML, a key or value that does not fit, or code named in a recipe's
            file; the message names the source, the key, what was expected and the nearest known key.
    """
    names = recipe_names()
    if name_or_file in names:
        text = (resources.files("secure_ai") / "recipes" / f"{name_or_file}.toml").read_text(encoding="utf-8")
        content = parse_toml(text, name_or_file)
    elif name_or_file.endswith(".toml"):
        content = read_toml(name_or_file)
        for named in flatten(content, name_or_file, Origin.RECIPE):
            refuse_named(named.key, named.value, named.origin, named.source, Path(name_or_file).parent)
    else:
        nearest = difflib.get_close_matches(name_or_file, names, n=1)
        raise ConfigError(
            "no such recipe",
            where="--recipe",
            expected=f"{', '.join(names)}, or a file that ends in .toml",
            got=name_or_file,
            hint=f"did you mean {nearest[0]}?" if nearest else "",
        )
    sources: dict[str, str] = {}
    for item in changes:
        change = parse_change(item) if isinstance(item, str) else item
        _apply(content, change)
        sources[change.key] = change.source
    return _validated(content, name_or_file, sources)


def _apply(content: dict[str, Any], change: Change) -> None:
    path = change.key.split(".")
    if len(path) > MAX_TOML_DEPTH:
        raise ConfigError("nested too deep", where=change.source, expected=f"<= {MAX_TOML_DEPTH} parts", got=change.key)
    for name in path[:-1]:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise ConfigError("not a section", where=f"{change.source}, {change.key}", got=name)
    content[path[-1]] = change.value


def _validated(content: dict[str, Any], recipe: str, sources: Mapping[str, str]) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        nearest = difflib.get_close_matches(str(first["loc"][-1]) if first["loc"] else "", _known_keys(), n=1)
        unknown = first["type"] == "extra_forbidden"
        raise ConfigError(
            "unknown key" if unknown else "a key is missing" if first["type"] == "missing" else "a value does not fit",
            where=f"{_source(key, sources) or recipe}, {key}",
            expected="a key of the recipe" if unknown else first["msg"],
            got=key if unknown else repr(first["input"]),
            hint=f"did you mean {nearest[0]}?" if unknown and nearest else "",
        ) from None


def _source(key: str, sources: Mapping[str, str]) -> str:
    """Who set `key`, or the list or section that it stands in; empty for the recipe itself."""
    parts = key.split(".")
    return next((sources[k] for i in range(len(parts), 0, -1) if (k := ".".join(parts[:i])) in sources), "")


def _known_keys() -> list[str]:
    sections = (
        Recipe, DataSection, Report1Section, Report2Section, DefencesSection, AssessSection, SuiteSection,
        ScanSection, TransferSection,
    )  # fmt: skip
    return sorted({name for section in sections for name in section.model_fields})
