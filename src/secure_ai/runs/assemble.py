"""From finished stages to `report.json`: merges what they measured, compares, lists what was not tested."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import secure_ai
from secure_ai.core.machine import describe_machine
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.core.versions import versions
from secure_ai.data.dataset import Dataset
from secure_ai.runs.adapters import (
    findings_of,
    json_of,
    measurements_of,
    models_of,
    result_of,
    values_from_measurements,
)
from secure_ai.runs.cases.published import FIGURES, THREATS
from secure_ai.runs.comparisons import comparisons
from secure_ai.runs.engine.execute import Context, Finished, code_digest, results_digest
from secure_ai.runs.engine.stage import Stage
from secure_ai.runs.engine.store import key_of
from secure_ai.runs.judgements import judge_measurements
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.deviations import deviations
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.reproduction.reproduction import compare
from secure_ai.runs.reproduction.values import measured_in
from secure_ai.threats.register import threat_rows

MODEL_FILES = {
    "report-1/baseline": "baseline_cnn",
    "report-1/defended-p": "adv_trained_cnn",
    "report-1/defended-l": "adv_trained_listing_cnn",
    "report-1/poisoned": "poisoned_cnn",
    "report-1/badnets": "badnets_cnn",
    "report-2/baseline": "report2_baseline_cnn",
    "report-2/defended": "report2_defended_cnn",
    "report-2/poisoned": "report2_poisoned_cnn",
}

TITLES = {
    "report-1/baseline": "Report 1: undefended",
    "report-1/defended-p": "Report 1: defended, as published (examples made once, for the baseline)",
    "report-1/defended-l": "Report 1: defended, as listed (examples made anew)",
    "report-1/poisoned": "Report 1: poisoned, labels kept",
    "report-1/badnets": "BadNets: poisoned, labels changed",
    "report-2/baseline": "Report 2: undefended",
    "report-2/defended": "Report 2: defended",
    "report-2/poisoned": "Report 2: poisoned, labels changed",
}

ROLES = {
    "report-1/baseline": "baseline",
    "report-1/defended-p": "defended",
    "report-1/defended-l": "defended",
    "report-1/poisoned": "poisoned",
    "report-1/badnets": "poisoned",
    "report-2/baseline": "baseline",
    "report-2/poisoned": "poisoned",
    "report-2/defended": "defended",
}

# id of the counts -> what they show
CONFUSIONS = {
    "report-1/baseline/clean/confusion": "clean test images",
    "report-1/baseline/fgsm-predicted/confusion": "under FGSM, labels predicted",
    "report-1/defended-p/clean/confusion": "clean test images",
    "report-1/defended-p/transferred/confusion": "FGSM examples made for the baseline",
    "report-1/defended-l/clean/confusion": "clean test images",
    "report-1/poisoned/clean/confusion": "clean test images",
    "report-2/baseline/clean/confusion": "clean test images",
    "report-2/poisoned/clean/confusion": "clean test images",
    "report-2/defended/clean/confusion": "clean test images",
}

ALWAYS_NOT_TESTED = (
    "adaptive attacks against these defences: not done",
    "other training seeds: every interval covers these images and this one network",
    "audit of model files beyond what the strict readers refuse",
)

NO_SUITE = (
    "a suite of attacks strong enough for a reliable robust accuracy (APGD, a targeted margin and a black-box attack): "
    "the recipe standard has one"
)


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """Everything that a report is made from."""

    recipe: Recipe
    stages: list[Stage]
    finished: Finished
    context: Context
    data: Mapping[str, Dataset]
    seconds: float
    complete: bool
    model: ModelSpec | None
    command: str

    def output(self, stage: str, name: str) -> bytes | None:
        """A stage's output file, or None where the stage did not finish or has none of that name."""
        record = self.finished.records.get(stage)
        return self.context.store.blob(record.outputs[name]) if record and name in record.outputs else None

    def results(self) -> dict[str, dict[str, Any]]:
        """`result.json` of every finished stage, parsed."""
        found = {stage: self.output(stage, "result.json") for stage in self.finished.records}
        return {stage: json.loads(content) for stage, content in found.items() if content is not None}

    @property
    def run_id(self) -> str:
        """16 hex digits that name recipe, settings (a user's model file among them), data and code."""
        content = {
            "recipe": self.recipe.model_dump(),
            "stages": {stage.id: dict(stage.settings) for stage in self.stages},
            "data": {role: dataset.digest for role, dataset in self.data.items()},
            "code": results_digest(),
        }
        return key_of(content)[:16]


