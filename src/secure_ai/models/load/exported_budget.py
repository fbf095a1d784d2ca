"""What an exported program may cost: found out on shapes alone, before anything is allocated or computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from secure_ai.core.errors import FormatError

MAX_VALUES = 1 << 26  # of one result for one image: 256 MiB in float32
MAX_IMAGE_BYTES = 1 << 30  # of all results for one image: a gradient needs them all; VGG-19 at 224 needs 120 MB
MAX_CALL_BYTES = 1 << 36  # the same for all images of a program that takes a fixed number of them
MAX_MULTIPLY_ADDS = 200 * 10**9  # for one image; VGG-19 needs 20, ViT-L/16 62 at 224 pixels
MAX_PARTS = 4096

# Operation -> how many multiply-adds one value of its result needs.
_PER_OUTPUT: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "conv1d": lambda a: a["weight"][0].numel(),
    "conv2d": lambda a: a["weight"][0].numel(),
    "linear": lambda a: a["weight"].shape[-1],
    "addmm": lambda a: a["mat1"].shape[-1],
    "mm": lambda a: a["self"].shape[-1],
    "bmm": lambda a: a["self"].shape[-1],
    "matmul": lambda a: a["self"].shape[-1],
    "max_pool2d": lambda a: _area(a["kernel_size"]),
    "avg_pool2d": lambda a: _area(a["kernel_size"]),
    "scaled_dot_product_attention": lambda a: a["key"].shape[-2] * (2 + a["query"].shape[-1] // a["value"].shape[-1]),
    "upsample_bilinear2d": lambda a: 4,
}


def _area(kernel: Any) -> int:
    sizes = kernel if isinstance(kernel, (list, tuple)) else (kernel, kernel)
    return math.prod(sizes) ** (2 if len(sizes) == 1 else 1)


@dataclass(slots=True)
class Budget:
    """Counts what a program needs for `batch` images, and refuses it at the first operation that goes beyond.

    Args:
        fixed: whether the program always takes that many.
    """

    batch: int
    fixed: bool
    where: str
    bytes: int = 0
    multiply_adds: int = 0
    seen: dict[int, Any] = field(default_factory=dict)  # storages, held so that no other takes the place of one

    def before(self, operation: str, arguments: Mapping[str, Any]) -> None:
        """Refuse an operation that would give far too many results. Raises FormatError."""
        parts = _parts(operation, arguments)
        if parts > MAX_PARTS:
            raise self._refusal(f"{operation} needs absurd memory", f"at most {MAX_PARTS} results", parts)

    def after(self, operation: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Count a result, whose values do not exist. Raises FormatError."""
        results = _tensors((result,))
        for tensor in results:
            if tensor.numel() > MAX_VALUES * self.batch:
                expected = f"at most {MAX_VALUES} values an image"
                raise self._refusal(f"{operation} needs absurd memory", expected, tuple(tensor.shape))
            storage = cast(Any, tensor).untyped_storage()
            if storage._cdata not in self.seen:
                self.seen[storage._cdata] = storage
                self.bytes += storage.nbytes()
        self.multiply_adds += _multiply_adds(operation, arguments, results)
        most = min(MAX_IMAGE_BYTES * self.batch, MAX_CALL_BYTES if self.fixed else MAX_IMAGE_BYTES * self.batch)
        if self.bytes > most:
            raise self._refusal("the graph needs absurd memory", f"at most {most} bytes", self.bytes)
        if self.multiply_adds > MAX_MULTIPLY_ADDS * self.batch:
            expected = f"at most {MAX_MULTIPLY_ADDS} multiply-adds an image"
            raise self._refusal("the graph computes too much", expected, self.multiply_adds // self.batch)

    def _refusal(self, message: str, expected: str, got: object) -> FormatError:
        return FormatError(message, where=self.where, expected=expected, got=got)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += _tensors(value)
    return found


def _parts(operation: str, arguments: Mapping[str, Any]) -> int:
    """How many tensors an operation gives."""
    name = operation.split(".")[1]
    if name not in ("unbind", "split", "chunk"):
        return 1
    tensor, dim = arguments.get("self"), arguments.get("dim", 0)
    size = tensor.shape[dim] if isinstance(tensor, Tensor) and tensor.dim() else 1
    if name == "chunk":
        return min(size, int(arguments.get("chunks", 1)))
    step = int(arguments.get("split_size", 1)) if name == "split" else 1
    return -(-size // step) if step > 0 else 1


def _multiply_adds(operation: str, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> int:
    """Multiply-adds, or values read and written where there are none to speak of."""
    name = operation.split(".")[1]
    if name == "conv_transpose2d":
        return int(arguments["input"].numel() * arguments["weight"][0].numel())
    written = sum(tensor.numel() for tensor in results)
    if name in _PER_OUTPUT:
        return int(written * _PER_OUTPUT[name](arguments))
    return written + sum(tensor.numel() for tensor in _tensors(list(arguments.values())))
