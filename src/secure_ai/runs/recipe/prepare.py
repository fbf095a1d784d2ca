"""A run that was asked for, checked before anything is written: recipe, the user's files, data, attacks, stages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from secure_ai.core.errors import LeakError, ShapeError, UsageError
from secure_ai.core.events import EventSink
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import refuse_leak
from secure_ai.runs.cases.case import Case
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.cases.user.given import judge_files
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.config import Change
from secure_ai.runs.recipe.origins import Origin
from secure_ai.runs.recipe.recipe import Recipe, load_recipe
from secure_ai.runs.recipe.requests import refuse_attacks

if TYPE_CHECKING:
    from secure_ai.runs.recipe.plan import Plan

MOST_SHARED = 0.01  # fraction of test images that may be training images: MNIST has none


@dataclass(slots=True)
class EarlyEvents:
    """A sink that keeps events until there is a log to write them to: a refused input writes nothing."""

    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    log: EventSink | None = None

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep the event, or pass it on."""
        if self.log is None:
            self.kept.append((kind, data))
        else:
            self.log(kind, data)

    def pass_on(self, log: EventSink) -> None:
        """From now on everything goes to `log`, what was kept first."""
        self.log = log
        for kind, data in self.kept:
            log(kind, data)


@dataclass(slots=True, eq=False)
class DataSets:
    """Data sets by role, each loaded once and only when a stage or a key asks for it."""

    recipe: Recipe
    events: EventSink
    loaded: dict[str, Dataset] = field(default_factory=dict)

    def get(self, role: str) -> Dataset:
        """The data set of `train` or `test`."""
        if role not in self.loaded:
            section, seed = self.recipe.data, self.recipe.seed
            if role == "train":
                dataset = load_data(section.train, split="train", resize=section.resize, seed=seed, events=self.events)
            else:
                dataset = load_data(
                    section.test, split=section.split, n=section.n, resize=section.resize, seed=seed,
                    events=self.events,
                )  # fmt: skip
            self.loaded[role] = dataset
        return self.loaded[role]

    def digest(self, role: str) -> str:
        """SHA-256 of that data set."""
        return self.get(role).digest


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Everything is checked, nothing is written yet.

    Attributes:
        command: the line that does the same again.
    """

    recipe: Recipe
    model: ModelSpec | None
    sets: DataSets
    events: EarlyEvents
    plan: Plan
    command: str


def prepare(
    name: str | None,
    model: ModelSpec | None,
    data: str | None,
    mode: str | None,
    changes: Sequence[Change | str],
    seed: int | None,
    precision: Literal["auto", "float32"],
) -> Prepared:
    """Check a request as a whole; arguments as of the verb `run`.

    Raises:
        SecureAIError: recipe, model file, data, attacks or rows that cannot be used; the cheapest refusal first, and
            none of them loads torch but those of attacks and rows.
    """
    name = name or ("assess" if model else "report-2" if mode else "standard")
    flags = {"report_2.modes": None if mode is None else [mode], "data.test": data, "seed": seed}
    every = [
        *changes,
        *(Change(key, value, "a flag", Origin.FLAG) for key, value in flags.items() if value is not None),
    ]
    recipe = load_recipe(name, every)
    if model is not None and "assess" not in recipe.parts:
        raise UsageError("this recipe assesses no network", where="--model", expected="--recipe assess", got=name)
    if model is not None and "test" not in recipe.data.model_fields_set:
        raise UsageError("no data named", where="--data", expected="the images to attack the model on")
    if mode is not None and not {"report-2"} <= set(recipe.parts) <= {"report-2", "audit"}:
        raise UsageError("modes are report 2's", where="--mode", expected="--recipe report-2", got=name)
    events = EarlyEvents()
    sets = DataSets(recipe, events)
    cases = [case for case in CASES if case.id in recipe.parts]
    if cases:
        _refuse_data(cases, sets)
    models = judge_files(recipe, model, events)  # its file first: a bad one asks for no data
    refuse_attacks(recipe, model.access if model else None, bool(cases), lambda: sets.get("test"))
    sizes = {role: len(dataset) for role, dataset in sets.loaded.items()}
    from secure_ai.runs.recipe.plan import plan

    planned = plan(recipe, sizes, precision, models, lambda: sets.get("test"), events)
    return Prepared(recipe, model, sets, events, planned, _command(name, model, every, precision))


def _refuse_data(cases: Sequence[Case], sets: DataSets) -> None:
    """Data that the cases' networks cannot take, or whose test images are in the training data."""
    shared, n = refuse_leak(sets.get("train"), sets.get("test")), len(sets.get("test"))
    if shared > MOST_SHARED * n:
        raise LeakError(
            "test images are in the training data too",
            where="data",
            expected=f"<= {MOST_SHARED:.0%}",
            got=f"{shared} of {n}",
        )
    for case in cases:
        for role in ("train", "test"):
            dataset = sets.get(role)
            if dataset.input_shape != case.input_shape or dataset.classes > case.classes:
                raise ShapeError(
                    "the reports' networks cannot take this data",
                    where=f"data.{role}",
                    expected=f"images {case.input_shape} of at most {case.classes} classes",
                    got=f"{dataset.input_shape}, {dataset.classes} classes",
                )


def _command(name: str, model: ModelSpec | None, changes: Sequence[Change | str], precision: str) -> str:
    """The command line that does the same again."""
    words = ["secure-ai", "run", "--recipe", name, *(model.words() if model else ())]
    for change in changes:
        words += ["--set", change if isinstance(change, str) else f"{change.key}={json.dumps(change.value)}"]
    return shlex.join(words + (["--precision", precision] if precision != "auto" else []))
