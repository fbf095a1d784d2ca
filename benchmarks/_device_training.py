"""The part of device_check.py that trains, certifies and scans: the same few steps on both devices."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from _package import (
    METHODS,
    Dataset,
    Device,
    NetworkTarget,
    TrainingPlan,
    constant,
    detect,
    generator,
    interval_initialise,
    natural,
    secure_ai,
    train,
)
from torch import Tensor, nn

BATCH, STEPS = 64, 5
EPS = {"linf": 0.03, "l2": 0.5}
MOST_DRIFT = 0.02  # mean distance of the weights after five steps, over the mean way that they have come
# on a CPU, noise of 1e-6 in the first weights gives at most 0.003; of 1e-3, which TF32 rounds off, at least 0.05
MOST_COUNTS = 0.02  # of the images, in a count
MOST_VALUES = 1e-3  # relative, of a detector's value; the same noise gives 5e-6 and 2.4e-3


@dataclass(frozen=True)
class Case:
    """What is compared: `measure` gives a number, or a list of them, on a device; `apart` says how far two are."""

    name: str
    measure: Callable[[Device], np.ndarray]
    apart: Callable[[np.ndarray, np.ndarray], float]
    most: float


def _weights(network: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().cpu().flatten() for value in network.parameters()]).numpy()


def _drift(start: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda here, there: float(np.abs(here - there).mean() / np.abs(here - start).mean())


def _relative(here: np.ndarray, there: np.ndarray) -> float:
    return float((np.abs(here - there) / np.maximum(np.abs(here), 1e-9)).max())


def _of(n: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda here, there: float(np.abs(here - there).max()) / n


def cases(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Case, ...]:
    """Every way of training, certificates, the scan's detectors, and an attack from preflight to verdict.

    Args:
        net: on the CPU, trained on images like x: (N, C, H, W); y: (N,).
    """
    classes = int(y.max()) + 1
    data = Dataset(x.numpy(), y.numpy(), "device check", classes)
    few = data.select(np.arange(BATCH * STEPS + 40), "for five steps")
    return (
        Case("train", lambda device: _trained(net, few, device), _drift(_weights(net)), MOST_DRIFT),
        *(_hardening(method, net, few) for method in METHODS),
        Case("certify ibp", lambda device: _certified(net, data.select(np.arange(128), "a"), "ibp", device), _of(128),
             MOST_COUNTS),
        Case("certify smoothing", lambda device: _certified(net, data.select(np.arange(64), "b"), "smoothing", device),
             _of(64), MOST_COUNTS),
        Case("backdoor detectors", lambda device: _detected(net, data, device), _relative, MOST_VALUES),
        Case("attack, preflight to verdict", lambda device: _attacked(net, x, y, device), _of(len(y)), MOST_COUNTS),
    )  # fmt: skip


def _trained(net: nn.Module, data: Dataset, device: Device) -> np.ndarray:
    network = copy.deepcopy(net).to(device)
    plan = TrainingPlan(epochs=1, batch_size=BATCH, schedule=constant(1e-3), seed=0, adam_epsilon=1e-8,
                        dtype=torch.float32, replicas=1)  # fmt: skip
    train(network, data, method=natural, plan=plan)
    return _weights(network)


def _hardening(method: str, net: nn.Module, data: Dataset) -> Case:
    norm = METHODS[method].norms[0]
    start = copy.deepcopy(net)
    if METHODS[method].from_scratch:
        interval_initialise(start, generator(0, "interval-initialise"))

    def measure(device: Device) -> np.ndarray:
        made = secure_ai.hardened(net, data, norm=norm, eps=EPS[norm], method=method, epochs=1, batch_size=BATCH,
                                  device=device, precision="float32")  # fmt: skip
        return _weights(made.network)

    return Case(f"harden {method}", measure, _drift(_weights(start)), MOST_DRIFT)


def _certified(net: nn.Module, data: Dataset, method: str, device: Device) -> np.ndarray:
    if method == "ibp":
        report = secure_ai.certify(net, data, norm="linf", eps=0.005, attack="fgsm", device=device)
    else:
        report = secure_ai.certify(net, data, norm="l2", eps=0.1, method="smoothing", sigma=0.05, samples=1000,
                                   device=device)  # fmt: skip
    return np.array([report.certified.successes, report.attacked.successes])


def _detected(net: nn.Module, data: Dataset, device: Device) -> np.ndarray:
    shape = data.input_shape
    target = NetworkTarget(copy.deepcopy(net).to(device), name="check", digest="", input_shape=shape,
                           num_classes=data.classes)  # fmt: skip
    found = detect(target, data.images, data.labels, 0)
    return np.concatenate([one.values for one in found.values()])


def _attacked(net: nn.Module, x: Tensor, y: Tensor, device: Device) -> np.ndarray:
    report = secure_ai.attack(net, (x, y), norm="linf", eps=EPS["linf"], attack="apgd-ce", device=device)
    return np.array([report.clean_accuracy.successes, report.robust_accuracy.successes])