def values_of(facts: RunFacts) -> dict[str, Any]:
    """The flat mapping of values (`report.values`) from all measuring stages."""
    values: dict[str, Any] = {}
    for result in facts.results().values():
        values |= result.get("values", {})
    measurements = [entry for result in facts.results().values() for entry in result.get("measurements", [])]
    values |= values_from_measurements(measurements)
    if "report-2/baseline/inference/images" in values:
        values["report-2/baseline/inference/divisor"] = facts.recipe.report_2.first
    return values


def assemble(facts: RunFacts) -> dict[str, Any]:
    """The content of `report.json`, version 1."""
    results = facts.results()
    measurements = [
        {**entry, "replay": facts.command} for result in results.values() for entry in result.get("measurements", [])
    ]
    models = _models(results)
    typed = measurements_of(measurements)
    findings = [finding.as_json() for finding in judge_measurements(typed, models_of(models))]
    findings += [entry for result in results.values() for entry in result.get("findings", [])]
    departs = deviations(facts.recipe, facts.data)
    published = () if departs else tuple(row for row in FIGURES if row.report in facts.recipe.parts)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "secure-ai", "version": secure_ai.__version__},
        "run": {
            "id": facts.run_id,
            "recipe": facts.recipe.name,
            "complete": facts.complete,
            "seconds": round(facts.seconds, 3),
            "seed": facts.recipe.seed,
            "deviates": "; ".join(departs),
            "stage_seconds": dict(facts.finished.seconds),
            "reused": list(facts.finished.reused),
            "machine": describe_machine(),
            "versions": versions(),
            "code": {"version": secure_ai.__version__, "digest": code_digest(), "results": results_digest()},
            "command": facts.command,
        },
        "models": models,
        "data": [
            {"id": role, "name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note}
            for role, dataset in facts.data.items()
        ],
        "measurements": measurements,
        "reproduction": json_of(compare(measured_in(result_of(values_of(facts), measurements)), published)),
        "findings": findings,
        "threats": json_of(threat_rows(THREATS, typed, findings_of(findings))),
        "not_tested": _not_tested(facts),
        "confusions": _confusions(values_of(facts)),
        "comparisons": comparisons(
            {name: packed for result in results.values() for name, packed in result.get("outcomes", {}).items()},
            {entry["id"]: entry["trust"]["verdict"] for entry in measurements},
        ),
        "transfers": [entry for result in results.values() for entry in result.get("transfers", [])],
        "distances": [
            {**entry, "replay": facts.command} for result in results.values() for entry in result.get("distances", [])
        ],
    }


def _models(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    built_in = [
        {
            "id": stage,
            "role": ROLES[stage],
            "title": TITLES[stage],
            "digest": result["digest"],
            "format": "safetensors",
            "arch": result["arch"],
            "file": f"models/{MODEL_FILES[stage]}.safetensors",
        }
        for stage, result in results.items()
        if stage in ROLES
    ]
    return built_in + [entry for result in results.values() for entry in result.get("models", [])]


def _confusions(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"id": name, "model": "/".join(name.split("/")[:2]), "title": title, "counts": values[name]}
        for name, title in CONFUSIONS.items()
        if name in values
    ]


def _not_tested(facts: RunFacts) -> list[str]:
    done = facts.finished.records
    missing = [
        f"{stage.id}: {facts.finished.skipped.get(stage.id, 'the run stopped before it')}"
        for stage in facts.stages
        if stage.id not in done
    ]
    deviation = [f"the reports' own protocols: {text}" for text in deviations(facts.recipe, facts.data)]
    more = [text for result in facts.results().values() for text in result.get("not_tested", [])]
    suites = {"suite", "assess"} & set(facts.recipe.parts)
    return [*missing, *deviation, *more, *ALWAYS_NOT_TESTED, *(() if suites else (NO_SUITE,))]
