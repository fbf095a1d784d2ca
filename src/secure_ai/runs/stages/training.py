"""How a run trains a network: the method is given; model, state, history and facts come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Method
from secure_ai.blue.training.schedules import constant
from secure_ai.blue.training.state import TrainingState, state_from_bytes
from secure_ai.core.compute import TRAINING_REPLICAS, configure
from secure_ai.core.errors import SecureAIError
from secure_ai.core.result import Result
from secure_ai.data.dataset import Dataset
from secure_ai.data.training_record import training_metadata
from secure_ai.files.open import MIB
from secure_ai.files.seal import SealedFile
from secure_ai.models.load.store import model_bytes
from secure_ai.models.tensors import state_digest
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.measure import Context
from secure_ai.runs.engine.result_file import (
    FACTS_NAME,
    HISTORY_NAME,
    MODEL_NAME,
    RESULT_NAME,
    STATE_NAME,
    result_bytes,
)
from secure_ai.runs.engine.stage import Outputs

MAX_STATE_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class FileCheckpoint:
    """Training state in one file, replaced whole after every epoch; one that does not hold counts as none."""

    file: SealedFile

    def load(self) -> TrainingState | None:
        """The last state saved, or None."""
        content = self.file.read(MAX_STATE_BYTES)
        try:
            return None if content is None else state_from_bytes(content, self.file.name)
        except SecureAIError:
            return None

    def save(self, state: TrainingState) -> None:
        """Keep `state` in place of the one before."""
        self.file.write(state.to_bytes())


def trained(
    context: Context,
    network: nn.Module,
    dataset: Dataset,
    method: Method,
    *,
    arch: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    adam_epsilon: float,
    validation: Dataset | None = None,
    optimizer_state: dict[str, Tensor] | None = None,
    facts: dict[str, Any] | None = None,
) -> Outputs:
    """Train `network` in place with Adam at a constant rate.

    Args:
        dataset: what it is trained on, poisoned images and all.
        validation: images held out of the training data; never test images.
        optimizer_state: Adam's moments to continue from.
        facts: more to keep beside what the training says of itself, e.g. which images were poisoned.

    Returns:
        The files of a trained network: model, state, history, facts and `result.json`.
    """
    compute = configure(context.precision, context.device)
    network.to(compute.device)
    plan = TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        schedule=constant(learning_rate),
        seed=context.seed,
        adam_epsilon=adam_epsilon,
        dtype=compute.training_dtype,
        replicas=TRAINING_REPLICAS,
    )
    state = train(
        network,
        dataset,
        method=method,
        plan=plan,
        validation=validation,
        optimizer_state=optimizer_state,
        checkpoint=FileCheckpoint(context.partial),
        progress=context.progress,
    )
    network.cpu()
    said = {
        "arch": arch,
        "digest": state_digest(network.state_dict()),
        "epochs": epochs,
        "batch_size": batch_size,
        "train_seconds": round(sum(state.history["seconds"]), 3),
        "n_train": len(dataset),
        "n_validation": len(validation) if validation else 0,
        "data_note": dataset.note,
        "compute": compute.as_json(),
    }
    return {
        MODEL_NAME: model_bytes(network, arch, training_metadata(dataset)),
        STATE_NAME: state.to_bytes(),
        HISTORY_NAME: json_bytes(state.history),
        FACTS_NAME: json_bytes(said | (facts or {})),
        RESULT_NAME: result_bytes(Result()),
    }
