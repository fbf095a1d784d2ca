"""The loader child: the one place where torch reads a foreign file. Run by `files.sandbox`, never imported.

In comes a torch zip file whose directory and pickle were judged before; out go its tensors as a safetensors file.
"""

from __future__ import annotations

import io
import pickle  # for the exception's name only
import warnings
from typing import Any

import numpy as np
import torch

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.pickles import NESTING_KEYS
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.files.sandbox import answer_request


def load(request: bytes) -> bytes:
    """The tensors of a torch file as safetensors; bfloat16 becomes float32.

    A checkpoint dict with its tensors under `state_dict` or `model` gives those.

    Raises:
        PickleRefusedError: torch refuses the file, or it holds something else than named tensors.
        NonFiniteError: NaN or infinity among the weights.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises here to load with weaker settings
            content = torch.load(io.BytesIO(request), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError) as error:
        raise PickleRefusedError("torch refuses the file", where="torch.load", got=type(error).__name__) from None
    return safetensors_bytes({name: _to_numpy(value, name) for name, value in _state(content).items()}, {})


def _state(content: Any) -> dict[str, Any]:
    for key in NESTING_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise PickleRefusedError("not a state dict", where="torch.load", expected="text to tensor")
    return content


def _to_numpy(value: Any, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    if not isinstance(value, torch.Tensor):
        raise PickleRefusedError("not a tensor", where=name, expected="a tensor", got=type(value).__name__)
    value = value.detach()
    array: np.ndarray[Any, np.dtype[Any]] = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    return array


if __name__ == "__main__":
    answer_request(load, imports=("safetensors",))
