"""The verb `replay`: make an adversarial example of a run again, and compare it bit for bit.

A shard of 256 samples is a pure function of network, data, attacks, first index and seed; a run keeps the digest of
every shard's examples. The shard that holds the sample is run again and its digest compared. No code that the run's
folder names is run: a network that is made by code must be named again by the user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import (
    DigestMismatchError,
    FormatError,
    ReplayError,
    UsageError,
)
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.labels import class_text
from secure_ai.core.machine import cpu_name
from secure_ai.core.parallel import torch_threads
from secure_ai.core.result import Replay
from secure_ai.core.results import Measurement
from secure_ai.core.versions import versions
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import sample
from secure_ai.files.write import refuse_unwritable, write_bytes
from secure_ai.models.load.trained import trained_target
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.target.access import Access
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.contract import SHARD_SIZE, AttackPlan, ignore_progress
from secure_ai.red.evasion.suite.borrowed import bind_borrowed
from secure_ai.red.evasion.suite.engine import arrange, run_shards
from secure_ai.red.evasion.suite.merge import shard_digest
from secure_ai.red.evasion.suite.parse import CLASSES_FOR_BOUND, parse_suite
from secure_ai.red.evasion.suite.shard import ShardResult, ShardTask, SuiteTask, cut_shard, run_shard
from secure_ai.red.evasion.suite.verify import checked_logits, measured_distance
from secure_ai.report.model import Run
from secure_ai.report.render.png import image_grid_png
from secure_ai.runs.engine.execute import results_digest
from secure_ai.runs.examples_file import Origin, examples_bytes
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.outputs.pictures import grid_rows
from secure_ai.runs.user_model import examined, surrogate_for
from secure_ai.runs.verbs.replay_found import Answer, Replayed, Sample, ShardReplay
from secure_ai.runs.verbs.replay_record import RunFolder, find_measurement, read_run, replay_record

OUTPUTS = (".npz", ".png")


def replay(
    run: str | Path,
    finding: str,
    *,
    index: int | None = None,
    every: bool = False,
    model: ModelSpec | None = None,
    surrogate: ModelSpec | None = None,
    data: str | None = None,
    out: str | Path | None = None,
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = ignore_progress,
) -> Replayed:
    """Make an adversarial example of a finished run again.

    Args:
        run: the run's folder; nothing in it is changed.
        finding: id of a finding (`SAI-EV-001`, or `SAI-EV-001@subject` where several have it) or of a measurement.
        index: position of the image in the data's file; default: the first image that the attacks broke.
        every: run every shard again, not only the one that holds the sample.
        model: the network, where the run was of one of the user's own; needed where code makes it.
        surrogate: the same for the surrogate that the run used.
        data: where the images are, if not where the run had them.
        out: a `.npz` file for the example, or a `.png` picture of it.

    Raises:
        ReplayError: nothing to replay, or the run left too little.
        DigestMismatchError: a file of the run, the network or the data is not what the run used.
        UsageError: no such finding or sample, or a network that only its owner may name.
        SecureAIError: a file cannot be read.
    """
    if out is not None:
        if Path(out).suffix not in OUTPUTS:
            raise UsageError("unknown kind of output", where="--out", expected=" or ".join(OUTPUTS), got=Path(out).name)
        refuse_unwritable(Path(out))
    folder = read_run(Path(run))
    measurement = find_measurement(folder.report, finding)
    record = replay_record(folder, measurement)
    plans = _plans(record)
    dataset = _dataset(folder, record, data, events)
    place = _place(dataset, record, index)
    cut, now = (len(record.shards), record.shard_size), (-(-len(dataset) // SHARD_SIZE), SHARD_SIZE)
    if cut != now:
        expected, got = (f"{shards} of at most {size} images" for shards, size in (now, cut))
        raise ReplayError("the run was cut into other shards", expected=expected, got=got)
    with torch_threads(record.threads):
        target = _target(folder, measurement, dataset, model, events)
        if target.digest != record.model_digest:
            raise DigestMismatchError(
                "not the network that the run attacked",
                where=target.name,
                expected=record.model_digest,
                got=target.digest,
            )
        other = _surrogate(folder, record, dataset, surrogate, events)
        task = _Task(target, bind_borrowed(plans, network=other), dataset, record)
        numbers = range(len(record.shards)) if every else [place // SHARD_SIZE]
        shards, found = [], None
        with contextlib.closing(task.run(numbers)) as results:
            for done, (number, result) in enumerate(zip(numbers, results, strict=True)):
                got = shard_digest(result)
                shards.append(ShardReplay(number * SHARD_SIZE, len(result.clean), record.shards[number], got))
                found = result if number == place // SHARD_SIZE else found
                progress(done + 1, len(numbers))
    if found is None:
        raise ReplayError("the sample's shard was not run", got=place)
    report = _report(folder, measurement, task, tuple(shards), found, place)
    if out is not None:
        write_bytes(Path(out), _output(report, dataset, place, Path(out).suffix))
    return report


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Everything that a shard is a function of."""

    target: NetworkTarget
    plans: tuple[AttackPlan, ...]
    dataset: Dataset
    record: Replay

    @property
    def budget(self) -> PerturbationBudget:
        return PerturbationBudget(self.record.norm, self.record.eps)

    def run(self, numbers: Sequence[int]) -> Generator[ShardResult]:
        """The shards of these numbers, computed as in the run."""
        suite = SuiteTask(
            budget=self.budget, attacks=self.plans, seed=self.record.seed, independent=self.record.independent
        )
        labels = labels_to_tensor(self.dataset.labels)

        def cut(number: int) -> ShardTask:
            return cut_shard(suite, self.dataset.images, labels, number, device=self.target.device)

        def work(judge: NetworkTarget, searched: NetworkTarget, number: int) -> ShardResult:
            return run_shard(judge, cut(number), searched=searched)

        with self.target.attacked():
            arrangement = arrange(self.target, self.plans, len(self.dataset), cut(0))
            for shard in run_shards(self.target, arrangement, work, numbers):
                if shard is None:
                    raise ReplayError("copies of the network came to answer otherwise", where=self.target.name)
                yield shard


