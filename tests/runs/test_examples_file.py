"""Saved examples: what is written comes back, and a file from elsewhere is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import secure_ai
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import (
    DataKeysError,
    LabelError,
    NonFiniteError,
    PixelRangeError,
    SecureAIError,
    ShapeError,
    UsageError,
)
from secure_ai.core.trust import Verdict
from secure_ai.data.dataset import Dataset
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.saved_examples import image_key
from secure_ai.runs.examples_file import Origin, read_examples, save_examples

MODEL = "ab" * 32
Arrays = dict[str, np.ndarray]


@pytest.fixture
def saved(digits_test: Dataset, tmp_path: Path) -> Path:
    """Examples of the images 5 and 7: the clean image, half as bright."""
    chosen = np.array([5, 7])
    origin = Origin(
        model_digest=MODEL,
        data_digest=digits_test.digest,
        budget=PerturbationBudget("linf", 0.5),
        attack="pgd",
        seed=3,
    )
    x_adv = (digits_test.images[chosen] / 510).astype(np.float32)
    save_examples(tmp_path / "a.npz", x_adv, digits_test.labels[chosen], digits_test.indices[chosen], origin)
    return tmp_path / "a.npz"


def test_what_is_saved_is_found_by_its_image(saved: Path, digits_test: Dataset) -> None:
    lookup, made_for = read_examples(str(saved), digits_test)
    assert made_for == MODEL
    assert len(lookup) == 2
    image = images_to_float(digits_test.images[7:8])[0]
    assert torch.allclose(lookup[image_key(image)], image / 2)


def test_the_file_says_where_its_examples_come_from(saved: Path, digits_test: Dataset) -> None:
    arrays = np.load(saved, allow_pickle=False)
    assert bytes(arrays["model_digest"]).hex() == MODEL
    assert bytes(arrays["data_digest"]).hex() == digits_test.digest
    assert bytes(arrays["norm"]).decode() == "linf"
    assert (arrays["eps"][0], arrays["seed"][0], bytes(arrays["attack"]).decode()) == (0.5, 3, "pgd")
    assert arrays["index"].tolist() == [5, 7]


def test_other_images_are_refused(saved: Path, digits: Dataset) -> None:
    with pytest.raises(UsageError, match="other images"):
        read_examples(str(saved), digits)


CHANGES: dict[str, tuple[Callable[[Arrays], Arrays], type[SecureAIError]]] = {
    "no examples": (lambda a: {k: v for k, v in a.items() if k != "x_adv"}, DataKeysError),
    "not a digest": (lambda a: a | {"model_digest": np.zeros(3, dtype=np.uint8)}, ShapeError),
    "other shape": (lambda a: a | {"x_adv": a["x_adv"][:, :, :5]}, ShapeError),
    "other type": (lambda a: a | {"x_adv": a["x_adv"].astype(np.float64)}, ShapeError),
    "NaN": (lambda a: a | {"x_adv": a["x_adv"] * np.float32("nan")}, NonFiniteError),
    "too bright": (lambda a: a | {"x_adv": a["x_adv"] + np.float32(1)}, PixelRangeError),
    "other labels": (lambda a: a | {"y": a["y"] + 1}, LabelError),
    "one label more": (lambda a: a | {"y": np.append(a["y"], 1)}, LabelError),
    "no such image": (lambda a: a | {"index": a["index"] + 10**6}, LabelError),
    "float index": (lambda a: a | {"index": a["index"] + 0.5}, LabelError),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_from_elsewhere_is_refused(saved: Path, digits_test: Dataset, name: str) -> None:
    change, error = CHANGES[name]
    with np.load(saved, allow_pickle=False) as arrays:
        content = change(dict(arrays))
    np.savez(saved, **content)  # type: ignore[arg-type]  # names of arrays, not of options
    with pytest.raises(error):
        read_examples(str(saved), digits_test)


def other_tools(data: Dataset) -> np.ndarray:
    """Every image a tenth darker."""
    examples: np.ndarray = (data.images / 255 * 0.9).astype(np.float32)
    return examples


@pytest.mark.parametrize("form", ["float32", "float64", "uint8", "channels last", "with index"])
def test_examples_of_other_tools_are_taken_in_the_order_of_the_data(
    digits_test: Dataset, tmp_path: Path, form: str
) -> None:
    x_adv = other_tools(digits_test)
    arrays: Arrays = {"x_adv": x_adv}
    if form == "float64":
        arrays = {"x_adv": x_adv.astype(np.float64), "y": digits_test.labels}
    elif form == "uint8":
        arrays = {"x_adv": np.rint(x_adv * 255).astype(np.uint8)}
    elif form == "channels last":
        arrays = {"x_adv": x_adv.transpose(0, 2, 3, 1)}
    elif form == "with index":
        kept = np.array([9, 4, 5])
        arrays = {"x_adv": x_adv[kept], "y": digits_test.labels[kept], "index": kept}
    np.savez(tmp_path / "theirs.npz", **arrays)  # type: ignore[arg-type]  # as in keras_oracle.py
    lookup, made_for = read_examples(str(tmp_path / "theirs.npz"), digits_test)
    assert made_for == ""
    assert len(lookup) == (3 if form == "with index" else 300)
    image = images_to_float(digits_test.images[5:6])[0]
    torch.testing.assert_close(lookup[image_key(image)], image * 0.9, atol=0.003, rtol=0)


FOREIGN_CHANGES: dict[str, tuple[Callable[[Arrays], Arrays], type[SecureAIError]]] = {
    "another order": (lambda a: {"x_adv": a["x_adv"][::-1]}, UsageError),
    "fewer": (lambda a: {"x_adv": a["x_adv"][:5]}, ShapeError),
    "index alone": (lambda a: {"x_adv": a["x_adv"][:5], "index": np.arange(5)}, DataKeysError),
    "other labels": (lambda a: a | {"y": a["y"] + 1}, LabelError),
    "scaled": (lambda a: {"x_adv": a["x_adv"] * 255}, PixelRangeError),
    "normalised": (lambda a: {"x_adv": a["x_adv"] - np.float32(0.5)}, PixelRangeError),
    "something else": (lambda a: a | {"z": a["y"]}, DataKeysError),
}


@pytest.mark.parametrize("change", FOREIGN_CHANGES)
def test_examples_of_other_tools_that_do_not_fit_are_refused(digits_test: Dataset, tmp_path: Path, change: str) -> None:
    make, error = FOREIGN_CHANGES[change]
    arrays = make({"x_adv": other_tools(digits_test), "y": digits_test.labels})
    np.savez(tmp_path / "theirs.npz", **arrays)  # type: ignore[arg-type]  # as in keras_oracle.py
    with pytest.raises(error):
        read_examples(str(tmp_path / "theirs.npz"), digits_test)


def test_examples_of_other_tools_alone_are_never_reliable(tmp_path: Path) -> None:
    """The network takes bright images for class 1; darker examples within the budget take one of two classes away."""
    x = np.where(np.arange(1000)[:, None, None] % 2, 0.55, 0.3).astype(np.float32) + np.zeros((1, 4, 5), np.float32)
    y = np.arange(1000, dtype=np.int64) % 2
    np.savez(tmp_path / "theirs.npz", x_adv=x - np.float32(0.1))

    def network(images: np.ndarray) -> np.ndarray:
        mean = images.mean(axis=(1, 2, 3))
        return np.stack([0.5 - mean, mean - 0.5], axis=1).astype(np.float32)

    for eps, left in ((0.11, 0.5), (0.09, 1.0)):  # outside the budget they do not count
        found = secure_ai.attack(
            network, (x, y), norm="linf", eps=eps, attack=f"examples:{tmp_path / 'theirs.npz'}", access="scores"
        )
        assert found.robust_accuracy.value == left
        assert found.trust.verdict is not Verdict.RELIABLE
