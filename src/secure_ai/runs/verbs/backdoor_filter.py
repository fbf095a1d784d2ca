"""The verb `backdoor filter`: which training images look poisoned, and the data set without them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.blue.backdoors.data_filters import FILTERS, Evidence, filter_scores
from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import natural
from secure_ai.blue.training.schedules import constant
from secure_ai.core.compute import Compute, Device, configure
from secure_ai.core.errors import ArchError, ShapeError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.labels import class_text
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import random_order
from secure_ai.files.write import make_folder, write_bytes, write_json
from secure_ai.models.networks.built_in import NETWORKS, build_network, network_entry
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, to_channels_last
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import trainable

FRACTION = 0.015
EPOCHS, TRUSTED_EPOCHS = 3, 7
FALSE_ALARMS = 0.01  # of trusted images that a threshold lets pass as suspicious
LEAST_TRUSTED = 200
SHOWN, IN_A_ROW = 40, 10  # images in the picture, of all filters together
RECORD_NAME, SCORES_NAME, CLEANED_NAME, PICTURE_NAME = "filter.json", "scores.npz", "cleaned.npz", "suspicious.png"


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """Which images (N,) bool are suspicious, the scores (N,) of every filter, and the record that was written."""

    suspicious: np.ndarray
    scores: dict[str, np.ndarray]
    record: dict[str, Any]
    folder: Path


def backdoor_filter(
    data: str,
    *,
    out: str | Path,
    trusted: str | None = None,
    fraction: float | None = None,
    arch: str = "report1-cnn",
    split: str = "train",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Filtered:
    """Score every training image and write scores, a picture of the worst and the data set without them.

    With trusted images an image is suspicious above the 99th percentile of trusted images that no network was trained
    on, by either of two filters: their false alarms add up (`expected_false_alarms`). Without them there is no such
    threshold: the `fraction` with the highest SPECTRE score is.

    Args:
        trusted: clean images of the same classes, at least 200.
        fraction: removed where there are no trusted images, in (0, 0.5); None: 0.015.
        arch: the network that is trained, whose last linear layer's input is looked at: a built-in name, or a factory
            (`FILE.py:FACTORY`) of one that takes these images.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: bad data or request, or an output that cannot be written.
    """
    if trusted is not None and fraction is not None:
        raise UsageError("trusted images set the limits", where="--fraction", expected="none", got=fraction)
    fraction = FRACTION if fraction is None else fraction
    if not 0 < fraction < 0.5:
        raise UsageError("not such a fraction", where="--fraction", expected="above 0, below 0.5", got=fraction)
    compute = configure(precision, device)
    dataset = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    if arch in NETWORKS:
        _refuse_unfit(dataset, arch)
    known = None if trusted is None else load_data(trusted, split="train", resize=resize, seed=seed, events=events)
    if known is not None:
        _refuse_trusted(known, dataset)
    features = _features(_trained(dataset, arch, EPOCHS, seed, compute, events, progress), dataset.images)
    pixels = images_to_float(dataset.images).double().numpy()
    labels = np.asarray(dataset.labels)
    if known is None:
        scores = filter_scores(Evidence(pixels, labels, features))
        limits = {"spectre": float(np.quantile(scores["spectre"], 1 - fraction))}
    else:
        teach = partial(_trained, arch=arch, epochs=TRUSTED_EPOCHS, seed=seed, compute=compute, events=events)
        scores, limits = _with_trusted(known, pixels, labels, features, teach, seed)
    suspicious = np.zeros(len(dataset), dtype=bool)
    for name, limit in limits.items():
        suspicious |= scores[name] > limit
    record = {
        "schema_version": SCHEMA_VERSION,
        "source": {"name": dataset.name, "digest": dataset.digest, "n": len(dataset), "note": dataset.note},
        "trusted": known and {"name": known.name, "digest": known.digest, "n": len(known)},
        "filters": sorted(scores),
        "limits": {name: round(limit, 6) for name, limit in limits.items()},
        "expected_false_alarms": known and _false_alarms(len(known) - _teaching(len(known)), len(limits)),
        "suspicious": int(suspicious.sum()),
        "indices": np.flatnonzero(suspicious).tolist(),
        "arch": arch,
        "seed": seed,
    }
    return _written(dataset, suspicious, scores, limits, record, Path(out))


def _refuse_unfit(dataset: Dataset, arch: str) -> None:
    entry = network_entry(arch)
    if dataset.input_shape != entry.input_shape or dataset.classes > entry.num_classes:
        expected = f"images {entry.input_shape} of at most {entry.num_classes} classes"
        got = f"{dataset.input_shape}, {dataset.classes} classes"
        raise ShapeError("the network cannot take this data", where=dataset.name, expected=expected, got=got)


def _refuse_trusted(known: Dataset, dataset: Dataset) -> None:
    if known.input_shape != dataset.input_shape or known.classes > max(dataset.classes, 10):
        raise ShapeError("other images", where="--trusted", expected=dataset.input_shape, got=known.input_shape)
    if len(known) < LEAST_TRUSTED:
        raise UsageError("too few trusted images", where="--trusted", expected=f">= {LEAST_TRUSTED}", got=len(known))


def _trained(
    dataset: Dataset, arch: str, epochs: int, seed: int, compute: Compute, events: EventSink,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NetworkTarget:  # fmt: skip
    if arch in NETWORKS:
        network: nn.Module = build_network(arch, generator=generator(seed, "filter", arch))
    else:
        _, network = trainable(ModelSpec(arch=arch), dataset, seed, events)
    network.to(compute.device)
    plan = TrainingPlan(
        epochs=epochs, batch_size=128, schedule=constant(1e-3), seed=seed, adam_epsilon=1e-7,
        dtype=compute.training_dtype, replicas=1,
    )  # fmt: skip
    train(network, dataset, method=natural, plan=plan, progress=progress)
    network = to_channels_last(network).eval()
    with torch.no_grad():  # a network may tell more classes apart than the data have
        classes = network(images_to_float(dataset.images[:1]).to(compute.device)).shape[1]
    return NetworkTarget(network, name=arch, digest="", input_shape=dataset.input_shape, num_classes=classes)


@torch.no_grad()
def _features(target: NetworkTarget, images: np.ndarray) -> np.ndarray:
    """What the linear layer that is called last is given, (N, F): the penultimate layer's activations."""
    given: list[Tensor] = []
    parts: list[Tensor] = []
    linear = [module for module in target.network.modules() if isinstance(module, nn.Linear)]
    hooks = [one.register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0])) for one in linear]
    try:
        for part in images_to_float(images).split(target.batch_size):
            target.logits(part)
            if not given:
                raise ArchError("no features to look at", where=target.name, expected="a Linear layer", got="none")
            parts.append(given[-1].flatten(1).cpu())
            given.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(parts).double().numpy()


