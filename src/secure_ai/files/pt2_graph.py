"""The graph of an exported program, out of its JSON, as frozen values: operations on names, nothing that runs.

Every operation must stand in `OPERATIONS`: functions of tensors and numbers without a side effect that outlives the
call. Code, custom objects, higher-order operations and symbolic expressions have no place in what comes back; the
expressions of the file (which torch's own loader evaluates) are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.core.errors import FormatError
from secure_ai.files.pt2_ops import OPERATIONS, WORDS

MAX_NODES = 20_000
MAX_LIST = 4096
MAX_NAME = 512
MODE_ARGUMENTS = frozenset({"train", "training"})
EVAL_HINT = "call model.eval() before torch.export.export"
EXPORT_HINT = "torch.export.save(torch.export.export(model.eval(), (images,)), FILE) with torch 2.10 or newer"

SCALAR_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 7: "float32", 8: "float64", 12: "bool"}
"""Number of a type in the file -> its name; others (half precision, complex, quantised) are refused."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that an earlier operation, or an input, has under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class TypeName:
    """A torch dtype by name."""

    name: str


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
    known = {*states, image}
    nodes = []
    for value in _list(graph.get("nodes"), where, "nodes", MAX_NODES):
        node = _node(_dict(value, where, "node"), known, states, where)
        known.update(node.outputs)
        nodes.append(node)
    if answer not in known:
        raise _refusal("the output is no result of the graph", where, got=answer)
    shape = _image_shape(_dict(graph.get("tensor_values"), where, "tensor_values").get(image), where)
    return Graph(nodes=tuple(nodes), states=states, image=image, image_shape=shape[1], batch=shape[0], answer=answer)


def _refusal(
    message: str, where: str, *, expected: object = "", got: object = "", hint: str = EXPORT_HINT
) -> Exception:
    return FormatError(message, where=where, expected=expected, got=got, hint=hint)


