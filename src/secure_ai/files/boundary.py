"""What every reader of foreign bytes has in common: one boundary for exceptions, and shapes that NumPy can hold."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from secure_ai.core.errors import SecureAIError
from secure_ai.files.open import MIB, FileBytes

_FLOOR_BYTES = 1 * MIB
_MAX_GROWTH, _GROWTH_BYTES = 16, 1024 * MIB
P = ParamSpec("P")
R = TypeVar("R")
# What the parser, NumPy and the libraries raise where a file asks for the impossible. Others are bugs of this program.
_IMPOSSIBLE = (ValueError, ArithmeticError, RecursionError, MemoryError, struct.error)


def refuses_with(
    error: type[SecureAIError],
) -> Callable[[Callable[Concatenate[FileBytes, P], R]], Callable[Concatenate[FileBytes, P], R]]:
    """For a reader: a file on which it fails is refused with `error`; a SecureAIError passes as it is."""

    def wrap(reader: Callable[Concatenate[FileBytes, P], R]) -> Callable[Concatenate[FileBytes, P], R]:
        @functools.wraps(reader)
        def read(file: FileBytes, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return reader(file, *args, **kwargs)
            except _IMPOSSIBLE as failure:
                got = f"{type(failure).__name__}: {failure}"
                raise error("the file asks for what cannot be", where=file.name, got=got) from failure

        return read

    return wrap


def fits_numpy(shape: Sequence[int], itemsize: int) -> bool:
    """Whether NumPy can hold an array of this shape: it multiplies the sizes that are not 0, in 63 bits."""
    return math.prod(size for size in shape if size) * itemsize < 1 << 63


def most_tensor_bytes(file_bytes: int) -> int:
    """What all tensors of a file may need together: layers that share weights are stored once and loaded several times.

    16 times the file up to 1 GiB, twice a larger one.
    """
    return max(_FLOOR_BYTES, 2 * file_bytes, min(_MAX_GROWTH * file_bytes, _GROWTH_BYTES))
