"""Every hint that names an option or a line of code does what it says: refused, the hint followed, taken.

Hints of `--resize`, of quantised modules, of Keras factories, of folders and of misspelt words are tried where those
are tested.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.budget import parse_budget
from secure_ai.core.compute import choose_device
from secure_ai.core.errors import SecureAIError
from secure_ai.data.npz import dataset_from_arrays, load_npz
from secure_ai.data.source import load_data
from secure_ai.files.write import refuse_unwritable
from secure_ai.models.load.store import load_model, make_target, model_of_object
from secure_ai.red.evasion.suite.parse import parse_suite
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.attack import attack

X, Y = np.full((6, 5, 5), 9, np.uint8), np.arange(6) % 3


def refused(call: Callable[[], Any]) -> str:
    """The hint of a request that must be refused."""
    with pytest.raises(SecureAIError) as caught:
        call()
    assert caught.value.hint
    return caught.value.hint


def option(hint: str, name: str) -> str:
    """What a hint says about an option, e.g. `model` of `--weights-key model`."""
    found = re.search(rf"{name} (\S+)", hint)
    assert found, hint
    return found[1]


def evaluated(hint: str, **names: Any) -> Any:
    """The value of the line of code in a hint."""
    return eval(re.sub("^save ", "", hint), {"np": np, "torch": torch, **names})  # a line of our own


@pytest.fixture
def arch(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(3, 2)\n")
    return f"{tmp_path / 'net.py'}:build"


def test_one_of_several_state_dicts(tmp_path: Path, arch: str) -> None:
    model, path = nn.Linear(3, 2), tmp_path / "c.pt"
    torch.save({"model": model.state_dict(), "ema": model.state_dict()}, path)
    key = option(refused(lambda: load_model(path, arch=arch)), "--weights-key")
    assert load_model(path, arch=arch, weights_key=key).digest


def test_a_checkpoint_with_something_else_in_it(tmp_path: Path, arch: str) -> None:
    model, path = nn.Linear(3, 2), tmp_path / "c.pt"
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=0.1)}, path)
    hint = refused(lambda: load_model(path, arch=arch))
    line = re.search(r"torch\.save\([^,]*, FILE\)", hint)
    assert line, hint
    evaluated(line[0], model=model, FILE=path)
    assert load_model(path, arch=arch).digest


@pytest.mark.parametrize("y", [np.eye(3, dtype=np.int64)[Y], Y[:, None]], ids=["one-hot", "column"])
def test_labels_of_two_dimensions(y: np.ndarray) -> None:
    hint = refused(lambda: dataset_from_arrays(X, y, name="d"))
    assert dataset_from_arrays(X, evaluated(hint, y=y), name="d").labels.tolist() == Y.tolist()


def test_rows_with_several_classes_get_no_hint_that_would_choose_one() -> None:
    rows = np.array([[1, 1, 0]] * 6)
    with pytest.raises(SecureAIError) as caught:
        dataset_from_arrays(X, rows, name="d")
    assert "argmax" not in caught.value.hint


@pytest.mark.parametrize(
    ("x", "word", "change"),
    [
        (np.full((6, 5, 5), 200.0), "divide by 255", lambda x: x / 255),
        (np.ones((6, 5, 5), np.uint8), "multiply by 255", lambda x: x * 255),
        (np.full((6, 3, 8, 3), 9, np.uint8), "(N, H, W)", lambda x: x[:, 0]),
        (np.full((6, 5, 5), 0.002), "divided by 255 twice", lambda x: x * 255),
        (np.full((6, 5, 5), 9, np.int32), "uint8", lambda x: x.astype(np.uint8)),
    ],
)
def test_pixels_that_do_not_fit(x: np.ndarray, word: str, change: Callable[[Any], Any]) -> None:
    hint = refused(lambda: dataset_from_arrays(x, Y, name="d"))
    assert word in hint
    assert len(dataset_from_arrays(change(x), Y, name="d")) == 6


def test_an_array_alone_is_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    hint = refused(lambda: load_npz(tmp_path / "x.npy"))
    evaluated(hint.removesuffix(" writes one"), images=X, labels=Y, FILE=tmp_path / "d.npz")
    assert len(load_npz(tmp_path / "d.npz")) == 6


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y)
    assert "--split" in refused(lambda: load_data(str(tmp_path / "d.npz")))
    assert len(load_data(str(tmp_path / "d.npz"), split="train")) == 6


@pytest.mark.parametrize("access", ["scores", "labels"])
def test_a_callable_that_answers_the_other_thing(access: Any) -> None:
    def answers(images: np.ndarray) -> np.ndarray:
        scores = np.stack([images.mean((1, 2, 3)), images.max((1, 2, 3)), images.min((1, 2, 3))], axis=1)
        return scores if access == "labels" else scores.argmax(axis=1)

    def asked(way: Any) -> Any:
        loaded = model_of_object(answers, way, name="c", arch="")
        target = make_target(loaded, input_shape=(1, 5, 5), num_classes=3, access=way)
        return target.logits(torch.rand(4, 1, 5, 5))

    other = option(refused(lambda: loaded_scores(answers, access)), "--access")
    assert other != access
    assert asked(other).shape == (4, 3)


def loaded_scores(answers: Callable[[np.ndarray], np.ndarray], access: Any) -> Any:
    network = model_of_object(answers, access, name="c", arch="").network
    return network(torch.rand(4, 1, 5, 5))


def test_an_eps_in_grey_levels() -> None:
    hint = refused(lambda: parse_budget("linf", "8", 75))
    text = option(hint.replace("?", ""), r"\[0, 1\]:")
    assert parse_budget("linf", text, 75).eps == 8 / 255


def test_a_misspelt_setting() -> None:
    hint = refused(lambda: parse_suite("pgd:step=3", "linf", "gradients", 6, 3))
    name = option(hint.replace("?", ""), "did you mean")
    assert parse_suite(f"pgd:{name}=3", "linf", "gradients", 6, 3).plans


def test_transfer_without_a_surrogate(tmp_path: Path, arch: str) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 3))\n"
    )
    torch.save({"1.weight": torch.ones(3, 25), "1.bias": torch.zeros(3)}, tmp_path / "m.pt")
    spec = ModelSpec(model=str(tmp_path / "m.pt"), arch=arch)

    def attacked(**surrogate: Any) -> Any:
        return attack(spec, (X, Y), norm="linf", eps=0.1, attack="transfer:steps=1", **surrogate)

    assert "--surrogate FILE" in refused(attacked)
    assert attacked(surrogate=spec).result.n == 6


def test_what_stands_in_the_way_of_an_output_is_removed_or_made_as_told(tmp_path: Path) -> None:
    link, deep = tmp_path / "out.json", tmp_path / "none" / "out.json"
    link.symlink_to(tmp_path / "elsewhere")
    assert refused(lambda: refuse_unwritable(link)) == "remove it first"
    link.unlink()
    refuse_unwritable(link)
    assert refused(lambda: refuse_unwritable(deep)) == "make it first"
    deep.parent.mkdir()
    refuse_unwritable(deep)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_the_device_of_the_hint_is_there() -> None:
    device = option(refused(lambda: choose_device("cuda")), "--device")
    assert device == "cpu"
    assert choose_device("cpu").type == "cpu"
