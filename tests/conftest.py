"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run beside each other: one thread each, before torch is loaded

import numpy as np
import pytest

from secure_ai.data.dataset import Dataset

SMALLER_PROBES = {  # a test's share; test_diagnosis_checks and the benchmarks run the probes whole
    "longer": {"STEPS": 40, "SAMPLES": 32},
    "unbounded": {"SAMPLES": 32},
    "along": {"SAMPLES": 32},
    "distilled": {"ROUNDS": 1, "TAUGHT": 100},
    "binarisation": {"SAMPLES": 10, "INNER": 120, "RANDOM_POINTS": 60},
}


def make_digits(n: int, seed: int, classes: int = 10) -> Dataset:
    """An easy stand-in for MNIST: a fixed random pattern a class, faded and noisy, (n, 1, 28, 28) uint8."""
    patterns = np.random.default_rng(7).integers(0, 2, size=(classes, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    random = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % classes
    strength = random.uniform(0.5, 0.9, size=(n, 1, 1))
    noise = random.normal(0, 0.08, size=(n, 28, 28))
    pixels = np.clip(patterns[labels] * strength + noise, 0, 1)
    images = np.rint(255 * pixels).astype(np.uint8)[:, None]
    return Dataset(images, labels, f"digits-{seed}", classes)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the state folder of whoever runs the tests, and none finds a key there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """600 training images."""
    return make_digits(600, seed=1)


@pytest.fixture(scope="session")
def digits_test() -> Dataset:
    """300 other images of the same kind."""
    return make_digits(300, seed=2)


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory, digits: Dataset, digits_test: Dataset) -> dict[str, Path]:
    """Both sets as NPZ files, by role."""
    folder = tmp_path_factory.mktemp("digits")
    files = {}
    for role, dataset in (("train", digits), ("test", digits_test)):
        files[role] = folder / f"{role}.npz"
        np.savez_compressed(files[role], x=dataset.images[:, 0], y=dataset.labels)
    return files


@contextmanager
def _smaller_probes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, constants in SMALLER_PROBES.items():
            for name, value in constants.items():
                patch.setattr(f"secure_ai.red.evasion.trust.probes.{module}.{name}", value)
        yield


@pytest.fixture(scope="module")
def smaller_probes() -> Iterator[None]:
    """The probes of the verdict with fewer images and steps, where a test is about something else."""
    with _smaller_probes():
        yield


@pytest.fixture(scope="session")
def smaller_probes_now() -> Callable[[], AbstractContextManager[None]]:
    """The same for a `with` block: what lives longer than a module is made with it."""
    return _smaller_probes
