"""The verb `backdoor plant`: a poisoned training set, or a network that its attacker trained, and a record of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.core.compute import Precision, configure
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger
from secure_ai.files.write import make_folder, write_bytes, write_json
from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import NETWORKS, network_entry
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import state_digest
from secure_ai.red.poisoning.controlled import ControlledPoison
from secure_ai.red.poisoning.plant import LabelMode, Perturb, plant
from secure_ai.runs.backdoors.controlled import Backdoored, train_backdoored
from secure_ai.runs.backdoors.perturbed import perturbing
from secure_ai.runs.model_spec import ModelSpec

PERTURB_EPS = 0.3
DATA_NAME = "poisoned.npz"
RECORD_NAME = "poison.json"
MODEL_NAME = "backdoored.safetensors"


@dataclass(frozen=True, slots=True)
class PlantResult:
    """Where the poisoned set or the network lies, and the record beside it."""

    folder: Path
    record: dict[str, Any]
    trained: Backdoored | None = None

    @property
    def file(self) -> Path:
        """The network, where the attacker trained one, else the poisoned images."""
        return self.folder / (DATA_NAME if self.trained is None else MODEL_NAME)


def backdoor_plant(
    data: str,
    *,
    trigger: str | None,
    target_label: int | None,
    out: str | Path,
    poison_rate: float | None = None,
    poison_count: int | None = None,
    cover_count: int = 0,
    trigger_share: float | None = None,
    source_label: int | None = None,
    label_mode: LabelMode = "dirty",
    train: str | None = None,
    perturb_model: str | ModelSpec | None = None,
    perturb_eps: float | None = None,
    split: str = "train",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PlantResult:
    """Stamp a trigger on randomly chosen training images, or flip labels, and write the set with its record.

    Args:
        trigger: e.g. `patch:size=4:place=bottom-right:value=1`; None with `label_mode="flip"`.
        target_label: None: all to all, every class y to y + 1.
        poison_rate: poisoned over ALL training images; exactly one of this and `poison_count`.
        cover_count: images of other classes with the trigger and their own label.
        trigger_share: of the trigger's 16 pieces, that each training image gets, another choice each (Adap-Blend).
        source_label: only images of this class; default: any but the target.
        perturb_model: a network of the attacker's: with `label_mode="clean"`, PGD against it makes the images hard to
            learn before the trigger is put on them, within `perturb_eps` in linf; None: 0.3.
        train: built-in network: the attacker trains it and poisons every batch anew (WaNet needs it). The network is
            written, and no data set.

    Raises:
        SecureAIError: bad data, trigger, labels or amount, or an output that cannot be written.
    """
    if perturb_model is None and perturb_eps is not None:
        raise UsageError("nothing is perturbed", where="--perturb-eps", expected="--perturb-model", got=perturb_eps)
    dataset = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    value = None if trigger is None else parse_trigger(trigger)
    if train is not None:
        network_entry(train, where="--train")
        unwanted = (source_label, perturb_model, poison_count, trigger_share)
        other = any(setting is not None for setting in unwanted) or cover_count
        if value is None or target_label is None or poison_rate is None or other:
            expected = "a whole trigger, one target and a poison rate; no source and no covers"
            raise UsageError("an attacker who trains has other settings", where="--train", expected=expected)
        if label_mode != "dirty":
            raise UsageError("an attacker who trains relabels", where="--label-mode", expected="dirty", got=label_mode)
        poison = ControlledPoison(trigger=value, target_label=target_label, poison_rate=poison_rate)
        return _trained(dataset, poison, train, Path(out), seed, precision, events, progress)
    perturb, own = None, None
    if perturb_model is not None:
        spec = ModelSpec(model=perturb_model) if isinstance(perturb_model, str) else perturb_model
        perturb_eps = PERTURB_EPS if perturb_eps is None else perturb_eps
        perturb, own = _perturbing(spec, dataset, perturb_eps, seed, events)
    planted = plant(
        dataset,
        trigger=value,
        target_label=target_label,
        source_label=source_label,
        label_mode=label_mode,
        select="random",
        seed=seed,
        count=poison_count,
        poison_rate=poison_rate,
        cover_count=cover_count,
        trigger_share=trigger_share,
        perturb=perturb,
    )
    record = {
        "schema_version": SCHEMA_VERSION,
        "source": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note},
        "poisoned": {"digest": planted.dataset.digest},
        "trigger": "" if value is None else value.text,
        "trigger_share": trigger_share,
        "target_label": target_label,
        "source_label": source_label,
        "label_mode": label_mode,
        "perturb_eps": perturb_eps,
        "perturb_model": own and {"file": own.name, "digest": own.digest},
        "poison_count": len(planted.indices),
        "poison_rate": planted.poison_rate,
        "indices": planted.indices.tolist(),
        "covers": planted.covers.tolist(),
        "seed": seed,
    }
    folder = make_folder(Path(out))
    stream = io.BytesIO()
    np.savez_compressed(stream, x=planted.dataset.images, y=planted.dataset.labels)
    write_bytes(folder / DATA_NAME, stream.getvalue())
    write_json(folder / RECORD_NAME, record)
    events("backdoor_planted", {"count": len(planted.indices), "digest": planted.dataset.digest})
    return PlantResult(folder, record)


def _perturbing(
    spec: ModelSpec, dataset: Dataset, eps: float, seed: int, events: EventSink
) -> tuple[Perturb, NetworkTarget]:
    """`perturbing`; of a file that holds weights only the error says what `backdoor plant` can take."""
    try:
        return perturbing(spec, dataset, eps, seed, events)
    except ArchError as error:
        if spec.arch is not None:
            raise
        raise ArchError(
            "the file does not name its network", where="--perturb-model", got=spec.model,
            expected=f"a .keras or .pt2 file, or {' or '.join(NETWORKS)} as secure-ai train writes it",
            hint="from Python: perturb_model=secure_ai.ModelSpec(model=FILE, arch=FILE.py:FACTORY)",
        ) from error  # fmt: skip


def _trained(
    dataset: Dataset, poison: ControlledPoison, arch: str, out: Path, seed: int, precision: Precision,
    events: EventSink, progress: Callable[[int, int], None],
) -> PlantResult:  # fmt: skip
    """The network of an attacker who controls the training, and what it does on images it was not trained on."""
    dtype = configure(precision).training_dtype
    made = train_backdoored(arch, dataset, poison, seed=seed, dtype=dtype, progress=progress)
    digest = state_digest(made.network.state_dict())
    record = {
        "schema_version": SCHEMA_VERSION,
        "source": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note},
        "model": {"file": MODEL_NAME, "arch": arch, "digest": digest},
        "trigger": poison.trigger.text,
        "target_label": poison.target_label,
        "poison_rate": poison.poison_rate,
        "clean_accuracy": made.accuracy.as_json(),
        "backdoor_success_rate": made.success.as_json(),
        "seed": seed,
    }
    folder = make_folder(out)
    write_bytes(folder / MODEL_NAME, model_bytes(made.network, arch))
    write_json(folder / RECORD_NAME, record)
    events("model_written", {"file": MODEL_NAME, "digest": digest})
    return PlantResult(folder, record, made)
