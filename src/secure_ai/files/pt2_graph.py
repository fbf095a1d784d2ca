"""The graph of an exported program, out of its JSON, as frozen values: operations on names, nothing that runs.

Every operation must stand in `OPERATIONS`: functions of tensors and numbers without a side effect that outlives the
call. Code, custom objects, higher-order operations and symbolic expressions have no place in what comes back; the
expressions of the file (which torch's own loader evaluates) are never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.files.pt2_arguments import MAX_LIST, Ref, name_of, only, read_argument, refusal
from secure_ai.files.pt2_ops import CHECKS, GIVE_NUMBERS, OPERATIONS

MAX_NODES = 20_000
MAX_PIXELS = 1 << 26
MODE_ARGUMENTS = frozenset({"train", "training"})
EVAL_HINT = "call model.eval() before torch.export.export"


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        operation: a name of `OPERATIONS`.
        arguments: name -> Ref, number, truth value, word, TypeName, None, or a tuple of those.
        outputs: names of its results; two or more where it gives a list.
        several: whether it gives a list or a tuple.
    """

    operation: str
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    several: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A program with one input and one output.

    Attributes:
        states: name in the graph -> name of a parameter, buffer or constant.
        image: name of the input.
        image_shape: its shape without the batch.
        batch: the number of images it was exported for; None for any.
        answer: name of the output.
    """

    nodes: tuple[Node, ...]
    states: Mapping[str, str]
    image: str
    image_shape: tuple[int, ...]
    batch: int | None
    answer: str


def parse_graph(model: Any, *, where: str) -> Graph:
    """The graph in the value of `models/model.json`. Raises FormatError for all but a plain image classifier."""
    module = _dict(_dict(model, where, "the program").get("graph_module"), where, "graph_module")
    graph, signature = (_dict(module.get(key), where, key) for key in ("graph", "signature"))
    states, image = _inputs(_list(signature.get("input_specs"), where, "input_specs", MAX_NODES), where)
    answer = _output(_list(signature.get("output_specs"), where, "output_specs", MAX_LIST), where)
    known = dict.fromkeys((*states, image), "T")
    nodes = []
    for value in _list(graph.get("nodes"), where, "nodes", MAX_NODES):
        operation = _operation(_dict(value, where, "node"), where)
        if operation not in CHECKS:
            nodes.append(_node(operation, value, known, states, where))
            known.update(dict.fromkeys(nodes[-1].outputs, "I" if operation in GIVE_NUMBERS else "T"))
    if known.get(answer) != "T":
        raise refusal("the output is no result of the graph", where, got=answer)
    shape = _image_shape(_dict(graph.get("tensor_values"), where, "tensor_values").get(image), where)
    return Graph(nodes=tuple(nodes), states=states, image=image, image_shape=shape[1], batch=shape[0], answer=answer)


def _dict(value: Any, where: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refusal(f"{what} is missing or no object", where, expected="the JSON of an exported program")
    return value


def _list(value: Any, where: str, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise refusal(f"{what} is no list, or too long", where, expected=f"at most {most} entries")
    return value


_STATES = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _inputs(specs: list[Any], where: str) -> tuple[dict[str, str], str]:
    states: dict[str, str] = {}
    images: list[str] = []
    for spec in specs:
        kind, entry = only(spec, where, "an input")
        argument = _dict(_dict(entry, where, kind).get("arg"), where, "arg")
        if kind in _STATES:
            states[name_of(argument.get("name"), where)] = name_of(entry.get(_STATES[kind]), where)
        elif kind == "user_input" and set(argument) == {"as_tensor"}:
            images.append(name_of(_dict(argument["as_tensor"], where, "as_tensor").get("name"), where))
        else:
            raise refusal("an input that is no tensor", where, expected="weights and one batch of images", got=kind)
    if len(images) != 1 or images[0] in states:
        raise refusal("the program takes another number of inputs", where, expected="one batch of images", got=images)
    return states, images[0]


def _output(specs: list[Any], where: str) -> str:
    kinds = [only(spec, where, "an output") for spec in specs]
    changed = [kind for kind, _ in kinds if kind != "user_output"]
    if changed:
        raise refusal(
            "the program changes its own state", where, expected="fixed weights", got=changed[0], hint=EVAL_HINT
        )
    if len(kinds) != 1:
        raise refusal("the program has several outputs", where, expected="one: (N, K) scores", got=len(kinds))
    argument = _dict(_dict(kinds[0][1], where, "user_output").get("arg"), where, "arg")
    return name_of(_dict(argument.get("as_tensor"), where, "the output").get("name"), where)


def _image_shape(meta: Any, where: str) -> tuple[int | None, tuple[int, ...]]:
    sizes = _list(_dict(meta, where, "the input").get("sizes"), where, "sizes", 16)
    numbers = [size.get("as_int") if isinstance(size, dict) else None for size in sizes]
    rest = [number for number in numbers[1:] if isinstance(number, int) and 0 < number <= 1 << 20]
    if len(numbers) != 4 or len(rest) != 3 or math.prod(rest) > MAX_PIXELS:
        raise refusal("the input is no batch of images", where, expected="(N, C, H, W), only N dynamic", got=numbers)
    batch = numbers[0]
    if batch is not None and not (isinstance(batch, int) and 0 < batch <= 1 << 20):
        raise refusal("an impossible batch", where, got=batch)
    return batch, tuple(rest)


def _operation(value: dict[str, Any], where: str) -> str:
    target = value.get("target")
    operation = target.removeprefix("torch.ops.") if isinstance(target, str) else ""
    if operation not in OPERATIONS and operation not in CHECKS:
        expected = "an operation of the list in the documentation of models"
        hint = "save the weights (safetensors or a state dict) and name the code with --arch"
        raise refusal("an operation that is not allowed", where, expected=expected, got=target, hint=hint)
    return operation


def _node(operation: str, value: dict[str, Any], known: dict[str, str], fixed: Mapping[str, str], where: str) -> Node:
    parameters = OPERATIONS[operation]
    arguments: dict[str, Any] = {}
    for entry in _list(value.get("inputs"), where, "inputs", MAX_LIST):
        name = _dict(entry, where, "argument").get("name")
        if not isinstance(name, str) or name not in parameters or name in arguments:
            raise refusal("a parameter that is unknown, or given twice", f"{where}: {operation}", got=name)
        argument = read_argument(entry.get("arg"), parameters[name], known, f"{where}: {operation} {name}")
        if parameters[name] == "-":
            continue
        arguments[name] = argument
        if name in MODE_ARGUMENTS and arguments[name] is not False:
            raise refusal("exported in training mode", where, expected=f"{name} = false", got=operation, hint=EVAL_HINT)
    written = arguments.get("self")
    if (
        operation.partition(".")[2].partition(".")[0].endswith("_")
        and isinstance(written, Ref)
        and written.name in fixed
    ):
        raise refusal("the program changes its own weights", where, got=f"{operation} on {written.name}")
    outputs, several = _outputs(_list(value.get("outputs"), where, "outputs", MAX_LIST), operation, where)
    if any(name in known for name in outputs) or len(set(outputs)) != len(outputs):
        raise refusal("one name for two values", where, got=outputs[:3])
    return Node(operation, arguments, outputs, several)


def _outputs(values: list[Any], operation: str, where: str) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    several = len(values) > 1
    for value in values:
        kind, content = only(value, where, "an output")
        if (kind in ("as_sym_int", "as_sym_bool")) != (operation in GIVE_NUMBERS):
            raise refusal("a result of another kind", f"{where}: {operation}", got=kind)
        if kind == "as_tensor":
            names.append(name_of(_dict(content, where, kind).get("name"), where))
        elif kind == "as_tensors":
            several = True
            names += [
                name_of(_dict(entry, where, kind).get("name"), where) for entry in _list(content, where, kind, MAX_LIST)
            ]
        elif kind in ("as_sym_int", "as_sym_bool"):
            names.append(name_of(_dict(content, where, kind).get("as_name"), where))
        else:
            raise refusal("a result that is no tensor", where, got=kind)
    return tuple(names), several
