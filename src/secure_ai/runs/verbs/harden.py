"""The verb `harden`: train a network so that it withstands attacks, on training data alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Unpack

from torch import nn

from secure_ai.blue.training.hardening import OPTIMIZERS, OptimizerName
from secure_ai.blue.training.hardening_state import Checks, HardeningState, hardening_state
from secure_ai.core.budget import parse_budget
from secure_ai.core.compute import TRAINING_REPLICAS, Compute, Device, configure, device_name, device_of
from secure_ai.core.duration import parse_duration
from secure_ai.core.errors import SecureAIError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Rate, rate
from secure_ai.data.dataset import Dataset
from secure_ai.data.image_digests import image_digests
from secure_ai.data.training_record import RECORD_MODE, data_metadata, record_path, training_record
from secure_ai.files.open import MIB
from secure_ai.files.seal import SealedFile, user_seal
from secure_ai.files.write import refuse_unwritable, write_bytes
from secure_ai.models.load.store import LoadedModel, model_bytes
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.tensors import state_digest
from secure_ai.runs.given_data import dataset_of
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.stages.hardening import Hardening, cut_by_time, harden_network
from secure_ai.runs.user_model import is_object, trainable
from secure_ai.runs.verbs.harden_options import HardenOptions

MAX_STATE_BYTES = 1024 * MIB
TEST = "mnist:test"


@dataclass(frozen=True, slots=True, eq=False)
class Hardened:
    """What `hardened` made.

    Attributes:
        network: in evaluation mode, with the weights of the best check.
        out: the file written; empty: none.
        digest: of its weights.
        metric, value: what chose the weights, on held-out training images: `robust_accuracy` (under PGD),
            `certified_accuracy` (`ibp`, `crown-ibp`) or `accuracy_under_noise` (`gaussian`). It flatters, and has no
            trust verdict: `secure-ai attack` measures and judges.
        facts: settings, seconds, and how the data were divided; `steps` were planned, `steps_done` and `epochs` done;
            `stopped_early`: fewer than planned, for want of patience or of a finite loss (`checks.diverged`);
            `cut_by_time`: the time budget allowed fewer epochs than were asked for, or than the method has by itself.
    """

    network: nn.Module
    out: str
    digest: str
    arch: str
    metric: str
    value: Rate
    clean: Rate
    checks: Checks
    facts: dict[str, Any]

    @property
    def robust(self) -> Rate | None:
        """`value` where it is a robust accuracy."""
        return self.value if self.metric == "robust_accuracy" else None

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai harden --json`; `held_out.trust` is null: nobody judged the figure."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"file": self.out, "arch": self.arch, "digest": self.digest},
            "held_out": {
                "clean": self.clean.as_json(),
                "robust": self.robust.as_json() if self.robust else None,
                "metric": self.metric,
                "value": self.value.as_json(),
                "trust": None,
            },
            "checks": asdict(self.checks),
            **self.facts,
        }


@dataclass(frozen=True, slots=True)
class _FileCheckpoint:
    """The state after each check, beside the output; another request's, or one that does not hold, counts as none."""

    file: SealedFile
    key: str

    def load(self) -> HardeningState | None:
        """The last state of this request, or None."""
        content = self.file.read(MAX_STATE_BYTES)
        try:
            state, key = (None, "") if content is None else hardening_state(content, self.file.name)
        except SecureAIError:
            return None
        return state if key == self.key else None

    def save(self, state: HardeningState) -> None:
        """Keep `state` in place of the one before."""
        self.file.write(state.to_bytes(self.key))

    @property
    def note(self) -> str:
        """Why nothing is resumed; empty where nothing stands in the way."""
        foreign = self.file.exists() and self.file.read(MAX_STATE_BYTES) is None
        return self.file.seal.note or (f"{self.file.name} was not written with this user's key" if foreign else "")


