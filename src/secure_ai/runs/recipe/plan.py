"""From a recipe to the networks and stages of a run. Imports torch: the networks' rows do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from secure_ai.core.events import EventSink
from secure_ai.data.dataset import Dataset
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.cases.user import networks as user
from secure_ai.runs.cases.user.given import JudgedFiles
from secure_ai.runs.engine.execute import code_digest
from secure_ai.runs.engine.measure import Joint, Network
from secure_ai.runs.engine.planner import Planner
from secure_ai.runs.engine.stage import Stage
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.audits import audit_rows
from secure_ai.runs.stages.transfer import TransferSettings, matrix_row


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run does.

    Attributes:
        networks: by id, in the order made.
        answers: id of a stage -> ids of the register's rows that it gives evidence for.
        known: stages of networks that are shown where an earlier run left their results in the store; never run.
    """

    networks: Mapping[str, Network]
    stages: Sequence[Stage]
    answers: Mapping[str, tuple[str, ...]]
    known: Sequence[Stage] = ()


def plan(
    recipe: Recipe,
    sizes: Mapping[str, int],
    precision: Literal["auto", "float32"],
    models: Mapping[str, JudgedFiles],
    test: Callable[[], Dataset],
    events: EventSink,
) -> Plan:
    """The networks and stages of `recipe`, in the order run.

    Args:
        sizes: images by role (`train`, `test`), for the forecast.
        models: of the user's own, judged, by network id.
        test: the test images; asked for where there are models of the user's.
        events: told of the user's code before it runs.

    Raises:
        ConfigError: a row that cannot be run (`Planner.stages`).
    """
    cases = [case for case in CASES if case.id in recipe.parts]
    networks = [network for case in cases for network in case.networks(recipe)]
    joints: list[Joint[Any]] = [joint for case in cases for joint in case.joints(recipe)]
    joints += _transfer_matrix(recipe, networks)
    if models:
        networks += user.networks(models, recipe)
        joints += user.joints(recipe, test().input_shape)
    if "audit" in recipe.parts:
        joints += audit_rows(code_digest(), tuple(story for case in CASES for story in case.stories))
    known = [
        network
        for case in CASES
        if case.id not in recipe.parts and case.shown_beside and case.shown_beside <= set(recipe.parts)
        for network in case.networks(recipe)
    ]
    by_id = {network.id: network for network in (*networks, *known)}
    planner = Planner(
        networks=by_id, seed=recipe.seed, sizes=sizes, precision=precision, given=user.given(models, test, events)
    )
    stages = planner.stages(joints)
    beside = {network.id for network in known}
    beside |= {f"{network.id}/{row.id}" for network in known for row in network.measures}
    answers = {f"{network.id}/{row.id}": row.answers for network in networks for row in network.measures}
    answers |= {joint.id: joint.answers for joint in joints}
    return Plan(
        by_id,
        [stage for stage in stages if stage.id not in beside],
        {stage: rows for stage, rows in answers.items() if rows},
        [stage for stage in stages if stage.id in beside],
    )


def _transfer_matrix(recipe: Recipe, networks: Sequence[Network]) -> list[Joint[Any]]:
    """The matrix over the networks that were not poisoned, each once; none where there is only one."""
    compared = [network.id for network in networks if network.role != "poisoned" and not network.copy]
    if len(compared) < 2:
        return []
    cases = [case for case in CASES if case.id in recipe.parts]
    pictures = tuple(
        (*case.gallery, tuple(name for name in compared if name in {one.id for one in case.networks(recipe)}))
        for case in cases
    )
    settings = TransferSettings(
        id="transfer/matrix",
        norm="linf",
        eps=cases[0].eps(recipe),
        n=recipe.transfer.n,
        steps=recipe.transfer.steps,
        pictures=pictures,
    )
    return [matrix_row(settings, compared)]
