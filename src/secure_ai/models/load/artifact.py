"""A model's files, read and judged without torch: a refusal costs no import and nothing is built from refused bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from secure_ai.core.errors import ArchError, FormatError, SecureAIError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.keras import KerasModel, read_keras
from secure_ai.files.open import FileBytes, read_file
from secure_ai.files.pt2 import ExportedProgram, read_pt2
from secure_ai.files.safetensors import read_safetensors
from secure_ai.files.sniff import Format, sniff
from secure_ai.files.torch_state import read_torch_state
from secure_ai.models.load.exported_trial import try_exported
from secure_ai.models.load.hugging_face import ModelFolder, read_model_folder

BUILT_IN = ("report1-cnn", "report2-cnn")
MAX_MODEL_BYTES = 2 * 1024**3
MAX_CODE_BYTES = 4 * 1024**2

CONVERSIONS = {  # of what is known and not read
    Format.NPZ: "save the arrays with safetensors.numpy.save_file",
    Format.NPY: "save the arrays with safetensors.numpy.save_file",
    Format.ONNX: "name a function that answers scores with --arch FILE.py:FACTORY, or export from torch as .pt2",
    Format.TAR: "unpack it and name the model file inside",
    Format.ZIP: "unpack it and name the model file inside",
    Format.GZIP: "unpack it and name the model file inside",
}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Artifact:
    """A model file after every check that needs no torch.

    Attributes:
        name: the file's name without its folder.
        sha256: hex digest of its bytes.
        arrays: weights by name; empty for `.keras` and `.pt2`, whose weights are in `keras` and `exported`.
        metadata: what a safetensors file says of itself; never trusted to name code.
        classes: what `exported` answered in its trial run.
        folder: what else was taken, where the model is a folder of Hugging Face's.
    """

    name: str
    format: Format
    sha256: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    keras: KerasModel | None = None
    exported: ExportedProgram | None = None
    classes: int | None = None
    folder: ModelFolder | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Arch:
    """Where a network comes from: a built-in name, or a factory in a file (`code` holds its bytes) or a module.

    Attributes:
        text: as given; a file without its folder.
        module: name of the module to import; empty unless the factory is in one.
        factory: name of a callable without arguments; empty for a built-in name.
    """

    text: str
    module: str = ""
    factory: str = ""
    code: CodeType | None = None
    code_sha256: str = ""
    folder: str = ""

    @property
    def built_in(self) -> bool:
        """Whether it names a built-in network."""
        return not self.factory


def read_artifact(path: str | os.PathLike[str], *, weights_key: str = "", events: EventSink = ignore_event) -> Artifact:
    """Read a model file, or a folder of Hugging Face's, once and take the weights out, the format detected by content.

    Args:
        weights_key: which entry of a torch checkpoint holds the weights, where several could.
        events: told `model_read` or `model_refused`, and `child_confined` where a child reads the file.

    Raises:
        FormatError: not safetensors, a torch state dict, `.keras` or `.pt2`.
        SecureAIError: whatever the format's strict reader refuses, NaN and infinity among the weights included.
    """
    try:
        if Path(path).is_dir():
            artifact = _of_folder(read_model_folder(path, max_bytes=MAX_MODEL_BYTES), weights_key)
        else:
            artifact = _parse(read_file(path, max_bytes=MAX_MODEL_BYTES), weights_key, events)
    except SecureAIError as error:
        events("model_refused", {"name": os.path.basename(os.fspath(path)), "code": error.code})
        raise
    events("model_read", {"name": artifact.name, "format": artifact.format.value, "sha256": artifact.sha256})
    return artifact


def _of_folder(folder: ModelFolder, weights_key: str) -> Artifact:
    _refuse_key(weights_key)
    return Artifact(
        name=folder.name, format=Format.SAFETENSORS, sha256=folder.sha256, arrays=folder.arrays,
        metadata=folder.metadata, folder=folder,
    )  # fmt: skip


def _refuse_key(weights_key: str) -> None:
    if weights_key:
        raise FormatError("this file has one set of weights", where="--weights-key", expected="none", got=weights_key)


def _parse(file: FileBytes, weights_key: str, events: EventSink) -> Artifact:
    found = sniff(file.content)
    if found not in (Format.TORCH_ZIP, Format.PICKLE):
        _refuse_key(weights_key)
    if found is Format.SAFETENSORS:
        content = read_safetensors(file)
        return Artifact(
            name=file.name, format=found, sha256=file.sha256, arrays=content.tensors, metadata=content.metadata
        )
    if found in (Format.TORCH_ZIP, Format.PICKLE):  # a bare pickle is refused there, with the right advice
        return Artifact(name=file.name, format=found, sha256=file.sha256, arrays=read_torch_state(file, weights_key))
    if found in (Format.KERAS, Format.HDF5):  # the same for Keras's older format
        return Artifact(name=file.name, format=found, sha256=file.sha256, keras=read_keras(file, events=events))
    if found is Format.PT2:
        program = read_pt2(file)
        classes = try_exported(file, program, events)
        return Artifact(name=file.name, format=found, sha256=file.sha256, exported=program, classes=classes)
    raise FormatError(
        "not a model file that can be loaded",
        where=file.name,
        expected="safetensors, a torch state dict (torch.save), .keras or .pt2 (torch.export.save)",
        got=found.value,
        hint=CONVERSIONS.get(
            found, "--arch net.py:scorer without --model attacks whatever answers scores, see docs/models.md"
        ),
    )


def read_arch(text: str) -> Arch:
    """What `--arch` names; a file is read and compiled, but nothing of it runs.

    Raises:
        ArchError: neither a built-in name nor `FILE.py:FACTORY` nor `pkg.mod:FACTORY`, or the file is not Python.
        SecureAIError: the file cannot be read.
    """
    if text in BUILT_IN:
        return Arch(text=text)
    place, colon, factory = text.rpartition(":")
    if not colon or not factory.isidentifier() or not place:
        raise ArchError(
            "no such architecture",
            where="--arch",
            expected=f"{' or '.join(BUILT_IN)}, FILE.py:FACTORY or pkg.mod:FACTORY",
            got=text,
        )
    if place.endswith(".py"):
        return _read_code(place, factory)
    if not all(part.isidentifier() for part in place.split(".")):
        raise ArchError("not a module's name", where="--arch", expected="FILE.py:FACTORY or pkg.mod:FACTORY", got=text)
    return Arch(text=text, module=place, factory=factory)


def _read_code(path: str, factory: str) -> Arch:
    file = read_file(path, max_bytes=MAX_CODE_BYTES)
    try:
        code = compile(file.content, file.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArchError("the file is not Python", where=file.name, expected="Python source", got=error) from None
    return Arch(
        text=f"{file.name}:{factory}",
        factory=factory,
        code=code,
        code_sha256=file.sha256,
        folder=str(Path(path).absolute().parent),
    )
