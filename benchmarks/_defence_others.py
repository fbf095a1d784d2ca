"""The rows of the benchmark of defences that are not trained by `secure-ai harden` on digits alone."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _package import (
    BEYOND,
    RAMP,
    RANDOM,
    Dataset,
    ModelSpec,
    NetworkTarget,
    PerturbationBudget,
    Transformed,
    build_network,
    configure,
    generator,
    hold_out_last,
    images_to_float,
    load_data,
    parse_attacks,
    run_suite,
    save_model,
    secure_ai,
    trained_network,
)

ARCH = "report1-cnn"
TRANSFORM_EPS, COLOUR_EPS, ART_EPS = 0.2, 0.05, 0.3
ART_EPOCHS, ART_STEPS, HELD_OUT = 13, 6, 6000


def transform_row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """An input transformation around a network: PGD through it as it is, and as an attacker does it."""
    compute = configure("float32", options.device)
    file = options.network or options.work / "natural.safetensors"
    if not file.exists():
        secure_ai.train(ARCH, "mnist:train~20000", out=file, epochs=3, device=options.device, precision="float32")
    network = trained_network(file.read_bytes(), ARCH).to(compute.device)
    data = load_data(f"mnist:test~{options.n}")
    budget = PerturbationBudget("linf", TRANSFORM_EPS)

    def robust(guarded: torch.nn.Module, attack: str) -> dict[str, Any]:
        """One attack by itself: enough to show that nothing is left, never enough to claim that something is."""
        target = NetworkTarget(
            guarded.eval(), name="guarded", digest="", input_shape=data.input_shape, num_classes=data.classes
        )
        plans = parse_attacks(attack, "linf", "gradients")
        result = run_suite(target, data.images, data.labels, budget=budget, attacks=plans, seed=0)
        return {"clean": result.clean_accuracy.as_json(), "robust": result.robust_accuracy.as_json(), "attack": attack}

    return {
        f"transform-{name}": {
            "data": f"{data.name}, {data.note}",
            "budget": budget.as_json(),
            "compute": compute.as_json(),
            "naive": robust(Transformed(network, name, straight_through=False), "pgd:steps=40"),
            "adaptive": robust(
                Transformed(network, name, straight_through=True),
                "pgd:steps=40:eot_samples=10" if name in RANDOM else "pgd:steps=40",
            ),
        }
    }


def colours(n: int, seed: int) -> Dataset:
    """Synthetic colour images, (n, 3, 16, 16) in 4 classes: a fixed pattern of squares a class, noisy."""
    patterns = np.random.default_rng(7).random((4, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    draws = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 4
    images = np.clip(patterns[labels] + draws.normal(0, 0.1, (n, 3, 16, 16)), 0, 1)
    return Dataset(np.rint(255 * images).astype(np.uint8), labels, f"colours-{seed}", 4)


def colour_row(options: argparse.Namespace) -> dict[str, Any]:
    """A 3-channel network with batch normalisation, end to end: harden, certify, attack."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(16 * 7 * 7, 4),
    )  # fmt: skip
    how: dict[str, Any] = {"norm": "linf", "eps": COLOUR_EPS, "device": options.device}
    made = secure_ai.harden(network, colours(2000, 1), method="ibp", epochs=20, precision="float32", **how)
    names = ("clean_accuracy", "certified_accuracy", "attacked_accuracy", "contradictions", "trust", "budget")
    rows = {}
    for method in ("ibp", "crown-ibp"):
        found = secure_ai.certify(made, colours(options.n, 2), attack="fast", method=method, **how).as_json()
        rows[f"colour-{method}"] = {name: found[name] for name in names} | {"attack": "fast"}
    return rows


def art_row(options: argparse.Namespace) -> dict[str, Any]:
    """ART's AdversarialTrainerMadryPGD on report 1's network: our images, batches, growing eps, rates and last steps.

    ART has no eps that grows: each epoch is one call of `fit` with the eps of its middle. It keeps no averaged weights
    and chooses none; its last weights are measured.
    """
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier

    compute, epochs = configure("float32", options.device), options.epochs or ART_EPOCHS
    training, _ = hold_out_last(load_data(options.train), HELD_OUT if options.train == "mnist:train" else 1)
    x, y = images_to_float(training.images).numpy(), np.eye(10, dtype=np.float32)[training.labels]
    network = build_network(ARCH, generator=generator(0, ARCH))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    classifier = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, optimizer=optimizer, clip_values=(0.0, 1.0),
        device_type="cpu" if compute.device.type == "cpu" else "gpu",
    )  # fmt: skip
    trainer = AdversarialTrainerMadryPGD(classifier, nb_epochs=1, batch_size=128, eps=ART_EPS, max_iter=ART_STEPS)
    np.random.seed(0)  # ART draws from the global generator
    began = time.perf_counter()
    for epoch in range(epochs):
        middle = (epoch + 0.5) / epochs
        here = BEYOND * ART_EPS * min(1.0, middle / RAMP)
        trainer.attack.set_params(eps=here, eps_step=2.5 * here / ART_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (middle / RAMP if middle <= RAMP else (1 - middle) / (1 - RAMP))
        trainer.fit(x, y)
    seconds = time.perf_counter() - began
    file = options.work / "art.safetensors"
    save_model(network.cpu().eval(), Path(file), arch=ARCH)
    found: dict[str, Any] = {
        "method": "AdversarialTrainerMadryPGD", "arch": ARCH, "norm": "linf", "eps": ART_EPS, "seed": 0,
        "epochs": epochs, "steps_of_attack": ART_STEPS, "train_seconds": round(seconds, 1),
        "compute": compute.as_json(), "measured": {},
    }  # fmt: skip
    for asked in options.measure.split(","):
        attack, _, n = asked.partition("~")
        data = "mnist:test" if int(n) >= 10_000 else f"mnist:test~{n}"
        report = secure_ai.attack(
            ModelSpec(model=str(file), arch=ARCH), data, norm="linf", eps=str(ART_EPS), attack=attack,
            precision="float32", device=options.device, keep_examples=False,
        ).as_json()  # fmt: skip
        found["measured"][asked] = {name: report[name] for name in ("clean_accuracy", "robust_accuracy")} | {
            "trust": {"verdict": report["trust"]["verdict"]}, "data": data
        }  # fmt: skip
    return {"art": found}
