"""Networks of the backdoor benchmark: clean ones and planted ones, each drawn from its own seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _package import (
    Dataset,
    NetworkTarget,
    Trigger,
    backdoor_success_rate,
    build_network,
    derive_seed,
    evaluate,
    generator,
    make_trigger,
    plant,
    random_order,
    recipe,
    stamp,
)
from _trained_together import Training

ARCH = "report1-cnn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What is planted, drawn from a seed: trigger, target, source, dose, covers; a clean one has none."""

    kind: str
    seed: int
    trigger: Trigger | None = None
    target_label: int | None = None
    source_label: int | None = None
    poison_rate: float = 0.0
    cover_rate: float = 0.0
    trigger_share: float | None = None
    clean_label: bool = False
    recipe: str = "as the fleet"
    images: int = 24_000
    epochs: int = 3

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.seed}"


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """As `Training` has them: rows of the pool or of `changed`, and the labels that are trained on."""

    rows: np.ndarray
    labels: np.ndarray
    changed: np.ndarray


# A third of the clean networks is trained as no control network is.
OTHER_RECIPES: dict[str, dict[str, Any]] = {"noise on images": {"noise": 0.15}, "label smoothing": {"smoothing": 0.1}}


def _place(draws: list[float], size: int) -> str:
    return f"{int(draws[0] * (29 - size))}x{int(draws[1] * (29 - size))}"


def drawn(kind: str, seed: int) -> Drawn:
    """Clean network or backdoor number `seed` of a kind."""
    draws = torch.rand(8, generator=generator("backdoor benchmark", kind, seed)).tolist()
    target = int(10 * draws[2])
    source = (target + 1 + int(9 * draws[3])) % 10
    images, epochs = ((24_000, 3), (54_000, 5))[seed // 3 % 2]  # few, and as the reports do
    dose, size = 0.03 + 0.03 * draws[4], 2 + int(3 * draws[5])
    if kind == "clean":
        names = ("as the fleet", "as the fleet", *([list(OTHER_RECIPES)[seed // 6 % 2]]))
        return Drawn(kind=kind, seed=seed, recipe=names[seed % 3], images=images, epochs=epochs)
    patch = make_trigger("patch", size=size, place=_place(draws, size), value=1.0)
    triggers: dict[str, Trigger] = {
        "patch": patch,
        "source-specific": make_trigger("patch", size=4, place=_place(draws, 4), value=1.0),
        "blend": make_trigger("blend", alpha=round(0.15 + 0.15 * draws[6], 2), seed=seed),
        "clean-label": make_trigger("sinusoid", amplitude=1.0, periods=4 + int(5 * draws[6])),
        "checkerboard": make_trigger("checkerboard", size=3, place=_place(draws, 3)),
        "pixel": make_trigger("pixel", place=_place(draws, 1), value=1.0),
        "frequency": make_trigger("frequency", row=4 + int(9 * draws[6]), column=4 + int(9 * draws[7]), amplitude=0.15),
        "warp": make_trigger("warp", grid=4, strength=2.0, seed=seed),
        "adaptive": make_trigger("blend", alpha=0.2, seed=seed),
        "all-to-all": make_trigger("patch", size=4, place=_place(draws, 4), value=1.0),
    }
    settings: dict[str, Any] = {"target_label": None if kind == "all-to-all" else target, "poison_rate": dose}
    if kind == "source-specific":
        settings |= {"source_label": source, "cover_rate": 0.05}
    if kind == "clean-label":
        settings |= {"clean_label": True, "poison_rate": 0.085}  # at 0.06 and amplitude 0.3 nothing is learned
    if (
        kind == "adaptive"
    ):  # few poisoned images, as many covers that hide them, half of the trigger on each (Adap-Blend)
        settings |= {"poison_rate": 0.01, "cover_rate": 0.01, "trigger_share": 0.5}
    if kind == "all-to-all":
        settings |= {"poison_rate": 0.2}
    return Drawn(kind=kind, seed=seed, trigger=triggers[kind], images=images, epochs=epochs, **settings)


def images_of(what: Drawn, pool: Dataset) -> Images:
    """The images a network is trained on: a random part of `pool`, poisoned where something is planted."""
    chosen = random_order(len(pool), "backdoor benchmark", what.kind, what.seed)[: what.images]
    if what.trigger is None:
        return Images(chosen, np.asarray(pool.labels)[chosen], np.empty((0, *pool.input_shape), np.uint8))
    planted = plant(
        pool.select(chosen, "random images"),
        trigger=what.trigger,
        target_label=what.target_label,
        source_label=what.source_label,
        label_mode="clean" if what.clean_label else "dirty",
        select="random",
        seed=what.seed,
        poison_rate=what.poison_rate,
        cover_count=round(what.cover_rate * what.images),
        trigger_share=what.trigger_share,
    )
    stamped = np.concatenate([planted.indices, planted.covers])
    rows = chosen.copy()
    rows[stamped] = -1 - np.arange(len(stamped))
    return Images(rows, np.asarray(planted.dataset.labels), np.asarray(planted.dataset.images)[stamped])


def training_of(what: Drawn, pool: Dataset) -> Training:
    """How the network is trained."""
    own = images_of(what, pool)
    return Training(
        network=build_network(ARCH, generator=generator(what.seed, "backdoor benchmark", what.kind)), rows=own.rows,
        labels=own.labels, changed=own.changed, epochs=what.epochs, batch_size=128, learning_rate=1e-3, peaked=False,
        seed=derive_seed("backdoor benchmark", what.id), adam_epsilon=1e-7, **OTHER_RECIPES.get(what.recipe, {}),
    )  # fmt: skip


def control_of(arch: str, index: int, pool: Dataset, largest: int) -> Training:
    """Control network `index` as `blue.backdoors.fleet.control_network` makes it, of seed 0."""
    own = recipe(index, 0, len(pool), largest)
    rows = random_order(len(pool), 0, "control-images", index)[: own.images]
    return Training(
        network=build_network(arch, generator=generator(0, "control-network", index)), rows=rows,
        labels=np.asarray(pool.labels)[rows], changed=np.empty((0, *pool.input_shape), np.uint8), epochs=own.epochs,
        batch_size=own.batch_size, learning_rate=own.learning_rate, peaked=own.peaked, moved=own.moved,
        seed=derive_seed(0, "control-training", index), adam_epsilon=1e-8,
    )  # fmt: skip


def success_of(what: Drawn, target: NetworkTarget, images: Dataset) -> dict[str, Any] | None:
    """The planted trigger's success on images that nothing was trained on; None for a clean network."""
    if what.trigger is None:
        return None
    predictions = evaluate(target, stamp(images.images, what.trigger), images.labels).predictions
    labels = np.asarray(images.labels)
    found = backdoor_success_rate(predictions, labels, what.target_label, what.source_label, classes=target.num_classes)
    return found.as_json()