def harden(net: ModelSpec | nn.Module, data: str | Dataset, **options: Unpack[HardenOptions]) -> nn.Module:
    """`hardened`, where only the network is wanted: a trained copy of `net`, in evaluation mode."""
    return hardened(net, data, **options).network


def hardened(
    model: ModelSpec | nn.Module,
    data: str | Dataset,
    *,
    norm: str,
    eps: str | float,
    method: str = "pgd",
    out: str | Path | None = None,
    adversary: str = "",
    awp: float = 0.0,
    epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float | None = None,
    optimizer: OptimizerName = "adam",
    time_budget: str | float | None = None,
    patience: int = 0,
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Hardened:
    """Train a network against attacks; a tenth of the training data is held out and chooses the weights.

    Args:
        model: a file and its architecture, a built-in name (fresh weights), or a network, which is copied.
        data: in the forms of `--data`, or a data set; of a folder with both splits only `train` is read.
        norm, eps: the largest change that the network should withstand.
        method: pgd, trades, mart, fast, gaussian, ibp or crown-ibp.
        out: the safetensors file to write; beside it `OUT.training.json`, as of `train`. Until it is whole, the state
            to resume from lies beside it.
        adversary: an attack of the catalogue to train against, e.g. `apgd-ce:steps=10`; empty: PGD.
        awp: adversarial weight perturbation, relative, e.g. 0.005; 0: none.
        epochs: passes over the data; None: the method's own number, or with a time budget as many as fit.
        time_budget: seconds, or e.g. `5m`; the number of steps is fixed from the speed of the first 50 and of
            a check, and recorded.
        resize: every image to so many rows and columns.
        patience: checks without a better robust accuracy after which it stops; 0: never early.
        device: auto (a GPU where there is one), cpu or cuda; the network then goes back to where it was.

    Raises:
        SecureAIError: a request that cannot be met, a model that cannot be trained, test data, or a loss that is not
            finite before the first check.
    """
    _refuse_number("--epochs", epochs, Integral, 1, 1000)
    _refuse_number("--batch-size", batch_size, Integral, 1, 100_000)
    _refuse_number("--awp", awp, Real, 0, 0.1)
    _refuse_number("--learning-rate", learning_rate, Real, 1e-8, 1)
    _refuse_number("--patience", patience, Integral, 0, 1000)
    if optimizer not in OPTIMIZERS:
        raise UsageError("unknown optimizer", where="--optimizer", expected=" or ".join(OPTIMIZERS), got=optimizer)
    time_budget = None if time_budget is None else parse_duration(time_budget)
    if out is not None:
        refuse_unwritable(Path(out))
        refuse_unwritable(record_path(Path(out)))
    compute = configure(precision, device)
    if isinstance(data, str | Path):
        _refuse_test(str(data))
    dataset = dataset_of(data, split="train", n=n, resize=resize, seed=seed, events=events)
    _refuse_test(dataset.name)
    budget = parse_budget(norm, eps, dataset.images[0].size)
    asked = Hardening(
        method=method, budget=budget, seed=seed, batch_size=batch_size, epochs=epochs, rate=learning_rate,
        optimizer=optimizer, adversary=adversary, awp=awp, time_budget=time_budget, patience=patience,
        dtype=compute.training_dtype,
    )  # fmt: skip
    asked.row.make(asked.wanted(dataset))  # refuses an unknown method or adversary before the model's code runs
    loaded, network = trainable(model, dataset, seed, events)
    if loaded.arch in NETWORKS:
        asked = replace(asked, replicas=TRAINING_REPLICAS)  # known to draw nothing, and to have no buffers
    key = _key(asked, loaded, dataset, compute)
    kept = None
    if out is not None:
        kept = _FileCheckpoint(SealedFile(Path(out).parent, f"{Path(out).name}.partial", "harden", user_seal()), key)
    note = kept.note if kept is not None else ""
    begun = kept.load() if kept is not None else None
    home = device_of(network)
    network.to(compute.device)
    state, plan, divided = harden_network(
        network, dataset, asked, checkpoint=kept, steps_known=begun.steps if begun else None, progress=progress
    )
    network.to(home)
    facts = {
        "method": method,
        "source": asked.row.source,
        "budget": budget.as_json(),
        "data": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note, **divided},
        "seed": seed,
        "steps": plan.steps,
        "steps_done": state.step,
        "epochs": round(state.step * batch_size / int(str(divided["n_train"])), 2),
        "stopped_early": state.step < plan.steps,
        "settings": {
            "adversary": adversary,
            "awp": awp,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "patience": patience,
            "learning_rate": asked.row.rate if learning_rate is None else learning_rate,
        },
        "time_budget": time_budget,
        "cut_by_time": cut_by_time(asked, plan, int(str(divided["n_train"]))),
        "train_seconds": round(sum(state.checks.seconds), 3),
        "check_seconds": round(sum(state.checks.check_seconds), 3),
        "compute": compute.as_json(),
        "not_reused": note,
    }
    seen = _images_seen(model, loaded, dataset, asked)
    return _written(loaded, dataset, seen, state, asked.row.metric, facts, out, kept, events)


