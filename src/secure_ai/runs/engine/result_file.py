"""The files that stages put out: `result.json`, written and read back with its types, arrays, and a network's files."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from pydantic import TypeAdapter, ValidationError

from secure_ai.core.errors import FormatError
from secure_ai.core.result import Result

RESULT_NAME = "result.json"
ARRAYS_NAME = "arrays.npz"
# of a trained network
MODEL_NAME, STATE_NAME, HISTORY_NAME, FACTS_NAME = (
    "model.safetensors",
    "state.safetensors",
    "history.json",
    "facts.json",
)

_ADAPTER = TypeAdapter(Result)


def result_bytes(result: Result) -> bytes:
    """Equal results have equal bytes."""
    return _ADAPTER.dump_json(result)


def read_result(content: bytes, where: str) -> Result:
    """What `result_bytes` wrote. Raises FormatError for anything else, naming the field."""
    try:
        return _ADAPTER.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FormatError(
            "not a stage's result", where=f"{where}, {field}", expected=first["msg"], got=first["input"]
        ) from None


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an NPZ file; equal arrays have equal bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]  # names of arrays, not of options
    return stream.getvalue()
