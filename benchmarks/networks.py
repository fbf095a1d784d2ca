"""Trains the networks that the evasion benchmarks attack, each once; a finished one is kept.

    scripts/bench networks [--out FOLDER] [--names natural-seed0,pgd-seed0,...]

natural: report 1's network and protocol. pgd: report 1's network on PGD examples only (Madry et al., 1706.06083: eps
0.3; 10 steps of 0.075 instead of 40 of 0.01). fgsm-rs: Wong, Rice and Kolter (2001.03994), whose MNIST recipe it is to
the letter: 10 epochs, batches of 100, Adam, learning rate up to 5e-3 after 40 % of training and back to 0, eps 0.3,
step 0.375. All see the 60,000 training images but the last 6,000, which are for choosing attacks; fgsm-rs-60000 is the
same recipe on all of them, as it was published.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from _package import (
    Method,
    NetworkTarget,
    Precision,
    Report1Cnn,
    Schedule,
    TrainingPlan,
    configure,
    constant,
    evaluate,
    fgsm_random_start,
    generator,
    half_replaced,
    hold_out_last,
    keras_initialise,
    load_mnist,
    load_model,
    make_target,
    natural,
    pgd_on_the_fly,
    save_model,
    torch_initialise,
    train,
    triangular,
    write_json,
)
from _zoo_networks import Strided
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from torch import nn

FOLDER = Path(tempfile.gettempdir()) / "secure-ai-networks"
VALIDATION = 6000
EPS = 0.3


def fgsm_rs_cnn() -> nn.Module:
    """The factory for `--arch benchmarks/networks.py:fgsm_rs_cnn`."""
    return Strided()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained; `arch` is what `--arch` is given, `held_out` images at the end are not trained on."""

    arch: str
    build: Callable[[], nn.Module]
    initialise: Callable[..., None]
    method: Method
    epochs: int
    batch_size: int
    schedule: Schedule
    precision: Precision = "auto"
    held_out: int = VALIDATION


FGSM_RS_ARCH = f"{Path(__file__)}:fgsm_rs_cnn"

FGSM_RS = Recipe(
    arch=FGSM_RS_ARCH, build=fgsm_rs_cnn, initialise=torch_initialise,
    method=half_replaced(fgsm_random_start(EPS, 10, step_size=0.375), ratio=1.0),
    epochs=10, batch_size=100, schedule=triangular(5e-3, 0.4), precision="float32",
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {
    "natural": Recipe(
        arch="report1-cnn", build=Report1Cnn, initialise=keras_initialise,
        method=natural, epochs=5, batch_size=128, schedule=constant(1e-3),
    ),
    "pgd": Recipe(
        arch="report1-cnn", build=Report1Cnn, initialise=keras_initialise,
        method=half_replaced(pgd_on_the_fly(EPS, 10, steps=10), ratio=1.0),
        epochs=10, batch_size=128, schedule=triangular(2e-3, 0.4),
    ),
    "fgsm-rs": FGSM_RS,
    "fgsm-rs-60000": replace(FGSM_RS, held_out=0),
}  # fmt: skip
NAMES = (
    "natural-seed0",
    "pgd-seed0",
    *(f"{recipe}-seed{seed}" for recipe in ("fgsm-rs", "fgsm-rs-60000") for seed in range(5)),
)


def arch_of(name: str) -> str:
    """What `--arch` is given for the network of that name."""
    return RECIPES[name.rpartition("-seed")[0]].arch


def target_named(name: str, folder: Path = FOLDER) -> NetworkTarget:
    """A finished network, ready to be attacked."""
    loaded = load_model(folder / f"{name}.safetensors", arch=arch_of(name))
    return make_target(loaded, input_shape=(1, 28, 28), num_classes=10)


def train_named(name: str, folder: Path) -> None:
    """Train and keep the network of that name, its history, and its clean accuracy on the last training images.

    Those are part of its training where nothing was held out.
    """
    kind, _, seed_text = name.rpartition("-seed")
    recipe, seed = RECIPES[kind], int(seed_text)
    dataset, validation = hold_out_last(load_mnist("train"), recipe.held_out or VALIDATION)
    if not recipe.held_out:
        dataset = load_mnist("train")
    network = recipe.build()
    recipe.initialise(network, generator(seed, kind))
    compute = configure(recipe.precision)
    plan = TrainingPlan(
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        schedule=recipe.schedule,
        seed=seed,
        adam_epsilon=1e-8,
        dtype=compute.training_dtype,
        replicas=1,
    )
    began = time.perf_counter()
    with Progress(*Progress.get_default_columns()[:-1], TextColumn(name), TimeRemainingColumn()) as bar:
        task = bar.add_task("training", total=None)
        state = train(
            network,
            dataset,
            method=recipe.method,
            plan=plan,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    path = folder / f"{name}.safetensors"
    save_model(network, path, arch=recipe.arch if recipe.arch in ("report1-cnn", "report2-cnn") else kind)
    target = target_named(name, folder)
    accuracy = evaluate(target, validation.images, validation.labels).accuracy
    facts = {"seconds": round(time.perf_counter() - began, 1), "compute": compute.as_json()}
    facts |= {"held_out": recipe.held_out, "history": state.history, "validation": accuracy.as_json()}
    write_json(folder / f"{name}.json", facts)
    print(f"{name}: {json.dumps(accuracy.as_json())}, {facts['seconds']} s")


def main() -> int:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--names", default=",".join(NAMES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names.split(","):
        if not (arguments.out / f"{name}.json").exists():
            train_named(name, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
