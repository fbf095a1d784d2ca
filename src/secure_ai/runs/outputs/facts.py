"""Everything that the outputs of a run are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from secure_ai.core.result import Result, merged
from secure_ai.data.dataset import Dataset
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import MIB, FileBytes
from secure_ai.runs.engine.execute import Execution, Finished, results_digest
from secure_ai.runs.engine.result_file import ARRAYS_NAME, RESULT_NAME, read_result
from secure_ai.runs.engine.store import key_of
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.recipe import Recipe

if TYPE_CHECKING:
    from secure_ai.runs.recipe.plan import Plan

ARRAY_LIMITS = NpyLimits(max_array_bytes=256 * MIB, max_dimensions=4, max_members=4096)


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What was asked for and what came out.

    Attributes:
        seconds: wall time of this run.
        complete: every stage was done.
        command: the line that does the same again.
    """

    recipe: Recipe
    plan: Plan
    finished: Finished
    execution: Execution
    data: Mapping[str, Dataset]
    seconds: float
    complete: bool
    model: ModelSpec | None
    command: str

    def output(self, stage: str, name: str) -> bytes | None:
        """A stage's output file, or None where the stage did not finish or has none of that name."""
        record = self.finished.records.get(stage)
        return self.execution.store.blob(record.outputs[name]) if record and name in record.outputs else None

    @cached_property
    def results(self) -> Mapping[str, Result]:
        """What every stage found, by its id; one that was interrupted what it had."""
        found = {stage: self.output(stage, RESULT_NAME) for stage in self.finished.records}
        done = {stage: read_result(content, stage) for stage, content in found.items() if content is not None}
        return {**done, **self.finished.stopped}

    @cached_property
    def result(self) -> Result:
        """All of it as one."""
        return merged(self.results.values())

    def arrays(self, stage: str) -> Mapping[str, np.ndarray]:
        """The arrays that a stage kept for its pictures."""
        content = self.output(stage, ARRAYS_NAME)
        return {} if content is None else read_npz(FileBytes(ARRAYS_NAME, content), limits=ARRAY_LIMITS)

    @property
    def run_id(self) -> str:
        """16 hex digits that name recipe, settings (a user's model file among them), data and code."""
        content = {
            "recipe": self.recipe.model_dump(),
            "stages": {stage.id: dict(stage.settings) for stage in self.plan.stages},
            "data": {role: dataset.digest for role, dataset in self.data.items()},
            "code": results_digest(),
        }
        return key_of(content)[:16]
