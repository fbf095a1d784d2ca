"""The verb `train`: a built-in network on the user's data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.blue.training.loop import TrainingPlan
from secure_ai.blue.training.loop import train as train_network
from secure_ai.blue.training.methods import natural
from secure_ai.blue.training.schedules import constant
from secure_ai.blue.training.state import TrainingState
from secure_ai.core.compute import TRAINING_REPLICAS, Device, Precision, configure
from secure_ai.core.errors import ShapeError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Rate, rate
from secure_ai.core.seeds import generator
from secure_ai.data.image_digests import image_digests
from secure_ai.data.source import load_data
from secure_ai.data.splits import hold_out_last
from secure_ai.data.training_record import RECORD_MODE, record_path, training_metadata, training_record
from secure_ai.files.write import refuse_unwritable, write_bytes
from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import NETWORKS, build_network
from secure_ai.models.tensors import state_digest

VALIDATION_SHARE = 0.1
ADAM_EPSILON = 1e-7  # Keras's


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` made: where, its digest, and its history (training data, never test data).

    Attributes:
        validation: accuracy on the validation images after the last epoch; None where there are none.
    """

    out: str
    arch: str
    digest: str
    data: dict[str, Any]
    history: dict[str, list[float]]
    validation: Rate | None

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai train --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"file": self.out, "arch": self.arch, "digest": self.digest},
            "data": self.data,
            "history": self.history,
            "validation_accuracy": self.validation.as_json() if self.validation else None,
        }


def train(
    arch: str,
    data: str,
    *,
    out: str | Path,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    split: str = "train",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Train a built-in network with Adam; the last tenth of the data validates.

    Args:
        arch: report1-cnn or report2-cnn.
        data: in the forms of `--data`.
        out: the safetensors file to write; beside it `OUT.training.json`, which tells whether an image was in training
            and is not to be published.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: unknown network, bad data or settings, or an output that cannot be written.
    """
    if arch not in NETWORKS:
        raise UsageError("not a built-in network", where="--arch", expected=" or ".join(NETWORKS), got=arch)
    for name, value, most in (("--epochs", epochs, 1000), ("--batch-size", batch_size, 100_000)):
        if not 1 <= value <= most:
            raise UsageError("out of range", where=name, expected=f"1 to {most}", got=value)
    if not 0 < learning_rate <= 1:
        raise UsageError("out of range", where="--learning-rate", expected="above 0, at most 1", got=learning_rate)
    refuse_unwritable(Path(out))
    refuse_unwritable(record_path(Path(out)))
    compute = configure(precision, device)
    dataset = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    entry = NETWORKS[arch]
    if dataset.input_shape != entry.input_shape or dataset.classes > entry.num_classes:
        raise ShapeError(
            "the network cannot take this data",
            where=dataset.name,
            expected=f"images {entry.input_shape} of at most {entry.num_classes} classes",
            got=f"{dataset.input_shape}, {dataset.classes} classes",
        )
    network = build_network(arch, generator=generator(seed, arch)).to(compute.device)
    held_out = round(VALIDATION_SHARE * len(dataset))
    training, validation = hold_out_last(dataset, held_out) if held_out else (dataset, None)
    plan = TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        schedule=constant(learning_rate),
        seed=seed,
        adam_epsilon=ADAM_EPSILON,
        dtype=compute.training_dtype,
        replicas=TRAINING_REPLICAS,
    )
    state = train_network(network, training, method=natural, plan=plan, validation=validation, progress=progress)
    network.cpu()
    digest = state_digest(network.state_dict())
    write_bytes(Path(out), model_bytes(network, arch, training_metadata(dataset)))
    write_bytes(
        record_path(Path(out)), training_record(digest, dataset, image_digests(training.images)), mode=RECORD_MODE
    )
    events("model_written", {"file": Path(out).name, "digest": digest})
    facts = {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note}
    return Trained(str(out), arch, digest, facts, state.history, _last_validation(state, held_out))


def _last_validation(state: TrainingState, n: int) -> Rate | None:
    shares = state.history["validation_accuracy"]
    return rate(round(shares[-1] * n), n) if shares else None
