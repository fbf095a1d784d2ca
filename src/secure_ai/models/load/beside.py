"""Reads what is known of how a network was made: metadata of its file, and small files beside it.

Only numbers in range and digests are read from there; nothing in such a file is run, loaded or shown as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from secure_ai.core.errors import SecureAIError
from secure_ai.data.image_digests import DIGEST_BYTES
from secure_ai.data.training_record import FORMAT, record_path
from secure_ai.files.jsons import parse_json
from secure_ai.files.keras import KerasModel
from secure_ai.files.keras_layers import IDENTITIES
from secure_ai.files.open import MIB, read_file
from secure_ai.models.load.hugging_face import PROCESSOR, ModelFolder
from secure_ai.models.target.known import Known, TrainingData
from secure_ai.models.target.transform import InputTransform

MAX_RECORD_BYTES = 64 * MIB
MAX_CONFIG_BYTES = 1 * MIB
LIKE_BYTES = (0.5 / 255, 2.5 / 255)  # scales for pixels from 0 to 255: 1/255, 1/127.5
CONFIGS = ("preprocessor_config.json", "config.json")
_SHA256 = re.compile("[0-9a-f]{64}")
_SHORT = re.compile(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


def read_known(path: Path, model_digest: str, metadata: Mapping[str, str]) -> Known:
    """What the model file at `path` and its neighbours say.

    Args:
        model_digest: of the weights; a record of others is not used.
        metadata: of the safetensors file; empty for other formats.
    """
    notes: list[str] = []
    found, said_by = _input_in(metadata), "the model file"
    for name in CONFIGS:
        if found is None:
            content = _beside(path.parent / name, MAX_CONFIG_BYTES, notes)
            found, said_by = _input_of_config(content), name
    training = _training_in(metadata)
    record = _beside(record_path(path), MAX_RECORD_BYTES, notes)
    if record is not None:
        read = _training_of_record(record, model_digest)
        if read is None:
            notes.append(f"{record_path(path).name} is of other weights, or no training record: not used")
        training = read or training
    return Known(found, said_by if found else "", training, tuple(notes))


def known_of_folder(folder: ModelFolder) -> Known:
    """What a folder of Hugging Face's says: pixels are prepared so unless the user says otherwise."""
    own = known_in(folder.metadata)
    known, said = replace(own, notes=folder.notes, class_names=folder.class_names), folder.preparation
    if said is None:
        return known
    found = InputTransform(high=said.high, mean=said.mean, std=said.std)
    return replace(known, input=found, input_from=PROCESSOR, tell=True)


def known_of_keras(model: KerasModel) -> Known:
    """A network that begins by dividing by about 255 was trained on pixels from 0 to 255."""
    first = next((layer for layer in model.layers if layer.kind not in IDENTITIES), model.layers[0])
    scales = first.config["scale"] if first.kind == "Rescaling" else ()
    if not scales or not all(LIKE_BYTES[0] <= scale <= LIKE_BYTES[1] for scale in scales):
        return Known()
    return Known(InputTransform(high=255.0), f"layer {first.name} of the file", tell=True)


def known_in(metadata: Mapping[str, str]) -> Known:
    """What a file's metadata alone say."""
    found = _input_in(metadata)
    return Known(found, "the model file" if found else "", _training_in(metadata))


def _beside(path: Path, most: int, notes: list[str]) -> Any:
    """The JSON value of a small file; None where there is none, or none that can be read: then a note says so."""
    if not path.is_file():
        return None
    try:
        return parse_json(read_file(path, max_bytes=most).content, where=path.name, max_bytes=most)
    except SecureAIError as error:
        notes.append(f"{path.name}, beside the model, is not used: {error.code}")
        return None


def _input_in(metadata: Mapping[str, str]) -> InputTransform | None:
    try:
        values = [parse_json(metadata[key].encode(), where=key) for key in ("input_mean", "input_std")]
    except (KeyError, UnicodeEncodeError, SecureAIError):
        return None
    return _transform(*values)


def _input_of_config(content: Any) -> InputTransform | None:
    """Of a preprocessor_config.json (transformers), or of a config.json with mean and std (timm)."""
    if not isinstance(content, dict):
        return None
    inner = content.get("pretrained_cfg")
    content = content | inner if isinstance(inner, dict) else content
    if content.get("do_normalize") is False:
        return InputTransform()
    return _transform(content.get("image_mean", content.get("mean")), content.get("image_std", content.get("std")))


def _transform(mean: Any, std: Any) -> InputTransform | None:
    """None unless both are lists of 0, 1 or 3 numbers: means in [-1, 1], standard deviations in (0, 2]."""
    means, stds = _numbers(mean, -1.0, 1.0), _numbers(std, 1e-3, 2.0)
    return None if means is None or stds is None else InputTransform(mean=means, std=stds)


def _numbers(value: Any, low: float, high: float) -> tuple[float, ...] | None:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if len(values) not in (0, 1, 3) or not all(type(item) in (int, float) for item in values):
        return None
    if not all(abs(item) <= 2 and math.isfinite(item) and low <= item <= high for item in values):
        return None
    return tuple(float(item) for item in values)


def _training_in(metadata: Mapping[str, str]) -> TrainingData | None:
    digest, n = metadata.get("training_data", ""), metadata.get("training_n", "")
    if not _SHA256.fullmatch(digest) or not re.fullmatch("[1-9][0-9]{0,11}", n):
        return None
    return TrainingData(digest, int(n))


def _training_of_record(content: Any, model_digest: str) -> TrainingData | None:
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("model") != model_digest:
        return None
    data, images = content.get("data"), content.get("images")
    if not isinstance(data, dict) or not isinstance(images, list):
        return None
    digest, n = data.get("digest"), data.get("n")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or type(n) is not int or n < 1:
        return None
    if not all(isinstance(image, str) and _SHORT.fullmatch(image) for image in images):
        return None
    return TrainingData(digest, n, frozenset(images))
