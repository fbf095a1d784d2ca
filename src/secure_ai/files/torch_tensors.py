"""Tensors as views of the storages of a torch file, whichever of torch's formats holds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from secure_ai.core.errors import NonFiniteError, SizeLimitError
from secure_ai.files.boundary import most_tensor_bytes
from secure_ai.files.open import FileBytes
from secure_ai.files.pickle_machine import STORAGES, TensorView
from secure_ai.files.pickles import StateDictPickle

Array = np.ndarray[Any, np.dtype[Any]]


def tensor_of(view: TensorView, values: Array) -> Array:
    """The tensor, read-only and in C order, from the values of its storage."""
    if 0 in view.shape:
        return np.zeros(view.shape, values.dtype)
    strides = [step * values.itemsize for step in view.stride]
    strided = np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides, writeable=False)
    array: Array = np.require(strided, requirements=["C"])
    array.flags.writeable = False
    return array


def storage_values(content: bytes, kind: str, where: str) -> Array:
    """A storage's values; bfloat16 becomes float32. Raises NonFiniteError."""
    values: Array = np.frombuffer(content, np.dtype(STORAGES[kind]))
    if kind == "torch.BFloat16Storage":
        finite = bool(((values & 0x7F80) != 0x7F80).all())  # an exponent of ones is infinity or NaN
    elif values.dtype.kind == "f":
        finite = bool(np.isfinite(values).all())
    else:
        finite = values.dtype.kind != "b" or not content.strip(b"\0\1")
    if not finite:
        raise NonFiniteError("NaN, infinity, or a truth value that is neither", where=where, expected="finite weights")
    return (values.astype("<u4") << 16).view("<f4") if kind == "torch.BFloat16Storage" else values


def refuse_growth(file: FileBytes, judged: StateDictPickle) -> None:
    """A stride of 0, windows that overlap and many names for one storage make much out of little."""
    total = 0
    for name, view in judged.tensors.items():
        if math.prod(view.shape) > view.storage.count:
            expected = f"at most the {view.storage.count} elements of its storage"
            where = f"{file.name} {name}"
            raise SizeLimitError("a tensor repeats elements", where=where, expected=expected, got=view.shape)
        total += math.prod(view.shape) * np.dtype(STORAGES[view.storage.kind]).itemsize
    most = most_tensor_bytes(len(file.content))
    if total > most:
        raise SizeLimitError(
            "the tensors are far larger than the file", where=file.name, expected=f"<= {most}", got=total
        )
