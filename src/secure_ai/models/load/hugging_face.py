"""A folder as Hugging Face's libraries save it: weights in safetensors, and a few values of its two configurations.

Of `config.json` and `preprocessor_config.json` only `image_mean`, `image_std`, `rescale_factor` and `id2label` are
taken, with the switches that say whether the first three are used. Code in the folder is listed and never run. Free of
torch.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from secure_ai.core.errors import FileKindError, FormatError, SizeLimitError, printable
from secure_ai.data.dataset import MAX_CLASSES
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, FileBytes, read_beneath
from secure_ai.files.safetensors import TENSOR_NAME, read_safetensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PROCESSOR = "preprocessor_config.json"
CONFIG = "config.json"
MAX_CONFIG_BYTES = 4 * MIB
MAX_PARTS = 256
MAX_ENTRIES = 10_000
MAX_NAME_CHARACTERS = 200
MOST_RESCALED = 255.0
NOT_READ = ("rescale_offset", "do_flip_channel_order")
"""Settings that change what the others mean; where one is on, nothing is taken."""
CODE = frozenset((".py", ".pyc", ".so", ".pyd", ".ipynb", ".sh"))

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How pixels in [0, 1] are prepared: first to [0, high], then less `mean`, over `std`."""

    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ModelFolder:
    """What was taken from a folder.

    Attributes:
        sha256: hex digest over the names and bytes of every file that was read.
        preparation: None: the folder does not say.
        class_names: by output; empty: the folder does not say.
        code: what a loader that trusts the folder would run: files, and entries `auto_map`.
        notes: what was seen and not taken, one sentence each.
    """

    name: str
    sha256: str
    arrays: Mapping[str, Array]
    metadata: Mapping[str, str]
    preparation: Preparation | None = None
    class_names: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_model_folder(path: str | os.PathLike[str], *, max_bytes: int) -> ModelFolder:
    """The weights of a folder and the values that are taken from its configurations.

    Args:
        max_bytes: of all weights together.

    Raises:
        FormatError: no weights in safetensors, an index that does not fit its files, or values out of range.
        SecureAIError: a file that is no regular file beneath the folder, or that its reader refuses.
    """
    root = Path(path)
    names = _entries(root)
    read: list[FileBytes] = []
    arrays, metadata = _weights(root, os.fspath(path), names, max_bytes, read)
    configs = {name: _json(root, name, read) for name in (PROCESSOR, CONFIG) if name in names}
    digest = hashlib.sha256(b"secure-ai model folder 1\n")
    for file in read:
        digest.update(f"{file.name!r} {file.sha256}\n".encode())
    preparation, notes = _preparation(configs.get(PROCESSOR, {}))
    return ModelFolder(
        name=printable(root.resolve().name),
        sha256=digest.hexdigest(),
        arrays=arrays,
        metadata=metadata,
        preparation=preparation,
        class_names=_class_names(configs.get(CONFIG, {}).get("id2label")),
        code=_code(names, configs),
        notes=notes,
    )


def _entries(root: Path) -> frozenset[str]:
    names: set[str] = set()
    with os.scandir(root) as entries:
        for entry in entries:
            names.add(entry.name)
            if len(names) > MAX_ENTRIES:
                raise SizeLimitError("too many entries", where=root.name, expected=f"<= {MAX_ENTRIES}")
    return frozenset(names)


