"""A case: networks with their published figures, their STRIDE rows and their files. Free of torch until planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.audit.demonstrations import Story
from secure_ai.core.result import Result
from secure_ai.runs.engine.measure import Joint, Network
from secure_ai.runs.recipe.recipe import Part, Recipe
from secure_ai.runs.recipe.section import Section
from secure_ai.runs.reproduction.judge import Published
from secure_ai.threats.register import Row


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of measured values that a case names.

    Attributes:
        kind: `confusion` (of one entry of `confusions`), `history` (of one network's training) or `bars` (of rates).
        shows: label -> id of what is shown; for a history, the quantity -> the network's id.
    """

    name: str
    title: str
    kind: str
    shows: Mapping[str, str]


def _no_joints(recipe: Recipe) -> tuple[Joint[Any], ...]:
    return ()


def _no_files(found: Result, recipe: Recipe) -> Mapping[str, bytes]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One case.

    Attributes:
        id: the part of a recipe that asks for it.
        section: its own settings in a recipe; the defaults are its protocol.
        networks, joints: rows; importing torch is theirs to do.
        eps: of its attacks, in linf.
        input_shape, classes: of the data that its networks take.
        gallery: id and title of the picture of its adversarial examples.
        stories: weaknesses of its published code, to be shown again.
        files: the run's result and the case's settings -> files by name.
        shown_beside: parts of a recipe that has them all, but not this case, whose report shows what an earlier run
            of the same folder found for this case's networks.
    """

    id: Part
    section: Callable[[Recipe], Section]
    networks: Callable[[Recipe], tuple[Network, ...]]
    eps: Callable[[Recipe], float]
    gallery: tuple[str, str]
    joints: Callable[[Recipe], tuple[Joint[Any], ...]] = _no_joints
    input_shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    figures: tuple[Published, ...] = ()
    threats: tuple[Row, ...] = ()
    charts: tuple[Chart, ...] = ()
    stories: tuple[Story, ...] = ()
    files: Callable[[Result, Recipe], Mapping[str, bytes]] = _no_files
    shown_beside: frozenset[Part] = frozenset()
