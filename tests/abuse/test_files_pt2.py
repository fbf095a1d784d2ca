"""Hostile `.pt2` graphs: arguments of another kind, numbers and lists that grow, weights named thousands of times.

Every family is made from `exported`, a sound program in a few lines; the sound one is accepted and answers.
"""

from __future__ import annotations

import io
import json
import random
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_ai.core.errors import FormatError, SandboxError, SizeLimitError
from secure_ai.files.open import FileBytes
from secure_ai.files.pt2 import read_pt2
from secure_ai.files.pt2_ops import GIVE_NUMBERS, OPERATIONS
from secure_ai.files.sandbox import sandbox_required
from secure_ai.files.sandbox.probe import sandbox_report
from secure_ai.models.load import exported_trial
from secure_ai.models.load.artifact import read_artifact
from secure_ai.models.load.exported import network_from_exported
from secure_ai.models.load.store import load_model

X = {"as_tensor": {"name": "x"}}
MIB = 1024 * 1024
Node = dict[str, Any]


def node(target: str, inputs: Mapping[str, Any], *outputs: str, number: bool = False) -> Node:
    """One operation; `outputs` are names of tensors, or of numbers."""
    results = [{"as_sym_int": {"as_name": name}} if number else {"as_tensor": {"name": name}} for name in outputs]
    target = target if target.startswith("_operator.") else f"torch.ops.aten.{target}"
    arguments = [{"name": name, "arg": value, "kind": 1} for name, value in inputs.items()]
    return {"target": target, "inputs": arguments, "outputs": results, "metadata": {}}


def calculated(operation: str, a: Any, b: Any, output: str) -> Node:
    arguments = {name: {"as_sym_int": {"as_name": v}} if isinstance(v, str) else v for name, v in (("a", a), ("b", b))}
    return node(f"_operator.{operation}", arguments, output, number=True)


HEAD = [
    node("flatten.using_ints", {"self": X, "start_dim": {"as_int": 1}}, "flat"),
    node("linear.default", {"input": {"as_tensor": {"name": "flat"}}, "weight": {"as_tensor": {"name": "w"}}}, "out"),
]


def tensor(path: str = "weight_0", sizes: Sequence[int] = (3, 16), strides: Sequence[int] = (16, 1)) -> dict[str, Any]:
    meta = {"dtype": 7, "sizes": [{"as_int": n} for n in sizes], "strides": [{"as_int": n} for n in strides]}
    meta["storage_offset"] = {"as_int": 0}
    return {"path_name": path, "is_param": True, "use_pickle": False, "tensor_meta": meta}


def exported(
    nodes: Sequence[Node] = (),
    *,
    shape: Sequence[int] = (2, 1, 4, 4),
    weights: Mapping[str, Any] | None = None,
    states: Sequence[str] = ("w",),
    values: bytes = bytes(4 * 48),
    extra: Mapping[str, Any] | None = None,
) -> FileBytes:
    """A program that flattens its images and multiplies them by a weight; `nodes` stand before that."""
    parameters = [{"parameter": {"arg": {"name": name}, "parameter_name": name}} for name in states]
    output = {"user_output": {"arg": {"as_tensor": {"name": "out"}}}}
    model = {
        "graph_module": {
            "graph": {
                "nodes": [*nodes, *HEAD],
                "tensor_values": {"x": {"sizes": [{"as_int": size} for size in shape]}},
                **(extra or {}),
            },
            "signature": {"input_specs": [*parameters, {"user_input": {"arg": X}}], "output_specs": [output]},
        }
    }
    table = {"config": {"w": tensor()} if weights is None else weights}
    members = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        "models/model.json": json.dumps(model).encode(),
        "data/weights/model_weights_config.json": json.dumps(table).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "data/weights/weight_0": values,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            method = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(f"m/{name}", content, method)
    return FileBytes("m.pt2", stream.getvalue())


def load(file: FileBytes) -> torch.nn.Module:
    return network_from_exported(read_pt2(file), where=file.name)[0]


def test_the_program_that_the_families_are_made_from_is_accepted() -> None:
    assert load(exported())(torch.ones(2, 1, 4, 4)).shape == (2, 3)