def _weights(
    root: Path, typed: str, names: frozenset[str], max_bytes: int, read: list[FileBytes]
) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors and metadata of the one file, or of those that the index names."""
    if WEIGHTS in names and INDEX in names:
        raise FormatError("two sets of weights", where=root.name, expected=f"{WEIGHTS} or {INDEX}", got="both",
                          hint=f"--model {typed}/{WEIGHTS} takes the one file")  # fmt: skip
    if WEIGHTS in names:
        read.append(_file(root, WEIGHTS, max_bytes))
        content = read_safetensors(read[-1])
        return content.tensors, content.metadata
    if INDEX not in names:
        others = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth")))
        hint = f"--model {typed}/{others[0]} names one file" if others else ""
        raise FormatError("no model in this folder", where=root.name, expected=f"{WEIGHTS} or {INDEX}",
                          got=", ".join(others[:3]) or "no weights", hint=hint)  # fmt: skip
    wanted: dict[str, set[str]] = {}
    for tensor, part in _weight_map(_json(root, INDEX, read)).items():
        wanted.setdefault(part, set()).add(tensor)
    if len(wanted) > MAX_PARTS:
        raise SizeLimitError("too many files of weights", where=INDEX, expected=f"<= {MAX_PARTS}", got=len(wanted))
    arrays: dict[str, Array] = {}
    for part in sorted(wanted):
        read.append(_file(root, part, max_bytes))
        max_bytes -= len(read[-1].content)
        tensors = read_safetensors(read[-1]).tensors
        if tensors.keys() != wanted[part]:
            apart = sorted(tensors.keys() ^ wanted[part])
            raise FormatError("the index and the file name other tensors", where=part, expected=INDEX, got=apart[0])
        arrays |= tensors
    return arrays, {}


def _file(root: Path, name: str, max_bytes: int) -> FileBytes:
    try:
        return read_beneath(root, name, max_bytes=max_bytes)
    except FileKindError as error:  # the cache of the hub is made of links
        raise FileKindError(error.message, where=error.where, expected=error.expected, got=error.got,
                            hint="copy the folder without links: cp -rL FOLDER COPY") from None  # fmt: skip


def _json(root: Path, name: str, read: list[FileBytes]) -> dict[str, Any]:
    read.append(_file(root, name, MAX_CONFIG_BYTES))
    value = parse_json(read[-1].content, where=name, max_bytes=MAX_CONFIG_BYTES)
    if not isinstance(value, dict):
        raise FormatError("not a JSON object", where=name, expected="{...}", got=type(value).__name__)
    return value


def _weight_map(index: Mapping[str, Any]) -> dict[str, str]:
    found = index.get("weight_map")
    if not isinstance(found, dict) or not found:
        raise FormatError("no weight_map", where=INDEX, expected="tensor names and file names")
    for tensor, part in found.items():
        if not TENSOR_NAME.fullmatch(tensor) or not isinstance(part, str) or not part.endswith(".safetensors"):
            raise FormatError("an entry of the index", where=INDEX, expected="a tensor and FILE.safetensors", got=part)
    return found


def _preparation(config: Mapping[str, Any]) -> tuple[Preparation | None, tuple[str, ...]]:
    odd = [name for name in NOT_READ if config.get(name)]
    if odd:
        return None, (f"{PROCESSOR} sets {', '.join(odd)}, which is not read: say --mean, --std and --range",)
    rescales, normalises = (_switch(config, name) for name in ("do_rescale", "do_normalize"))
    if normalises and not {"image_mean", "image_std"} & config.keys():  # by defaults of a class that is not named here
        return None, (f"{PROCESSOR} does not say image_mean and image_std: not used",) if config else ()
    high = 1.0
    if not rescales:
        high = MOST_RESCALED
    elif "rescale_factor" in config:
        high = _number(config["rescale_factor"], 1e-6, 1.0, "rescale_factor") * 255
        high = 1.0 if math.isclose(high, 1.0, rel_tol=1e-3) else high
    if not normalises:
        return Preparation(high=high), ()
    most = max(1.0, high)
    means = _numbers(config.get("image_mean"), -most, most, "image_mean")
    return Preparation(high=high, mean=means, std=_numbers(config.get("image_std"), 1e-3, 2 * most, "image_std")), ()


def _switch(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name, True)
    if not isinstance(value, bool):
        raise FormatError(f"{name} is neither true nor false", where=PROCESSOR, expected="true or false", got=value)
    return value


def _numbers(value: Any, low: float, high: float, what: str) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if len(values) not in (1, 3):
        raise FormatError(f"{what} is no list", where=PROCESSOR, expected="1 or 3 numbers", got=value)
    return tuple(_number(item, low, high, what) for item in values)


def _number(value: Any, low: float, high: float, what: str) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        expected = f"a number from {low:g} to {high:g}"
        raise FormatError(f"{what} is out of range", where=PROCESSOR, expected=expected, got=value)
    return float(value)


def _class_names(value: Any) -> tuple[str, ...]:
    """Names of the outputs 0 to K - 1; empty where there are none."""
    if value is None:
        return ()
    expected = f"names of the outputs 0 to K - 1, K <= {MAX_CLASSES}"
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_CLASSES:
        raise FormatError("id2label is no list of names", where=CONFIG, expected=expected, got=type(value).__name__)
    names = tuple(value.get(str(number)) for number in range(len(value)))
    if not all(isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARACTERS for name in names):
        raise FormatError("id2label does not name every output", where=CONFIG, expected=expected)
    return tuple(printable(name) for name in names)


def _code(names: frozenset[str], configs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    files = sorted(printable(name) for name in names if PurePath(name).suffix.lower() in CODE)
    return (*files, *(f"auto_map in {name}" for name, config in configs.items() if "auto_map" in config))
