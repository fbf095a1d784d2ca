"""From finished stages to the `Report`: what was measured, compared, found, and what was not tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import secure_ai
from secure_ai.core.machine import describe_machine
from secure_ai.core.result import Model
from secure_ai.core.results import Measurement
from secure_ai.core.sections import Section
from secure_ai.core.versions import versions
from secure_ai.data.splits import sample
from secure_ai.report.model import Data, Report, Run, Tool
from secure_ai.runs.cases.case import Case
from secure_ai.runs.cases.table import CASES
from secure_ai.runs.engine.execute import code_digest, results_digest
from secure_ai.runs.engine.result_file import FACTS_NAME
from secure_ai.runs.judgements import judge_measurements
from secure_ai.runs.outputs.agree import refuse_disagreeing
from secure_ai.runs.outputs.comparisons import comparisons
from secure_ai.runs.outputs.defence_card import class_card, defence_card
from secure_ai.runs.outputs.facts import RunFacts
from secure_ai.runs.recipe.deviations import deviations
from secure_ai.runs.reproduction.reproduction import compare
from secure_ai.runs.reproduction.values import measured_in
from secure_ai.threats.register import Evidence, Row, threat_rows

ALWAYS_NOT_TESTED = (
    "attacks designed for a model's own defence, where it has one",
    "other training seeds: every interval covers these images and this one network",
    "an audit of the model file (it was read safely)",
)

NO_SUITE = (
    "a suite of attacks strong enough for a reliable robust accuracy (APGD, a targeted margin and a black-box attack): "
    "the recipe standard has one"
)

NO_DEFENCES = "defences that hold (PGD training, TRADES, a certified network): secure-ai run --recipe full trains them"


def assemble(facts: RunFacts) -> Report:
    """The content of report.json, version 1. Raises FormatError where what the stages found does not agree."""
    found = facts.result
    measurements = tuple(replace(entry, replay=facts.command) for entry in found.measurements)
    models = (*_trained_models(facts), *found.models)
    own = (replace(one, reproduce=one.reproduce or facts.command) for one in found.findings)
    findings = (*judge_measurements(measurements, models), *own)
    cases = _cases(facts)
    departs = deviations(facts.recipe, facts.data)
    compared = comparisons(facts.plan.networks, measurements, found.per_sample)
    quantities = tuple(replace(entry, replay=facts.command) for entry in found.quantities)
    report = Report(
        tool=Tool("secure-ai", secure_ai.__version__),
        run=_run(facts, departs),
        models=models,
        data=tuple(
            Data(
                id=role,
                name=dataset.name,
                digest=dataset.digest,
                n=len(dataset),
                note=dataset.note,
                class_names=dataset.class_names,
            )
            for role, dataset in facts.data.items()
        ),
        measurements=measurements,
        quantities=quantities,
        choices=tuple(replace(entry, replay=facts.command) for entry in found.choices),
        reproduction=compare(measured_in(found), () if departs else [row for case in cases for row in case.figures]),
        findings=findings,
        threats=threat_rows(_register(cases, measurements, _evidence(facts)), measurements, findings, _evidence(facts)),
        not_tested=_not_tested(facts, departs),
        confusions=found.confusions,
        comparisons=compared,
        transfers=found.transfers,
        distances=tuple(replace(entry, replay=facts.command) for entry in found.distances),
        sections=(
            *defence_card(models, measurements, quantities, compared, found.distances),
            *_class_card(facts, models),
            *found.sections,
        ),
    )
    refuse_disagreeing(report, facts)
    return report


def _class_card(facts: RunFacts, models: Sequence[Model]) -> tuple[Section, ...]:
    """On the images that the stages `suite` drew; none in a run without networks, which loads no images."""
    if "test" not in facts.data:
        return ()
    attacked = sample(facts.data["test"], facts.recipe.suite.n, facts.recipe.seed)
    return class_card(models, facts.result.per_sample, attacked)


def _register(
    cases: Sequence[Case], measurements: Sequence[Measurement], evidence: Mapping[str, tuple[Evidence, ...]]
) -> tuple[Row, ...]:
    """The whole register in a run of a case; in the run of a user's network the rows that something was measured of."""
    known = {entry.id for entry in measurements}
    rows = [row for case in CASES for row in case.threats]
    return tuple(row for row in rows if cases or row.id in evidence or (row.rule and known & set(row.rule.evidence)))


def _cases(facts: RunFacts) -> list[Case]:
    return [case for case in CASES if case.id in facts.recipe.parts]


def _run(facts: RunFacts, departs: list[str]) -> Run:
    return Run(
        id=facts.run_id,
        recipe=facts.recipe.name,
        complete=facts.complete,
        seconds=round(facts.seconds, 3),
        seed=facts.recipe.seed,
        deviates="; ".join(departs),
        stage_seconds=dict(facts.finished.seconds),
        reused=tuple(facts.finished.reused),
        foreign=tuple(facts.finished.foreign),
        key_note=facts.execution.store.seal.note,
        machine=describe_machine(),
        versions=versions(),
        code={"version": secure_ai.__version__, "digest": code_digest(), "results": results_digest()},
        command=facts.command,
    )


def _trained_models(facts: RunFacts) -> list[Model]:
    """The networks that this run trained; one that the user gave says so itself, in a stage's result."""
    models = []
    for network in facts.plan.networks.values():
        said = facts.output(network.id, FACTS_NAME)
        if said is not None:
            models.append(
                Model(
                    id=network.id,
                    role=network.role,
                    digest=json.loads(said)["digest"],
                    format="safetensors",
                    arch=network.arch,
                    file=f"models/{network.file}.safetensors" if network.file else "",
                    title=network.title,
                    against=network.against if network.against in facts.plan.networks else "",
                )
            )
    return models


def _evidence(facts: RunFacts) -> Mapping[str, tuple[Evidence, ...]]:
    """Row of the register -> the measurements and choices that a stage gave for it."""
    found: dict[str, tuple[Evidence, ...]] = {}
    for stage, rows in facts.plan.answers.items():
        result = facts.results.get(stage)
        if result is not None:
            given: tuple[Evidence, ...] = (*result.measurements, *result.choices)
            found |= {row: (*found.get(row, ()), *given) for row in rows}
    return found


def _why_missing(stage: str, facts: RunFacts) -> str:
    if stage in facts.finished.stopped:
        return "the run was stopped in it: its figures are of the images that were finished"
    return facts.finished.skipped.get(stage, "not finished when this was written")


def _not_tested(facts: RunFacts, departs: list[str]) -> tuple[str, ...]:
    done = facts.finished.records
    missing = [f"{stage.id}: {_why_missing(stage.id, facts)}" for stage in facts.plan.stages if stage.id not in done]
    deviation = [f"the reports' own protocols: {text}" for text in departs]
    suites = {"suite", "assess"} & set(facts.recipe.parts)
    shown = "defences" in facts.recipe.parts or any(stage.id in done for stage in facts.plan.known)
    held = () if shown or "report-1" not in facts.recipe.parts else (NO_DEFENCES,)
    other = (*ALWAYS_NOT_TESTED, *(() if suites else (NO_SUITE,)), *held)
    return (*missing, *deviation, *facts.result.not_tested, *other)
