"""An exported program (`.pt2`) as a network: its graph is walked here, operation by operation, each from a closed list.

Nothing of the file is executed or looked up by a name of its own choosing. The result is differentiable with respect
to its input, since every operation is torch's own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secure_ai.core.errors import FormatError
from secure_ai.files.pt2 import ExportedProgram
from secure_ai.files.pt2_arguments import EXPORT_HINT, Ref, TypeName
from secure_ai.files.pt2_graph import Graph
from secure_ai.models.load.exported_budget import Budget
from secure_ai.models.tensors import array_to_tensor

# What torch and Python raise where the operations of a foreign graph do not fit together.
MISFITS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError)
_WHOLE = 1 << 63  # numbers of a graph stay below
_PLAIN: dict[str, Callable[..., Any]] = {
    # a last softmax is recognised by torch's own function, so that its input can serve as logits
    "aten.softmax.int": lambda self, dim, dtype=None: torch.softmax(self, dim, dtype=dtype),
    # views in the memory layout that the search prefers need a copy
    "aten.view.default": lambda self, size: self.reshape(size),
}


class ExportedNetwork(nn.Module):
    """The network of an exported program; always in the mode that it was exported in, which is evaluation.

    A program that was exported for a fixed number of images is given that many at a time, the last ones filled up with
    black images whose answers are dropped.
    """

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self._graph: Graph = program.graph
        self._calls = tuple(
            (node, _function(node.operation), dying)
            for node, dying in zip(program.graph.nodes, _last_uses(program.graph), strict=True)
        )
        for name, array in program.arrays.items():
            tensor = array_to_tensor(array)
            _put(self, name, nn.Parameter(tensor) if name in program.parameters and array.dtype.kind == "f" else tensor)

    def forward(self, x: Tensor) -> Any:
        """The program's answer to x: (N, ...) of the shape it was exported for."""
        if tuple(x.shape[1:]) != self._graph.image_shape:
            raise ValueError(f"exported for images {self._graph.image_shape}, got {tuple(x.shape[1:])}")
        batch = self._graph.batch
        states = _states(self, self._graph.states)
        if batch is None or batch == len(x):
            return self._walk(x, states)
        parts = []
        for part in x.split(batch):
            missing = batch - len(part)
            filled = torch.cat([part, part.new_zeros((missing, *part.shape[1:]))]) if missing else part
            parts.append(self._walk(filled, states)[: len(part)])
        return torch.cat(parts)

    def trial(self, budget: Budget) -> Any:
        """The answer's shape for the budget's images, on shapes alone: nothing is allocated or computed."""
        states = {name: state.to("meta") for name, state in _states(self, self._graph.states).items()}
        return self._walk(torch.empty((budget.batch, *self._graph.image_shape), device="meta"), states, budget)

    def _walk(self, x: Tensor, states: Mapping[str, Tensor], budget: Budget | None = None) -> Any:
        values: dict[str, Any] = {**states, self._graph.image: x}
        for node, function, dying in self._calls:
            arguments = {name: _resolved(value, values) for name, value in node.arguments.items()}
            if node.operation.startswith("_operator."):
                result = _number(function(*arguments.values()))
            elif budget is None:
                result = function(**arguments)
            else:
                budget.before(node.operation, arguments)
                result = function(**arguments)
                budget.after(node.operation, arguments, result)
            if node.several:
                values.update(zip(node.outputs, result, strict=True))
            elif node.outputs:
                values[node.outputs[0]] = result
            for name in dying:
                del values[name]
        return values[self._graph.answer]


def network_from_exported(program: ExportedProgram, *, where: str) -> tuple[nn.Module, int]:
    """The network and the number of its classes, after a trial on shapes alone, which allocates nothing.

    Raises:
        FormatError: the graph does not run, answers something else than (N, K), or costs more than a `Budget`.
    """
    try:
        network = ExportedNetwork(program)
        batch = program.graph.batch or 2
        answer = network.trial(Budget(batch, program.graph.batch is not None, where))
    except MISFITS as error:
        raise refused_graph(error, where) from None
    if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != batch:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise FormatError("the program's answer is not one score a class", where=where, expected="(N, K)", got=shape)
    return network.eval(), int(answer.shape[1])


def refused_graph(error: Exception, where: str) -> FormatError:
    """The refusal of a graph on which torch raised `error`."""
    got = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return FormatError("the graph does not run", where=where, got=got, hint=EXPORT_HINT)


def batch_note(program: ExportedProgram) -> str:
    """What the user should know of a program exported for a fixed number of images; empty for any number."""
    batch = program.graph.batch
    if batch is None:
        return ""
    return (
        f"exported for exactly {batch} image{'s' if batch > 1 else ''} at a time, so it is called that way, which is "
        "slow: dynamic_shapes=({0: torch.export.Dim('batch')},) exports it for any number"
    )


def _last_uses(graph: Graph) -> list[tuple[str, ...]]:
    """For every operation the values that none needs behind it."""
    needed = {graph.answer}
    dying: list[tuple[str, ...]] = []
    for node in reversed(graph.nodes):
        names = {*_names(tuple(node.arguments.values())), *node.outputs}
        dying.append(tuple(sorted(names - needed)))
        needed |= names
    return dying[::-1]


def _names(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [name for entry in value for name in _names(entry)]
    return [value.name] if isinstance(value, Ref) else []


def _number(value: Any) -> Any:
    if not -_WHOLE <= value < _WHOLE:
        raise OverflowError("a whole number beyond 64 bits")
    return value


def _function(operation: str) -> Callable[..., Any]:
    """The function of an operation that `files.pt2_graph` has let through."""
    if operation in _PLAIN:
        return _PLAIN[operation]
    package, _, rest = operation.partition(".")
    if package == "_operator":
        function: Callable[..., Any] = getattr(operator, rest)
        return function
    name, _, overload = rest.partition(".")
    chosen: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return chosen


def _resolved(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, TypeName):
        return getattr(torch, value.name)
    if isinstance(value, tuple):
        return [_resolved(entry, values) for entry in value]
    return value


def _put(network: nn.Module, name: str, tensor: Tensor) -> None:
    """Under the name it had before the export, so that the digest of the weights stays the same."""
    *path, last = name.split(".")
    for part in path:
        child = network._modules.get(part)
        if child is None:
            child = nn.Module()
            network.add_module(part, child)
        network = child
    if isinstance(tensor, nn.Parameter):
        network.register_parameter(last, tensor)
    else:
        network.register_buffer(last, tensor)


def _states(network: nn.Module, states: Mapping[str, str]) -> dict[str, Tensor]:
    held = {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }
    return {name: held[state] for name, state in states.items()}
