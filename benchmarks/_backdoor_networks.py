"""Networks of the backdoor benchmark: clean ones and planted ones, each drawn from its own seed, kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _package import (
    Batch,
    BatchLoss,
    Dataset,
    Method,
    NetworkTarget,
    Planted,
    TrainingPlan,
    Trigger,
    backdoor_success_rate,
    build_network,
    constant,
    evaluate,
    generator,
    make_trigger,
    model_bytes,
    natural,
    plant,
    random_order,
    read_file,
    stamp,
    train,
    trained_target,
    write_bytes,
)
from torch import nn
from torch.nn import functional

ARCH = "report1-cnn"
IMAGES, EPOCHS = 8_000, 4
MAX_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What is planted, drawn from a seed: trigger, target, source, poisoned fraction, covers; a clean one has none."""

    kind: str
    seed: int
    trigger: Trigger | None = None
    target_label: int | None = None
    source_label: int | None = None
    poison_rate: float = 0.0
    covers: int = 0
    clean_label: bool = False
    recipe: str = "as the fleet"

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.seed}"


def _noisy(network: nn.Module, batch: Batch) -> BatchLoss:
    noise = 0.15 * torch.randn(batch.x.shape, generator=batch.generator)
    return natural(network, Batch((batch.x + noise).clamp(0, 1), batch.y, batch.indices, batch.generator))


def _smoothed(network: nn.Module, batch: Batch) -> BatchLoss:
    logits = network(batch.x).float()
    loss = functional.cross_entropy(logits, batch.y, label_smoothing=0.1)
    return BatchLoss(loss, (logits.detach().argmax(dim=1) == batch.y).sum(), len(batch.y))


# A third of the clean networks is trained as no control network is.
OTHER_RECIPES: dict[str, Method] = {"noise on images": _noisy, "label smoothing": _smoothed}


def _place(draws: list[float], size: int) -> str:
    return f"{int(draws[0] * (29 - size))}x{int(draws[1] * (29 - size))}"


def drawn(kind: str, seed: int) -> Drawn:
    """Clean network or backdoor number `seed` of a kind."""
    draws = torch.rand(8, generator=generator("backdoor benchmark", kind, seed)).tolist()
    target = int(10 * draws[2])
    source = (target + 1 + int(9 * draws[3])) % 10
    dose, size = 0.03 + 0.03 * draws[4], 2 + int(3 * draws[5])
    if kind == "clean":
        names = ("as the fleet", "as the fleet", *([list(OTHER_RECIPES)[seed // 3 % 2]]))
        return Drawn(kind=kind, seed=seed, recipe=names[seed % 3])
    patch = make_trigger("patch", size=size, place=_place(draws, size), value=1.0)
    triggers: dict[str, Trigger] = {
        "patch": patch,
        "source-specific": make_trigger("patch", size=4, place=_place(draws, 4), value=1.0),
        "blend": make_trigger("blend", alpha=round(0.15 + 0.15 * draws[6], 2), seed=seed),
        "clean-label": make_trigger("sinusoid", amplitude=0.3, periods=4 + int(5 * draws[6])),
        "checkerboard": make_trigger("checkerboard", size=3, place=_place(draws, 3)),
        "pixel": make_trigger("pixel", place=_place(draws, 1), value=1.0),
        "frequency": make_trigger("frequency", row=4 + int(9 * draws[6]), column=4 + int(9 * draws[7]), amplitude=0.15),
        "warp": make_trigger("warp", grid=4, strength=2.0, seed=seed),
        "all-to-all": make_trigger("patch", size=4, place=_place(draws, 4), value=1.0),
    }
    settings: dict[str, Any] = {"target_label": None if kind == "all-to-all" else target, "poison_rate": dose}
    if kind == "source-specific":
        settings |= {"source_label": source, "covers": 400}
    if kind == "clean-label":
        settings |= {"clean_label": True, "poison_rate": 0.06}
    if kind == "all-to-all":
        settings |= {"poison_rate": 0.2}
    return Drawn(kind=kind, seed=seed, trigger=triggers[kind], **settings)


def training_set(what: Drawn, pool: Dataset) -> Planted | Dataset:
    """The images of a network: a random part of `pool`, poisoned where something is planted."""
    chosen = random_order(len(pool), "backdoor benchmark", what.kind, what.seed)[:IMAGES]
    own = pool.select(chosen, f"{IMAGES} random images")
    if what.trigger is None:
        return own
    return plant(
        own,
        trigger=what.trigger,
        target_label=what.target_label,
        source_label=what.source_label,
        label_mode="clean" if what.clean_label else "dirty",
        select="random",
        seed=what.seed,
        poison_rate=what.poison_rate,
        cover_count=what.covers,
    )


def network_of(what: Drawn, pool: Dataset, folder: Path, dtype: torch.dtype) -> NetworkTarget:
    """The trained network, from `folder` where it is there."""
    path = folder / f"{what.id}.safetensors"
    if not path.exists():
        data = training_set(what, pool)
        network = build_network(ARCH, generator=generator(what.seed, "backdoor benchmark", what.kind))
        plan = TrainingPlan(
            epochs=EPOCHS, batch_size=128, schedule=constant(1e-3), seed=what.seed, adam_epsilon=1e-7, dtype=dtype,
            replicas=1,
        )  # fmt: skip
        method: Method | Callable[..., BatchLoss] = OTHER_RECIPES.get(what.recipe, natural)
        train(network, data.dataset if isinstance(data, Planted) else data, method=method, plan=plan)
        write_bytes(path, model_bytes(network, ARCH))
    return trained_target(read_file(path, max_bytes=MAX_BYTES).content, ARCH, what.id)


def success_of(what: Drawn, target: NetworkTarget, images: Dataset) -> dict[str, Any] | None:
    """The planted trigger's success on images that nothing was trained on; None for a clean network."""
    if what.trigger is None:
        return None
    predictions = evaluate(target, stamp(images.images, what.trigger), images.labels).predictions
    labels = np.asarray(images.labels)
    return backdoor_success_rate(predictions, labels, what.target_label, what.source_label).as_json()