def _plans(record: Replay) -> tuple[AttackPlan, ...]:
    """The attacks on record by this catalogue; a name or setting that it does not know is refused."""
    if any(text.partition(":")[0] == "examples" for text in record.attacks):
        raise ReplayError("saved examples cannot be made again", where=record.id, expected="an attack")
    return parse_suite(",".join(record.attacks), record.norm, "gradients", SHARD_SIZE, CLASSES_FOR_BOUND).plans


def _dataset(folder: RunFolder, record: Replay, data: str | None, events: EventSink) -> Dataset:
    """The images that were attacked: the run's data, or the sample that its stage drew."""
    section, seed = folder.recipe.data, folder.recipe.seed
    whole = load_data(
        data or section.test, split=section.split, n=section.n, resize=section.resize, seed=seed, events=events
    )
    dataset = whole if whole.digest == record.data_digest else sample(whole, record.n, seed)
    if dataset.digest != record.data_digest:
        raise DigestMismatchError(
            "not the images that the run attacked",
            where=whole.name,
            expected=record.data_digest,
            got=dataset.digest,
            hint="--data names them",
        )
    return dataset


def _place(dataset: Dataset, record: Replay, index: int | None) -> int:
    """Position in `dataset` of the image with that position in its file."""
    wanted = index if index is not None else record.example
    if wanted is None:
        return 0
    found = np.flatnonzero(dataset.indices == wanted)
    if not len(found):
        raise UsageError(
            "the run did not attack that image",
            where="--index",
            expected=f"one of {len(dataset)} from {dataset.indices.min()} to {dataset.indices.max()}",
            got=wanted,
            hint=f"the nearest is {dataset.indices[np.abs(dataset.indices - wanted).argmin()]}",
        )
    return int(found[0])


def _target(
    folder: RunFolder,
    measurement: Measurement,
    dataset: Dataset,
    model: ModelSpec | None,
    events: EventSink,
) -> NetworkTarget:
    identifier = measurement.model
    entry = next((entry for entry in folder.report.models if entry.id == identifier), None)
    if entry is not None and entry.file:
        if model is not None:
            raise UsageError("the run holds this network itself", where="--model", expected="no --model")
        if entry.arch not in NETWORKS:
            raise FormatError("the run does not say how the network is built", where=f"report.json: {identifier}")
        content = folder.file(entry.file)
        return trained_target(content, entry.arch, identifier)
    if identifier != SUBJECT:
        raise ReplayError("the run does not hold that network", where=identifier, expected=SUBJECT)
    recorded = _recorded(folder.run.get("user_model"))
    spec = _fed_alike(model, recorded) if model else _without_code(recorded, "--model FILE --arch ARCH, as in the run")
    return examined(spec, dataset, folder.recipe.seed, 256, events)


def _surrogate(
    folder: RunFolder,
    record: Replay,
    dataset: Dataset,
    surrogate: ModelSpec | None,
    events: EventSink,
) -> NetworkTarget | None:
    if not record.surrogate:
        return None
    user = folder.run.get("user_model")
    named = {
        **(user if isinstance(user, dict) else {}),
        "model": folder.recipe.assess.surrogate,
        "arch": folder.recipe.assess.surrogate_arch,
        "access": None,
    }
    recorded = _recorded(named)
    flags = "--surrogate FILE --surrogate-arch ARCH"
    spec = _fed_alike(surrogate, recorded) if surrogate else _without_code(recorded, flags)
    found = surrogate_for(spec, dataset, folder.recipe.seed, 256, events)
    if not found.digest.startswith(record.surrogate):
        raise DigestMismatchError(
            "not the surrogate that the run used", where=found.name, expected=record.surrogate, got=found.digest
        )
    return found