def test_every_operation_of_the_table_is_torchs_with_these_parameters() -> None:
    for name, parameters in OPERATIONS.items():
        package, _, rest = name.partition(".")
        if package == "aten":
            operation, _, overload = rest.partition(".")
            schema = getattr(getattr(torch.ops.aten, operation), overload)._schema
            assert [argument.name for argument in schema.arguments] == list(parameters), name
            if name in GIVE_NUMBERS:
                assert [str(result.type) for result in schema.returns] == ["int"]


# --- arguments of another kind ----------------------------------------------------------------------------------------

ENUMS = ["dtype", "layout", "memory_format"]
WRONG: dict[str, Node] = {
    **{
        f"{target.split('.')[0]}-{name}-{value}": node(target, {"self": X, name: {"as_int": value}}, "y")
        for target in ("_to_copy.default", "zeros_like.default", "ones_like.default")
        for name in ENUMS
        for value in (-1, 9, 44, 60, 128, 300)
    },
    "dtype-of-a-sum": node("sum.default", {"self": X, "dtype": {"as_int": 300}}, "y"),
    "dtype-half": node("_to_copy.default", {"self": X, "dtype": {"as_scalar_type": 6}}, "y"),
    "dtype-true": node("_to_copy.default", {"self": X, "dtype": {"as_scalar_type": True}}, "y"),
    "pinned": node("_to_copy.default", {"self": X, "pin_memory": {"as_bool": True}}, "y"),
    "unknown-parameter": node("abs.default", {"self": X, "out": X}, "y"),
    "tensor-for-a-number": node("add.Tensor", {"self": X, "other": X, "alpha": X}, "y"),
    "number-for-a-tensor": node("abs.default", {"self": {"as_int": 1}}, "y"),
    "list-for-a-tensor": node("abs.default", {"self": {"as_tensors": [{"name": "x"}]}}, "y"),
    "tensor-for-a-list": node("cat.default", {"tensors": X}, "y"),
    "float-for-a-whole-number": node("select.int", {"self": X, "dim": {"as_float": 1.0}}, "y"),
    "truth-for-a-whole-number": node("select.int", {"self": X, "dim": {"as_bool": True}}, "y"),
    "text-for-a-mode": node("gelu.default", {"self": X, "approximate": {"as_string": "x" * 100}}, "y"),
    "400-digits": node("elu.default", {"self": X, "alpha": {"as_float": 10**400}}, "y"),
    "400-digits-whole": node("select.int", {"self": X, "dim": {"as_int": 10**400}}, "y"),
    "tensor-of-a-tensor": node("_operator.mul", {"a": X, "b": {"as_int": 2}}, "y", number=True),
    "list-times-number": node("_operator.mul", {"a": {"as_ints": [1] * 60}, "b": {"as_int": 10**6}}, "y", number=True),
    "word-times-number": node("_operator.mul", {"a": {"as_string": "constant"}, "b": {"as_int": 2 * 10**9}}, "y",
                              number=True),
    "number-called-a-tensor": node("sym_size.int", {"self": X, "dim": {"as_int": 0}}, "y"),
    "tensor-called-a-number": node("abs.default", {"self": X}, "y", number=True),
    "65-sizes": node("repeat.default", {"self": X, "repeats": {"as_ints": [1] * 65}}, "y"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_an_argument_of_another_kind_is_refused_before_torch_sees_it(refused: Callable[..., Any], wrong: Node) -> None:
    refused("E_FORMAT", lambda: read_pt2(exported([wrong])))


RIGHT: dict[str, list[Node]] = {
    "dtype": [node("_to_copy.default", {"self": X, "dtype": {"as_scalar_type": 8}}, "y")],
    "where-it-lies": [
        node(
            "_to_copy.default",
            {
                "self": X,
                "dtype": {"as_none": True},
                "layout": {"as_layout": 7},
                "device": {"as_device": {"type": "cpu"}},
                "pin_memory": {"as_bool": False},
                "memory_format": {"as_memory_format": 2},
            },
            "y",
        )
    ],
    "number-for-another-tensor": [node("add.Tensor", {"self": X, "other": {"as_float": 0.5}}, "y")],
    "one-number-for-a-list": [node("max_pool2d.default", {"self": X, "kernel_size": {"as_int": 2}}, "y")],
    "numbers": [
        node("sym_size.int", {"self": X, "dim": {"as_int": 2}}, "n", number=True),
        calculated("mul", "n", {"as_int": 4}, "m"),
        node("reshape.default", {"self": X, "shape": {"as_sym_ints": [{"as_int": -1}, {"as_name": "m"}]}}, "y"),
    ],
}


@pytest.mark.parametrize("nodes", RIGHT.values(), ids=RIGHT.keys())
def test_what_exports_really_write_is_accepted(nodes: list[Node]) -> None:
    assert torch.isfinite(load(exported(nodes))(torch.ones(2, 1, 4, 4))).all()


# --- budgets over the whole graph -------------------------------------------------------------------------------------

SIZE = node("sym_size.int", {"self": X, "dim": {"as_int": 3}}, "n0", number=True)
SQUARES = [SIZE, *(calculated("mul", f"n{i}", {"as_sym_int": {"as_name": f"n{i}"}}, f"n{i + 1}") for i in range(60))]


def repeats(values: int, name: str) -> Node:
    return node("repeat.default", {"self": X, "repeats": {"as_ints": [1, values // 16, 1, 1]}}, name)


def products(count: int, size: int) -> list[Node]:
    grown = {"self": X, "size": {"as_ints": [2, size, size]}}
    nodes = [
        node("select.int", {"self": X, "dim": {"as_int": 3}, "index": {"as_int": 0}}, "a"),
        node("select.int", {"self": {"as_tensor": {"name": "a"}}, "dim": {"as_int": 2}, "index": {"as_int": 0}}, "b"),
        node("reshape.default", {"self": {"as_tensor": {"name": "b"}}, "shape": {"as_ints": [2, 1, 1]}}, "c"),
        node("expand.default", grown | {"self": {"as_tensor": {"name": "c"}}}, "m0"),
    ]
    for i in range(count):
        factor = {"as_tensor": {"name": f"m{i}"}}
        nodes.append(node("bmm.default", {"self": factor, "mat2": factor}, f"m{i + 1}"))
    return nodes


COSTLY: dict[str, list[Node]] = {
    "squares-of-a-number": SQUARES,
    "400-results-of-200-MB": [repeats(50 * MIB, f"y{i}") for i in range(400)],
    "one-result-of-1-TB": [repeats(256 * 1024 * MIB, "y")],
    "products": products(20, 2800),
    "pooling-over-everything": [
        node("repeat.default", {"self": X, "repeats": {"as_ints": [1, 1, 1024, 1024]}}, "r"),
        node("max_pool2d.default", {"self": {"as_tensor": {"name": "r"}}, "kernel_size": {"as_ints": [2000, 2000]},
                                    "stride": {"as_ints": [1, 1]}}, "p"),
    ],
    "a-million-parts": [
        repeats(16 * MIB, "big"),
        node("unbind.int", {"self": {"as_tensor": {"name": "big"}}, "dim": {"as_int": 1}}, "p", "q"),
    ],
    "a-million-splits": [
        repeats(16 * MIB, "big"),
        node("split.Tensor", {"self": {"as_tensor": {"name": "big"}}, "split_size": {"as_int": 1},
                              "dim": {"as_int": 1}}, "p", "q"),
    ],
    "4000-changes-in-place": [
        repeats(48 * MIB, "y0"),
        *(node("relu_.default", {"self": {"as_tensor": {"name": f"y{i}"}}}, f"y{i + 1}") for i in range(4000)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("nodes", COSTLY.values(), ids=COSTLY.keys())
def test_a_graph_beyond_its_budget_is_refused_before_anything_is_computed(
    refused: Callable[..., Any], nodes: list[Node]
) -> None:
    file = exported(nodes)
    refused("E_FORMAT", lambda: load(file))


def test_a_graph_within_its_budget_is_accepted_and_frees_what_nobody_needs() -> None:
    nodes = [repeats(MIB, f"y{i}") for i in range(40)]
    assert load(exported(nodes))(torch.ones(2, 1, 4, 4)).shape == (2, 3)
    assert load(exported(products(2, 200))) is not None


def test_a_fixed_number_of_images_is_counted_as_a_whole(refused: Callable[..., Any]) -> None:
    huge = exported([repeats(16 * MIB, "y")], shape=(1 << 20, 1, 4, 4))
    refused("E_FORMAT", lambda: load(huge))


def test_json_is_measured_before_it_is_inflated(refused: Callable[..., Any]) -> None:
    padded = exported(extra={"notes": [f"{n * 7919:<40}" for n in range(220_000)]})
    assert len(padded.content) < 2 * MIB
    refused("E_FORMAT", lambda: read_pt2(padded))


# --- weights ----------------------------------------------------------------------------------------------------------

NAMES = [f"w{i}" for i in range(3000)]
IMPOSSIBLE = tensor(sizes=(0, 1 << 39, 1 << 39), strides=(0, 0, 0))
WEIGHTS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "one-weight-3000-times": ("E_SIZE_LIMIT", dict.fromkeys(NAMES, tensor(sizes=(MIB,), strides=(1,))), bytes(4 * MIB)),
    "stride-0": ("E_SIZE_LIMIT", {"w": tensor(sizes=(MIB, 64), strides=(0, 0))}, bytes(4 * 48)),
    "windows": ("E_SIZE_LIMIT", {"w": tensor(sizes=(500, 500), strides=(1, 1))}, bytes(4000)),
    "beyond-63-bits": ("E_FORMAT", {"w": IMPOSSIBLE}, bytes(4 * 48)),
    "dtype-true": (
        "E_FORMAT",
        {"w": tensor() | {"tensor_meta": tensor()["tensor_meta"] | {"dtype": True}}},
        bytes(192),
    ),
}


@pytest.mark.parametrize(("code", "weights", "values"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights_that_grow_are_refused(
    refused: Callable[..., Any], code: str, weights: dict[str, Any], values: bytes
) -> None:
    file = exported(weights=weights | {"w": weights.get("w", tensor())}, states=["w", *weights.keys() - {"w"}],
                    values=values)  # fmt: skip
    refused(code, lambda: read_pt2(file))


def test_weights_that_no_input_names_are_not_read() -> None:
    spare = dict.fromkeys(NAMES, tensor(sizes=(MIB,), strides=(1,)))
    assert set(read_pt2(exported(weights={"w": tensor(), **spare}, values=bytes(4 * MIB))).arrays) == {"w"}


# --- random graphs ----------------------------------------------------------------------------------------------------


def random_argument(chance: random.Random, kind: str, tensors: Sequence[str]) -> Any:
    """An argument that mostly fits its parameter."""
    number = chance.choice([-(1 << 63), -7, -1, 0, 1, 2, 3, 5, 16, 300, 1 << 20, 1 << 40, (1 << 63) - 1])
    one = {"as_tensor": {"name": chance.choice(tensors)}}
    choices: dict[str, list[Any]] = {
        "O": [one, {"as_int": number}],
        "T": [{"as_tensors": [one["as_tensor"]] * 2} if "*" in kind else one],
        "I": [{"as_ints": [number] * chance.randrange(5)} if "*" in kind else {"as_int": number}],
        "N": [{"as_int": number}, {"as_float": 0.5}, {"as_bool": True}],
        "F": [{"as_floats": [0.5, 2.0]} if "*" in kind else {"as_float": chance.choice([0.0, -1.0, 1e300])}],
        "B": [{"as_bool": chance.random() < 0.5}],
        "S": [{"as_string": chance.choice(["none", "constant", "reflect", "same", "floor"])}],
        "D": [{"as_scalar_type": chance.choice([1, 4, 5, 7, 8, 12])}],
        "-": [{"as_none": True}, {"as_layout": 7}, {"as_memory_format": 2}],
    }
    if chance.random() < 0.05:  # and sometimes it is of another kind
        kind = chance.choice("TOINFBSD-")
    return {"as_none": True} if "?" in kind and chance.random() < 0.3 else chance.choice(choices[kind[0]])


def random_graph(chance: random.Random) -> list[Node]:
    tensors = ["x", "w"]
    nodes = []
    for index in range(chance.randrange(1, 6)):
        target = chance.choice([name for name in OPERATIONS if name.startswith("aten.") and name not in GIVE_NUMBERS])
        wanted = {
            name: random_argument(chance, kind, tensors)
            for name, kind in OPERATIONS[target].items()
            if chance.random() < 0.8 or kind[0] in "TO"
        }
        nodes.append(node(target.removeprefix("aten."), wanted, f"y{index}"))
        tensors.append(f"y{index}")
    return nodes


def test_random_graphs_are_refused_or_run_and_never_crash() -> None:
    chance = random.Random(0)
    started, ran = time.process_time(), 0
    for _ in range(400):
        file = exported(random_graph(chance))
        try:
            network = load(file)
        except (FormatError, SizeLimitError):
            pass
        else:
            ran += network is not None
    assert ran > 10
    assert time.process_time() - started < 20


# --- the trial in a child ---------------------------------------------------------------------------------------------

# A stand-in for Python itself: sets the real limits from the real command line, then does what torch must not do.
STAND_IN = """#!{python} -IB
import os, signal, sys, time
from secure_ai.files.sandbox import answer_request, confine
from secure_ai.files.sandbox.limits import limit_self
memory, cpu, file_bytes, parent = map(int, sys.argv[-5:-1])
limit_self(max_memory_bytes=memory, cpu_seconds=cpu, max_file_bytes=file_bytes, parent=parent)
def absent(*_, **__):
    raise OSError(38, "Function not implemented")
{body}
"""
PYTHON = sys.executable
Torch = Callable[[str], Path]
THREE = "answer_request(lambda request: (3).to_bytes(8, 'little'))"
ENDS = {
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hang": "time.sleep(60)",
    "memory": "answer_request(lambda request: bytes(1 << 50))",
    "no-answer": "answer_request(lambda request: b'')",
    "no-class": "answer_request(lambda request: bytes(8))",
}


@pytest.fixture
def torch_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Torch:
    """`torch_that(body)`: a `.pt2` file, in whose trial the child runs `body`."""
    monkeypatch.setattr(exported_trial, "_survived", {})

    def make(body: str) -> Path:
        script, file = tmp_path / "stand_in.py", tmp_path / "m.pt2"
        script.write_text(STAND_IN.format(python=PYTHON, body=body), encoding="utf-8")
        script.chmod(0o755)
        if not file.exists():  # its bytes tell the time
            file.write_bytes(exported().content)
        monkeypatch.setattr(sys, "executable", str(script))
        return file

    return make


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS.keys())
def test_a_program_that_torch_does_not_survive_is_refused(
    refused: Callable[..., Any], torch_that: Torch, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(exported_trial, "_MOST_SECONDS", 3.0)
    file = torch_that(body)
    refused("E_FORMAT", lambda: read_artifact(file))


def test_a_file_is_tried_once_and_every_reading_says_how(torch_that: Torch) -> None:
    file, told = torch_that(THREE), []
    for _ in range(2):
        assert read_artifact(file, events=lambda kind, data: told.append((kind, data))).classes == 3
        torch_that(ENDS["crash"])
    confined = [data for kind, data in told if kind == "child_confined"]
    assert len(confined) == 2
    assert confined[0] == confined[1]


def test_a_trial_that_is_not_confined_is_noted_and_refusable(torch_that: Torch) -> None:
    file = torch_that("confine.restrict_files = absent\n" + THREE)
    assert any("landlock" in note for note in load_model(file).notes)
    with sandbox_required(), pytest.raises(SandboxError) as caught:
        read_artifact(file)
    assert "landlock" in caught.value.got


def test_memory_beyond_the_allowance_is_refused_by_the_real_child(
    refused: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same graph, which needs 512 MiB, with less and with enough: the second is the control."""
    file, told = tmp_path / "m.pt2", []
    file.write_bytes(exported([repeats(64 * MIB, "y")]).content)
    with monkeypatch.context() as less:
        less.setattr(exported_trial, "_IMAGE_BYTES", 100 * MIB)
        refused("E_FORMAT", lambda: read_artifact(file))
    loaded = load_model(file, events=lambda kind, data: told.append((kind, data)))
    assert loaded.num_classes == 3
    assert [data["confinement"] for kind, data in told if kind == "child_confined"] == [
        sandbox_report().confinement.as_json()
    ]
