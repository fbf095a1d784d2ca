"""The child that writes `.keras` files: weights come in as safetensors, files go out as safetensors.

Keras reads its backend from the environment when it is imported, and opens system libraries: it is imported before the
child is confined. Its configuration file goes into the child's home, which is its private folder.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.files.open import FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.files.sandbox import answer_request
from secure_ai.models.networks.keras_stacks import INPUT_SHAPE, STACKS, Array


def answer(request: bytes) -> bytes:
    """Build, fill and save every model of the request.

    Args:
        request: tensors `MODEL.POSITION` in Keras's layout, metadata `archs`: a JSON list, one name a model.

    Returns:
        Safetensors with one uint8 tensor `MODEL` a file.
    """
    content = read_safetensors(FileBytes("request", request))
    archs: list[str] = json.loads(content.metadata["archs"])
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Array] = {}
        for index, arch in enumerate(archs):
            path = Path(folder) / f"{index}.keras"
            model = keras_model(arch)
            names = [f"{index}.{position}" for position in range(len(model.get_weights()))]
            model.set_weights([content.tensors[name] for name in names])
            model.save(path)
            files[str(index)] = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        return safetensors_bytes(files, {})


def keras_model(arch: str) -> Any:
    """The built-in network as a Keras Sequential model; imports Keras."""
    import keras

    stack = [getattr(keras.layers, kind)(**settings) for kind, settings in STACKS[arch]]
    return keras.Sequential([keras.Input(INPUT_SHAPE), *stack], name=arch.replace("-", "_"))


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "torch"
    answer_request(answer, imports=("keras", "safetensors"))