def _access(value: object) -> Access | None:
    """What run.json says that attacks could use. Raises ValueError for anything else."""
    if value is not None and value not in get_args(Access):
        raise ValueError
    return cast(Access | None, value)


def _recorded(user_model: Any) -> ModelSpec:
    """The network that run.json names, and how the run fed it."""
    try:
        return ModelSpec(
            model=None if user_model["model"] is None else str(user_model["model"]),
            arch=user_model["arch"],
            weights_key=str(user_model.get("weights_key", "")),
            access=_access(user_model["access"]),
            mean=tuple(float(value) for value in user_model["mean"]),
            std=tuple(float(value) for value in user_model["std"]),
            value_range=(float(user_model["value_range"][0]), float(user_model["value_range"][1])),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise FormatError("the run does not say which network it was", where="run.json: user_model") from None


def _fed_alike(spec: ModelSpec, recorded: ModelSpec) -> ModelSpec:
    """A network that the user names, fed as the run fed it where the user does not say how."""
    plain = ModelSpec()
    fed = {name: getattr(spec, name) for name in ("access", "mean", "std", "value_range")}
    said = {name: value for name, value in fed.items() if value != getattr(plain, name)}
    return replace(recorded, model=spec.model, arch=spec.arch, weights_key=spec.weights_key, **said)


def _without_code(spec: ModelSpec, flags: str) -> ModelSpec:
    """`spec`, unless code makes it: a file may not choose code."""
    if spec.arch is not None and spec.arch not in NETWORKS:
        raise UsageError(
            "code makes this network, and a run's folder may not choose code",
            where="run.json: user_model.arch",
            expected=flags,
            got=spec.arch,
            hint="name it yourself if you trust it",
        )
    return spec


def _report(
    folder: RunFolder,
    measurement: Measurement,
    task: _Task,
    shards: tuple[ShardReplay, ...],
    result: ShardResult,
    place: int,
) -> Replayed:
    row = place % SHARD_SIZE
    clean = images_to_float(task.dataset.images[place : place + 1])
    x_adv = result.x_adv[row : row + 1]
    with task.target.attacked(), torch.no_grad():
        before, after = (checked_logits(task.target, images).softmax(dim=1)[0] for images in (clean, x_adv))
    broken = result.met[:, row].nonzero().flatten().tolist()
    found = Sample(
        index=int(task.dataset.indices[place]),
        label=int(task.dataset.labels[place]),
        clean=_answer(before),
        adversarial=_answer(after),
        broken_by=task.plans[broken[0]].text if broken else None,
        attacked=bool(result.attempted[:, row].any()),
        distance=float(measured_distance(x_adv.cpu(), clean, task.budget)[0]),
    )
    return Replayed(
        measurement=measurement,
        record=task.record,
        shards=shards,
        sample=found,
        clean=clean.numpy(),
        x_adv=x_adv.cpu().numpy(),
        differences=_differences(folder.report.run),
    )


def _answer(probabilities: torch.Tensor) -> Answer:
    top = probabilities.max(dim=0)
    return Answer(int(top.indices), float(top.values))


def _differences(run: Run) -> tuple[str, ...]:
    """What is not as it was, of what can change bits."""
    now = {name: version for name, version in versions().items() if name in ("torch", "numpy", "scipy")}
    pairs = [(name, run.versions.get(name), version) for name, version in now.items()]
    pairs += [("processor", run.machine.get("processor"), cpu_name())]
    pairs += [("code that decides results", run.code.get("results"), results_digest())]
    return tuple(f"{name}: {before} then, {after} now" for name, before, after in pairs if before != after)


def _output(report: Replayed, dataset: Dataset, place: int, suffix: str) -> bytes:
    record = report.record
    if suffix == ".png":
        rows = grid_rows(report.clean, report.x_adv, "image")
        shown, names = report.sample, dataset.class_names
        captions = [
            [f"{class_text(a.label, names)} ({100 * a.confidence:.0f} %)"] for a in (shown.clean, shown.adversarial)
        ]
        title = f"Image {shown.index}, label {class_text(shown.label, names)}"
        return image_grid_png(rows, title, [captions[0], [], captions[1]])
    origin = Origin(
        model_digest=record.model_digest,
        data_digest=record.data_digest,
        budget=PerturbationBudget(record.norm, record.eps),
        attack=",".join(text.partition(":")[0] for text in record.attacks),
        seed=record.seed,
    )
    part = slice(place, place + 1)
    return examples_bytes(report.x_adv, np.asarray(dataset.labels)[part], np.asarray(dataset.indices)[part], origin)
