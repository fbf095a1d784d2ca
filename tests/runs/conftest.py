"""What tests of runs share: two finished runs, each made once a process, and the context that a measure is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from secure_ai.core.events import ignore_event
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.files.seal import Seal, SealedFile
from secure_ai.models.load.store import save_model
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.tensors import images_to_float
from secure_ai.runs.engine.measure import Context
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.run import RunResult, run

Contexts = Callable[..., Context]
SmallerProbes = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def quick_changes(digit_files: dict[str, Path]) -> list[str]:
    """The recipe quick on the digits: report 1, suite, transfer matrix and audit, as little of each as there can be."""
    return [
        *(f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()),
        "report_1.epochs=2",
        "report_1.defence_epochs=1",
        "report_1.poison_count=20",
        "report_1.pgd_steps=3",
        "transfer.steps=2",
        "transfer.n=60",
        'parts=["report-1", "suite", "audit"]',
        "suite.attack=fgsm,pgd:steps=3",
        "suite.n=40",
        "suite.distance_n=20",
        "suite.distance_steps=5",
        "suite.confidence_n=40",
    ]


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, quick_changes: list[str], smaller_probes_now: SmallerProbes
) -> RunResult:
    """A finished run of the recipe quick. Tests that change something in its folder work on a copy."""
    with smaller_probes_now():
        return run("quick", changes=quick_changes, out=tmp_path_factory.mktemp("quick") / "out")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, digits_test: Dataset) -> Mapping[str, Path]:
    """An untrained network, images that carry its own predictions as labels, and another network."""
    folder = tmp_path_factory.mktemp("inputs")
    files = {name: folder / f"{name}.safetensors" for name in ("mine", "other")}
    for number, path in enumerate(files.values()):
        network = build_network("report1-cnn", generator=generator(number, "replay-test"))
        save_model(network, path, arch="report1-cnn")
        if number == 0:
            with torch.no_grad():
                labels = network.eval()(images_to_float(digits_test.images)).argmax(dim=1).numpy()
    labels[-1] = 9  # ten classes, whatever the network says
    np.savez(folder / "data.npz", x=digits_test.images[:, 0], y=labels)
    return {**files, "data": folder / "data.npz"}


@pytest.fixture(scope="session")
def assessed(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: Mapping[str, Path],
    smaller_probes_now: SmallerProbes,
) -> RunResult:
    """A finished run of the recipe assess with a surrogate, on 290 images: two shards."""
    changes = [
        "assess.n=290",
        'assess.attack="pgd:steps=2,fgsm,transfer:steps=2"',
        f"assess.surrogate={json.dumps(str(inputs['other']))}",
        'assess.eps="0.02"',
        "assess.curve=[0.0, 0.5, 1.0]",
        "assess.distance_n=20",
        "assess.distance_steps=5",
        "transfer.steps=2",
    ]
    out = tmp_path_factory.mktemp("assess") / "out"
    with smaller_probes_now():
        return run(model=ModelSpec(model=str(inputs["mine"])), data=str(inputs["data"]), changes=changes, out=out)


@pytest.fixture
def context_on(tmp_path: Path) -> Contexts:
    """Context of a measure on one data set, whatever its role."""

    def context(dataset: Dataset, *, seed: int = 0, kept: dict[str, bytes] | None = None) -> Context:
        return Context(
            seed=seed,
            data=lambda role: dataset,
            precision="float32",
            events=ignore_event,
            progress=lambda done, total: None,
            partial=SealedFile(tmp_path, "partial", "test", Seal(None)),
            keep=({} if kept is None else kept).__setitem__,
        )

    return context