def _refuse_number(name: str, value: Any, kind: type[Any], least: float, most: float) -> None:
    if value is not None and not (isinstance(value, kind) and least <= value <= most):
        expected = f"{'a whole number' if kind is Integral else 'a number'} from {least:g} to {most:g}"
        raise UsageError("not a number, or out of range", where=name, expected=expected, got=repr(value))


def _refuse_test(name: str) -> None:
    if name.startswith(TEST):
        raise UsageError("test images are not for training", where="DATA", expected="e.g. mnist:train", got=name)


def _key(asked: Hardening, loaded: LoadedModel, dataset: Dataset, compute: Compute) -> str:
    """Names everything that decides the result."""
    settings = {name: str(getattr(asked, name)) for name in Hardening.__dataclass_fields__}
    settings |= {"model": loaded.digest, "data": dataset.digest, "threads": str(compute.threads)}
    settings["device"] = device_name(compute.device)
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _images_seen(
    model: ModelSpec | nn.Module, loaded: LoadedModel, dataset: Dataset, asked: Hardening
) -> frozenset[str] | None:
    """Digests of all images that decided the weights, the held-out ones, too; None where earlier ones are not known."""
    own = frozenset(image_digests(dataset.images))
    if asked.row.from_scratch or not (loaded.file_sha256 or is_object(model)):
        return own
    earlier = loaded.known.training.images if loaded.known.training else None
    return None if earlier is None else own | earlier


def _written(
    loaded: LoadedModel,
    dataset: Dataset,
    seen: frozenset[str] | None,
    state: HardeningState,
    metric: str,
    facts: dict[str, Any],
    out: str | Path | None,
    kept: _FileCheckpoint | None,
    events: EventSink,
) -> Hardened:
    network, digest = loaded.network.eval(), state_digest(loaded.network.state_dict())
    arch = loaded.arch if loaded.arch in NETWORKS else ""
    if out is not None:
        said = data_metadata(dataset) if seen == frozenset(image_digests(dataset.images)) else {}
        write_bytes(Path(out), model_bytes(network, arch, {"method": facts["method"], **said}))
        if seen is not None:
            write_bytes(record_path(Path(out)), training_record(digest, dataset, sorted(seen)), mode=RECORD_MODE)
        events("model_written", {"file": Path(out).name, "digest": digest})
        if kept is not None:
            kept.file.remove()
    checks, n = state.checks, facts["data"]["n_checked"]
    return Hardened(
        network=network,
        out=str(out or ""),
        digest=digest,
        arch=loaded.arch,
        metric=metric,
        value=rate(round(checks.best * n), n),
        clean=rate(round(checks.clean[checks.chosen] * n), n),
        checks=checks,
        facts=facts | {"chosen_step": checks.step[checks.chosen]},
    )
