"""What the stages of both reports share: train and keep a network, measure it, collect what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Method
from secure_ai.blue.training.schedules import constant
from secure_ai.blue.training.state import TrainingState, state_from_bytes
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.compute import TRAINING_REPLICAS, configure
from secure_ai.core.errors import SecureAIError
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import Trigger, stamp
from secure_ai.files.open import MIB, FileBytes, read_beneath
from secure_ai.files.safetensors import read_safetensors
from secure_ai.files.write import write_bytes
from secure_ai.models.load.state import fit_state
from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.target.evaluate import Evaluation, evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import array_to_tensor, images_to_float, state_digest, to_channels_last
from secure_ai.red.evasion.contract import SHARD_SIZE
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.collected import Collected

MAX_STATE_BYTES = 256 * MIB
KERAS_ADAM_EPSILON = 1e-7
TORCH_ADAM_EPSILON = 1e-8

AddProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FileCheckpoint:
    """Training state in one file, replaced whole after every epoch; an unreadable one counts as none."""

    path: Path

    def load(self) -> TrainingState | None:
        """The last state saved, or None."""
        if not self.path.exists():
            return None
        try:
            name = self.path.name
            return state_from_bytes(read_beneath(self.path.parent, name, max_bytes=MAX_STATE_BYTES).content, name)
        except SecureAIError:
            return None

    def save(self, state: TrainingState) -> None:
        """Keep `state` in place of the one before."""
        write_bytes(self.path, state.to_bytes())


def network_from(content: bytes, arch: str) -> nn.Module:
    """A built-in network with the weights of a stored safetensors file, in evaluation mode."""
    network = build_network(arch, generator=torch.Generator())
    tensors = read_safetensors(FileBytes(arch, content)).tensors
    fit_state(network, {name: array_to_tensor(value) for name, value in tensors.items()}, where=arch)
    return network.eval()


def target_of(work: Work, stage: str, arch: str, classes: int) -> NetworkTarget:
    """The network that a training stage put out, as a target named by that stage."""
    return built_in_target(work.inputs[stage]["model.safetensors"], arch, stage, classes)


def built_in_target(content: bytes, arch: str, name: str, classes: int) -> NetworkTarget:
    """A built-in network with the weights of a safetensors file, as something to attack: weights laid out for speed."""
    network = to_channels_last(network_from(content, arch))
    return NetworkTarget(
        network,
        name=name,
        digest=state_digest(network.state_dict()),
        input_shape=(1, 28, 28),
        num_classes=classes,
    )


def train_stage(
    work: Work,
    network: nn.Module,
    dataset: Dataset,
    method: Method,
    *,
    arch: str,
    epochs: int,
    learning_rate: float,
    adam_epsilon: float,
    validation: Dataset | None = None,
    optimizer_state: dict[str, Tensor] | None = None,
) -> Outputs:
    """Train as `work.settings` says (`seed`, `batch_size`) and put out model, state, history and facts."""
    compute = configure(work.precision)
    plan = TrainingPlan(
        epochs=epochs,
        batch_size=work.settings["batch_size"],
        schedule=constant(learning_rate),
        seed=work.settings["seed"],
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
        checkpoint=FileCheckpoint(work.partial),
        progress=work.progress,
    )
    facts = {
        "arch": arch,
        "digest": state_digest(network.state_dict()),
        "epochs": epochs,
        "batch_size": plan.batch_size,
        "train_seconds": round(sum(state.history["seconds"]), 3),
        "n_train": len(dataset),
        "n_validation": len(validation) if validation else 0,
        "data_note": dataset.note,
        "compute": compute.as_json(),
    }
    return {
        "model.safetensors": model_bytes(network, arch),
        "state.safetensors": state.to_bytes(),
        "history.json": json_bytes(state.history),
        "result.json": json_bytes(facts),
    }


def attack_every_image(
    attack: Callable[..., Tensor],
    target: NetworkTarget,
    dataset: Dataset,
    budget: PerturbationBudget,
    seed: int,
    progress: AddProgress,
    **settings: Any,
) -> tuple[np.ndarray, float]:
    """x_adv (N, C, H, W) float32 of every image, misclassified ones too (as both reports do), and the seconds taken."""
    began = time.perf_counter()
    # One array from the start: parts kept between the passes' large blocks fragment the heap to gigabytes.
    examples = np.empty(dataset.images.shape, dtype=np.float32)
    with target.attacked():  # a published figure: float32, whatever a search may use
        for start in range(0, len(dataset), SHARD_SIZE):
            x = images_to_float(dataset.images[start : start + SHARD_SIZE])
            y = torch.from_numpy(np.array(dataset.labels[start : start + SHARD_SIZE]))
            draws = generator(seed, "every-image", start)
            x_adv = attack(target, x, y, budget=budget, generator=draws, **settings)
            examples[start : start + SHARD_SIZE] = x_adv.numpy()
            progress(min(start + SHARD_SIZE, len(dataset)), len(dataset))
    return examples, time.perf_counter() - began


def measuring(work: Work, stage: str) -> Collected:
    """What is to be measured of the network that `stage` trained: so far the time that took."""
    collected = Collected(stage=f"{stage}/measure", model=stage)
    collected.value("train/seconds", json.loads(work.inputs[stage]["result.json"])["train_seconds"])
    return collected


def add_clean(collected: Collected, target: NetworkTarget, test: Dataset) -> Evaluation:
    """Accuracy, loss and confusion on the unmodified test images, and how long one prediction of them all took."""
    began = time.perf_counter()
    clean = evaluate(target, test.images, test.labels)
    seconds = time.perf_counter() - began
    right = clean.predictions == clean.labels
    collected.rate("clean", "clean_accuracy", clean.accuracy, "all test images, unmodified", right=right)
    collected.value("clean/loss", clean.loss)
    collected.value("clean/confusion", clean.confusion)
    collected.value("inference/seconds", seconds)
    collected.value("inference/images", len(test))
    return clean


def triggered_evaluation(target: NetworkTarget, dataset: Dataset, trigger: Trigger) -> Evaluation:
    """The evaluation with the trigger on every image and the true labels kept."""
    return evaluate(target, stamp(dataset.images, trigger), dataset.labels)