@torch.no_grad()
def _losses(target: NetworkTarget, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    y = torch.from_numpy(np.array(labels)).split(500)
    parts = [
        functional.cross_entropy(target.logits(part), own.to(target.device), reduction="none")
        for part, own in zip(images_to_float(images).split(500), y, strict=True)
    ]
    return torch.cat(parts).cpu().double().numpy()


def _teaching(trusted: int) -> int:
    """How many trusted images teach: four fifths. The others set the limits."""
    return 4 * trusted // 5


def _false_alarms(n: int, limits: int) -> dict[str, float]:
    """The largest expected fraction of clean images like the trusted ones that is above one of the limits.

    A limit lies at or above the k-th smallest of n scores, and a new image takes each of the n + 1 ranks among them
    with the same chance. The limits' fractions are added: an image above either counts.
    """
    k = math.floor((1 - FALSE_ALARMS) * (n - 1)) + 1
    return {"at_most": round(min(1.0, limits * (n + 1 - k) / (n + 1)), 6), "limits": limits, "n": n}


def _with_trusted(
    known: Dataset, pixels: np.ndarray, labels: np.ndarray, features: np.ndarray,
    teach: Callable[[Dataset], NetworkTarget], seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:  # fmt: skip
    """All scores, and the limits of the two filters that have one."""
    order = random_order(len(known), seed, "trusted")
    taught, kept = (known.select(part, "trusted") for part in np.split(order, [_teaching(len(known))]))
    teacher = teach(taught)
    base = images_to_float(taught.images).double().numpy()
    losses = _losses(teacher, pixels.astype(np.float32), labels)
    scores = filter_scores(Evidence(pixels, labels, features, losses, base))
    own = images_to_float(kept.images).double().numpy()
    losses = _losses(teacher, kept.images, kept.labels)
    quiet = Evidence(own, np.asarray(kept.labels), np.zeros((len(kept), 1)), losses, base)
    names = [name for name, row in FILTERS.items() if row.needs_trusted]
    return scores, {name: float(np.quantile(FILTERS[name].score(quiet), 1 - FALSE_ALARMS)) for name in names}


def _written(
    dataset: Dataset, suspicious: np.ndarray, scores: dict[str, np.ndarray], limits: dict[str, float],
    record: dict[str, Any], out: Path,
) -> Filtered:  # fmt: skip
    from secure_ai.report.render.png import image_grid_png  # loads matplotlib

    if suspicious.all():
        raise UsageError("every image is suspicious", where="--trusted", expected="images like those of the data")
    folder = make_folder(out)
    cleaned = dataset.select(np.flatnonzero(~suspicious), "without suspicious images")
    record = record | {"cleaned": {"digest": cleaned.digest, "n": len(cleaned)}}
    write_bytes(folder / SCORES_NAME, _npz(index=np.asarray(dataset.indices), suspicious=suspicious, **scores))
    write_bytes(folder / CLEANED_NAME, _npz(x=cleaned.images, y=cleaned.labels))
    rows = _rows(scores, limits)
    captions = [
        [f"label {class_text(int(dataset.labels[index]), dataset.class_names)}" for index in row] for _, row in rows
    ]
    images = [(name, np.asarray(dataset.images[row])) for name, row in rows]
    write_bytes(folder / PICTURE_NAME, image_grid_png(images, "Most suspicious images of each filter", captions))
    write_json(folder / RECORD_NAME, record)
    return Filtered(suspicious, scores, record, folder)


def _rows(scores: dict[str, np.ndarray], limits: dict[str, float]) -> list[tuple[str, np.ndarray]]:
    """The picture's rows: positions of the images above each filter's own limit, the highest scores first.

    Scores of different filters cannot be compared: each filter has the same room, and a name in front.
    """
    rows = []
    for name, limit in limits.items():
        order = np.argsort(-scores[name], kind="stable")
        above = order[scores[name][order] > limit][: SHOWN // len(limits)]
        rows += [(name if len(above) else f"{name}: none", above[:IN_A_ROW])]
        rows += [("", above[start : start + IN_A_ROW]) for start in range(IN_A_ROW, len(above), IN_A_ROW)]
    return rows


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
