"""What zoo F is made of: tinted digits, three classes, pairs; rows in every norm that is called reliable."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from secure_ai.data.dataset import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The zoo's tables; the benchmarks find each other by their bare names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("_zoo_tables")
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def digits(n: int = 40) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 28, 28)).astype(np.uint8)
    return Dataset(images, np.arange(n, dtype=np.int64) % 10, "d", 10)


def test_a_tint_keeps_the_digit_and_pairs_keep_both(tables: ModuleType) -> None:
    data, made = digits(), sys.modules["_zoo_data"].VARIANTS
    colour = made["tinted"](data)
    assert colour.images.shape == (40, 3, 28, 28)
    assert bool((colour.images <= data.images).all())
    assert bool((colour.images[:, 0].astype(int) >= data.images[:, 0] // 2 - 1.0).all())
    hues = {tuple(image) for image in (colour.images[:, :, 5, 5] / data.images[:, :, 5, 5].clip(1)).round(2).tolist()}
    assert len(hues) > 30
    pairs = made["pairs"](data)
    assert pairs.images.shape == (40, 1, 28, 56)
    assert np.array_equal(pairs.images[..., :28], data.images)
    right = [int(np.flatnonzero((data.images == image).all(axis=(1, 2, 3)))[0]) for image in pairs.images[..., 28:]]
    assert np.array_equal(pairs.labels, data.labels * 10 + data.labels[right])
    assert set(made["few"](data).labels.tolist()) == {0, 1, 2}


def test_zoo_f_has_honest_and_planted_rows_wherever_reliable_is_given(tables: ModuleType) -> None:
    zoo = tables.ZOOS["F"]
    for rows in (zoo.honest, zoo.planted):
        assert {row.norm for row in rows} == {"linf", "l2", "l1"}
        assert {row.recipe.data for row in rows} == {"mnist", "tinted", "few", "pairs"}
        assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("data", ["tinted", "few", "pairs"])
def test_every_network_of_zoo_f_takes_its_data(tables: ModuleType, data: str) -> None:
    recipe = next(row.recipe for row in tables.ZOOS["F"].honest if row.recipe.data == data)
    made = sys.modules["_zoo_data"].VARIANTS[data](digits())
    network = sys.modules["_zoo_networks"].NETWORKS[recipe.arch]()
    assert network(torch.zeros(2, *made.input_shape)).shape == (2, made.classes)
