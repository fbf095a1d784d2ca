"""A folder of Hugging Face's: weights and four values are taken, code is a finding, the user's flags win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secure_ai
from secure_ai.core.errors import FileKindError, FormatError, PathEscapeError, SecureAIError, UsageError
from secure_ai.core.trust import CheckOutcome
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.models.load.store import load_model, make_target
from secure_ai.models.preflight.provenance import INPUT
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.verbs.attack import AttackReport

NET = """
import torch
class Output:
    def __init__(self, logits):
        self.logits = logits
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(75, 3)
    def forward(self, pixel_values):
        return Output(self.last(pixel_values.flatten(1)))
"""
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
NAMES = {"0": "cat", "1": "dog", "2": "eel"}


def tensors() -> dict[str, Any]:
    torch.manual_seed(0)
    return {f"last.{name}": tensor.numpy() for name, tensor in nn.Linear(75, 3).state_dict().items()}


def folder_of(root: Path, **files: Any) -> Path:
    """A folder with `model.safetensors` and `files`, their dots written `__`; None leaves one out."""
    folder = root / "model"
    folder.mkdir()
    (root / "net.py").write_text(NET)
    every = {"model__safetensors": safetensors_bytes(tensors(), {"format": "pt"}), **files}
    for name, content in every.items():
        if content is not None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def load(folder: Path) -> Any:
    return load_model(folder, arch=f"{folder.parent / 'net.py'}:Net")


def parts(**places: str) -> dict[str, Any]:
    """The weights in two files and their index; `places` overrides where the index says that a tensor stands."""
    split = {"a__safetensors": "last.bias", "b__safetensors": "last.weight"}
    files = {file: safetensors_bytes({name: tensors()[name]}, {}) for file, name in split.items()}
    weight_map = {name: file.replace("__", ".") for file, name in split.items()} | places
    return {"model__safetensors": None, "model__safetensors__index__json": {"weight_map": weight_map}, **files}


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (HALVES, InputTransform(mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({**HALVES, "rescale_factor": 1 / 255}, InputTransform(mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({**HALVES, "do_normalize": False, "rescale_factor": 1 / 255}, InputTransform()),
        ({"image_mean": [127.5], "image_std": [58.0], "do_rescale": False},
         InputTransform(high=255.0, mean=(127.5,), std=(58.0,))),
        ({"rescale_factor": 1 / 127.5, "do_normalize": False}, InputTransform(high=2.0)),
        ({"rescale_factor": 1 / 127.5}, None),
        ({**HALVES, "rescale_factor": 1 / 127.5, "rescale_offset": True}, None),
        ({**HALVES, "do_flip_channel_order": True}, None),
        ({"size": {"height": 3}}, None),
    ],
)  # fmt: skip
def test_the_pixels_are_prepared_as_the_folder_says(tmp_path: Path, processor: Any, expected: Any) -> None:
    loaded = load(folder_of(tmp_path, preprocessor_config__json=processor))
    target = make_target(loaded, input_shape=(3, 5, 5), num_classes=3)
    assert loaded.known.input == expected
    assert target.transform == (expected or InputTransform())
    own = make_target(loaded, input_shape=(3, 5, 5), num_classes=3, mean=(0.1,), std=(0.2,))
    assert own.transform == own.known.input == InputTransform(mean=(0.1,), std=(0.2,))


def test_the_order_of_the_library_is_the_order_here(tmp_path: Path) -> None:
    """`rescale_factor` times the stored value, less the mean, over the standard deviation."""
    stored = np.array([[[[0]], [[51]], [[255]]]], dtype=np.uint8)
    loaded = load(folder_of(tmp_path, preprocessor_config__json={**HALVES, "rescale_factor": 1 / 127.5}))
    made = make_target(loaded, input_shape=(3, 5, 5), num_classes=3).transform(torch.from_numpy(stored / 255).float())
    expected = (stored * (1 / 127.5) - 0.5) / 0.25
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "processor",
    [
        {"image_mean": [0.5]},
        {"image_std": [0.5]},
        {"image_mean": [0.5] * 4, "image_std": [0.5] * 4},
        {"image_mean": [127.5], "image_std": [58.0]},
        {"image_mean": [0.5], "image_std": [0.0]},
        {"image_mean": [True], "image_std": [0.5]},
        {"image_mean": ["0.5"], "image_std": [0.5]},
        {**HALVES, "rescale_factor": 0},
        {**HALVES, "rescale_factor": 10**400},
        {**HALVES, "rescale_factor": None},
        {**HALVES, "do_normalize": "false"},
        [],
    ],
)
def test_values_out_of_range_are_refused(tmp_path: Path, processor: Any) -> None:
    with pytest.raises(FormatError):
        load(folder_of(tmp_path, preprocessor_config__json=processor))


def test_three_means_need_three_channels(tmp_path: Path) -> None:
    loaded = load(folder_of(tmp_path, preprocessor_config__json=HALVES))
    with pytest.raises(UsageError):
        make_target(loaded, input_shape=(1, 3, 9), num_classes=3)


@pytest.mark.parametrize(
    ("labels", "expected"), [(NAMES, ("cat", "dog", "eel")), ({"0": "c\u202eat"}, ("c\\u202eat",)), (None, ())]
)
def test_the_outputs_are_named_by_id2label(tmp_path: Path, labels: Any, expected: tuple[str, ...]) -> None:
    assert load(folder_of(tmp_path, config__json={"id2label": labels})).known.class_names == expected


@pytest.mark.parametrize("labels", [{"1": "cat"}, {"0": 3}, {"0": ""}, {"0": "x" * 201}, {}, [], {"a": "cat"}])
def test_names_that_are_no_list_are_refused(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(FormatError):
        load(folder_of(tmp_path, config__json={"id2label": labels}))


def test_an_index_names_the_files(tmp_path: Path) -> None:
    whole = load(folder_of(tmp_path))
    (tmp_path / "two").mkdir()
    assert load(folder_of(tmp_path / "two", **parts())).digest == whole.digest


@pytest.mark.parametrize(
    ("places", "error"),
    [
        ({"last.bias": "../b.safetensors"}, PathEscapeError),
        ({"last.bias": "/etc/b.safetensors"}, PathEscapeError),
        ({"last.bias": "sub/../b.safetensors"}, PathEscapeError),
        ({"last.bias": "b.safetensors"}, FormatError),
        ({"last.other": "b.safetensors"}, FormatError),
        ({"last.bias": "net.py"}, FormatError),
        ({"last.bias": 3}, FormatError),
        ({"last.bias": "none.safetensors"}, SecureAIError),
    ],
)
def test_an_index_that_leads_elsewhere_or_lies_is_refused(
    tmp_path: Path, places: Any, error: type[SecureAIError]
) -> None:
    with pytest.raises(error):
        load(folder_of(tmp_path, **parts(**places)))


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(FileKindError) as caught:
        load(folder)
    assert "cp -rL" in caught.value.hint


@pytest.mark.parametrize("file", ["pytorch_model__bin", "weights__safetensors"])
def test_a_folder_without_its_file_names_the_one_that_works(tmp_path: Path, file: str) -> None:
    torch.save({name: torch.from_numpy(array) for name, array in tensors().items()}, tmp_path / "state")
    state = (tmp_path / "state").read_bytes()
    content = state if file.endswith("bin") else safetensors_bytes(tensors(), {})
    folder = folder_of(tmp_path, **{file: content, "model__safetensors": None})
    with pytest.raises(FormatError) as caught:
        load(folder)
    named = caught.value.hint.split()[1]
    assert load_model(named, arch=f"{tmp_path / 'net.py'}:Net").digest


def test_two_sets_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        load(folder_of(tmp_path, **{**parts(), "model__safetensors": safetensors_bytes(tensors(), {})}))
    assert load_model(caught.value.hint.split()[1], arch=f"{tmp_path / 'net.py'}:Net").digest


def test_what_decides_the_figure_decides_the_digest(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, preprocessor_config__json=HALVES)
    before = load(folder).file_sha256
    (folder / "README.md").write_text("read me")
    assert load(folder).file_sha256 == before
    (folder / "preprocessor_config.json").write_text(json.dumps({**HALVES, "image_std": [0.5]}))
    assert load(folder).file_sha256 != before


def attacked(folder: Path, **how: Any) -> AttackReport:
    x = np.random.default_rng(0).random((40, 3, 5, 5), dtype=np.float32)
    spec = ModelSpec(model=str(folder), arch=f"{folder.parent / 'net.py'}:Net", **how)
    return secure_ai.attack(spec, (x, np.arange(40) % 3), norm="linf", eps=0.01, attack="fgsm")


def test_the_figure_says_what_was_taken_and_code_is_a_finding(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    code = f"open({str(canary)!r}, 'w')".encode()
    folder = folder_of(
        tmp_path, preprocessor_config__json=HALVES, modeling_x__py=code, config__json={"auto_map": {"AutoModel": "x.Y"}}
    )
    report = attacked(folder)
    assert any("preprocessor_config.json" in fix and "0.25" in fix for fix in report.as_json()["fixes"])
    assert {c.id: c.outcome for c in report.judged.checked.checks}[INPUT] is CheckOutcome.PASS
    (finding,) = [f for f in report.findings if f.id == "SAI-LD-001"]
    assert finding.evidence["code"] == ["modeling_x.py", "auto_map in config.json"]
    assert finding.severity == "medium"
    assert not canary.exists()


def test_a_flag_wins_and_it_is_said(tmp_path: Path) -> None:
    report = attacked(folder_of(tmp_path, preprocessor_config__json=HALVES), mean=(0.0,), std=(1.0,))
    assert any("command line" in fix and "preprocessor_config.json" in fix for fix in report.fixes)
    assert not [f for f in report.findings if f.id == "SAI-LD-001"]
    assert report.judged.checked.target.transform == InputTransform(mean=(0.0,), std=(1.0,))