def _dict(value: Any, where: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refusal(f"{what} is missing or no object", where, expected="the JSON of an exported program")
    return value


def _list(value: Any, where: str, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _refusal(f"{what} is no list, or too long", where, expected=f"at most {most} entries")
    return value


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise _refusal("not a name", where, expected=f"1 to {MAX_NAME} characters", got=value)
    return value


def _only(value: Any, where: str, what: str) -> tuple[str, Any]:
    """The one entry of an object that holds a choice."""
    entries = _dict(value, where, what)
    if len(entries) != 1:
        raise _refusal(f"{what} is no single choice", where, got=sorted(entries)[:3])
    return next(iter(entries.items()))


_STATES = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _inputs(specs: list[Any], where: str) -> tuple[dict[str, str], str]:
    states: dict[str, str] = {}
    images: list[str] = []
    for spec in specs:
        kind, entry = _only(spec, where, "an input")
        argument = _dict(_dict(entry, where, kind).get("arg"), where, "arg")
        if kind in _STATES:
            states[_name(argument.get("name"), where)] = _name(entry.get(_STATES[kind]), where)
        elif kind == "user_input" and set(argument) == {"as_tensor"}:
            images.append(_name(_dict(argument["as_tensor"], where, "as_tensor").get("name"), where))
        else:
            raise _refusal("an input that is no tensor", where, expected="weights and one batch of images", got=kind)
    if len(images) != 1 or images[0] in states:
        raise _refusal("the program takes another number of inputs", where, expected="one batch of images", got=images)
    return states, images[0]


def _output(specs: list[Any], where: str) -> str:
    kinds = [_only(spec, where, "an output") for spec in specs]
    changed = [kind for kind, _ in kinds if kind != "user_output"]
    if changed:
        raise _refusal(
            "the program changes its own state", where, expected="fixed weights", got=changed[0], hint=EVAL_HINT
        )
    if len(kinds) != 1:
        raise _refusal("the program has several outputs", where, expected="one: (N, K) scores", got=len(kinds))
    argument = _dict(_dict(kinds[0][1], where, "user_output").get("arg"), where, "arg")
    return _name(_dict(argument.get("as_tensor"), where, "the output").get("name"), where)


def _image_shape(meta: Any, where: str) -> tuple[int | None, tuple[int, ...]]:
    sizes = _list(_dict(meta, where, "the input").get("sizes"), where, "sizes", 16)
    numbers = [size.get("as_int") if isinstance(size, dict) else None for size in sizes]
    rest = [number for number in numbers[1:] if isinstance(number, int) and 0 < number <= 1 << 20]
    if len(numbers) != 4 or len(rest) != 3:
        raise _refusal("the input is no batch of images", where, expected="(N, C, H, W), only N dynamic", got=numbers)
    batch = numbers[0]
    if batch is not None and not (isinstance(batch, int) and 0 < batch <= 1 << 20):
        raise _refusal("an impossible batch", where, got=batch)
    return batch, tuple(rest)


def _node(value: dict[str, Any], known: set[str], fixed: Mapping[str, str], where: str) -> Node:
    target = value.get("target")
    operation = target.removeprefix("torch.ops.") if isinstance(target, str) else ""
    if operation not in OPERATIONS:
        expected = "an operation of the list in the documentation of models"
        hint = "save the weights (safetensors or a state dict) and name the code with --arch"
        raise _refusal("an operation that is not allowed", where, expected=expected, got=target, hint=hint)
    arguments: dict[str, Any] = {}
    for entry in _list(value.get("inputs"), where, "inputs", MAX_LIST):
        name = _name(_dict(entry, where, "argument").get("name"), where)
        if _only(entry.get("arg"), where, "an argument")[0] in _DROPPED:
            continue
        arguments[name] = _argument(entry.get("arg"), known, f"{where}: {operation} {name}")
        if name in MODE_ARGUMENTS and arguments[name] is not False:
            raise _refusal(
                "exported in training mode", where, expected=f"{name} = false", got=operation, hint=EVAL_HINT
            )
    written = arguments.get("self")
    if (
        operation.partition(".")[2].partition(".")[0].endswith("_")
        and isinstance(written, Ref)
        and written.name in fixed
    ):
        raise _refusal("the program changes its own weights", where, got=f"{operation} on {written.name}")
    outputs, several = _outputs(_list(value.get("outputs"), where, "outputs", MAX_LIST), where)
    if known.intersection(outputs) or len(set(outputs)) != len(outputs):
        raise _refusal("one name for two values", where, got=outputs[:3])
    return Node(operation, arguments, outputs, several)


def _outputs(values: list[Any], where: str) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    several = len(values) > 1
    for value in values:
        kind, content = _only(value, where, "an output")
        if kind == "as_tensor":
            names.append(_name(_dict(content, where, kind).get("name"), where))
        elif kind == "as_tensors":
            several = True
            names += [
                _name(_dict(entry, where, kind).get("name"), where) for entry in _list(content, where, kind, MAX_LIST)
            ]
        elif kind in ("as_sym_int", "as_sym_bool"):
            names.append(_name(_dict(content, where, kind).get("as_name"), where))
        else:
            raise _refusal("a result that is no tensor", where, got=kind)
    return tuple(names), several


_NUMBERS: dict[str, type] = {"as_int": int, "as_float": float, "as_bool": bool}
_DROPPED = frozenset({"as_device", "as_layout", "as_memory_format"})  # where a tensor lies changes no value
_REFS = frozenset({"as_tensor", "as_name", "as_sym_int", "as_sym_float", "as_sym_bool"})
_LISTS = {
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_bools": "as_bool",
    "as_tensors": "as_tensor",
    "as_sym_ints": "as_sym_int",
    "as_optional_tensors": "",
}


def _argument(value: Any, known: set[str], where: str) -> Any:
    kind, content = _only(value, where, "an argument")
    if kind in _LISTS:
        entries = _list(content, where, kind, MAX_LIST)
        wrapped = [entry if not _LISTS[kind] else {_LISTS[kind]: entry} for entry in entries]
        return tuple(_argument(entry, known, where) for entry in wrapped)
    if kind == "as_none":
        return None
    if kind in _NUMBERS:
        return _number(kind, content, where)
    if kind in _REFS:
        return _reference(kind, content, known, where)
    if kind == "as_string" and isinstance(content, str) and content in WORDS:
        return content
    if kind == "as_scalar_type" and isinstance(content, int) and content in SCALAR_TYPES:
        return TypeName(SCALAR_TYPES[content])
    raise _refusal("an argument of an unknown kind", where, expected="tensors, numbers and types", got=kind)


def _number(kind: str, content: Any, where: str) -> int | float | bool:
    wanted = _NUMBERS[kind]
    plain = type(content) is wanted or (wanted is float and type(content) is int)
    if not plain or (wanted is int and not -(1 << 63) <= content < 1 << 63):
        raise _refusal("not a number of its kind", where, expected=wanted.__name__, got=content)
    result: int | float | bool = wanted(content)
    return result


def _reference(kind: str, content: Any, known: set[str], where: str) -> Any:
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return _argument(content, known, where)
    name = _name(content if kind == "as_name" else _dict(content, where, kind).get("name"), where)
    if name not in known:
        raise _refusal("a value that no earlier operation gives", where, got=name)
    return Ref(name)
