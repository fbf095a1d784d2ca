"""Loading a network from its file, saving one, and making a target of it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secure_ai.core.errors import ArchError, ShapeError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.keras import KerasModel
from secure_ai.files.pt2 import ExportedProgram
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.files.sandbox.confine import confinement_from
from secure_ai.files.write import write_bytes
from secure_ai.models.load.artifact import Arch, Artifact, read_arch, read_artifact
from secure_ai.models.load.beside import known_of_folder, known_of_keras, read_known
from secure_ai.models.load.exported import ExportedNetwork, batch_note
from secure_ai.models.load.factory import call_factory, run_factory
from secure_ai.models.load.keras_io import network_from_keras
from secure_ai.models.load.state import fit_state
from secure_ai.models.networks.built_in import NETWORKS, network_entry
from secure_ai.models.networks.keras_stacks import built_in_of
from secure_ai.models.target.access import Access
from secure_ai.models.target.known import Known
from secure_ai.models.target.scorer import Scorer
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import array_to_tensor, state_digest, tensors_of_state, to_channels_last

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LoadedModel:
    """A network with its weights, in evaluation mode.

    Attributes:
        name: the file's name without its folder.
        digest: SHA-256 of the weights (`state_digest`), the same in every format; of a callable that of its file of
            code, or empty where there is none.
        file_sha256: SHA-256 of the file's bytes; empty without a file.
        format: safetensors, torch_zip, keras or pt2; network or callable for what a factory made without a file.
        arch: a built-in name, the text of `--arch`, or `keras` or `pt2` for a network that its file describes.
        user_code: whether code that the user named ran in this process.
        input_shape: (C, H, W) where it is known.
        num_classes: K where it is known.
        notes: what the user should know of how it is called, one sentence each.
        known: what its file and the small files beside it say of how it was made.
        code: what stands in its folder that a loader which trusts it would run; nothing of it was run.
    """

    network: nn.Module
    name: str
    digest: str
    file_sha256: str
    format: str
    arch: str
    user_code: bool = False
    input_shape: Shape | None = None
    num_classes: int | None = None
    notes: tuple[str, ...] = ()
    known: Known = field(default_factory=Known)
    code: tuple[str, ...] = ()


def load_model(
    path: str | os.PathLike[str],
    *,
    arch: str | None = None,
    classes: int | None = None,
    input_shape: Shape | None = None,
    weights_key: str = "",
    events: EventSink = ignore_event,
) -> LoadedModel:
    """Read, check and rebuild a model.

    Args:
        path: safetensors, torch state dict, `.keras` or `.pt2`, detected by content; or a folder of Hugging Face's.
        arch: built-in name, `FILE.py:FACTORY` or `pkg.mod:FACTORY`; not needed for `.keras` and `.pt2`, nor for a
            safetensors file that names a built-in network.
        classes: K of the data; a network known to have fewer classes is refused.
        input_shape: (C, H, W) of the data; a network known to take another is refused.
        weights_key: which entry of a checkpoint holds the weights, where several could.
        events: told `model_read` or `model_refused`, `user_code` and `model_loaded`.

    Raises:
        ArchError: no architecture is known, or its code fails.
        StateMismatchError: the weights do not fit the architecture.
        ShapeError: the network does not fit the data.
        SecureAIError: what `read_artifact` refuses.
    """
    parsed = read_arch(arch) if arch is not None else None
    gaps: list[str] = []
    artifact = read_artifact(path, weights_key=weights_key, events=_noting_gaps(events, gaps))
    loaded = build_model(artifact, arch=parsed, events=events)
    _refuse_other_data(loaded, classes, input_shape)
    folder = artifact.folder
    known = known_of_folder(folder) if folder else read_known(Path(path), loaded.digest, artifact.metadata)
    if known.input is None and loaded.known.input is not None:
        known = replace(known, input=loaded.known.input, input_from=loaded.known.input_from, tell=loaded.known.tell)
    code = folder.code if folder else ()
    return replace(loaded, known=known, notes=(*gaps, *loaded.notes, *known.notes), code=code)


def _noting_gaps(events: EventSink, notes: list[str]) -> EventSink:
    """`events`, and a note for the user where the child that reads the file is not confined in every way."""

    def hear(kind: str, data: Mapping[str, Any]) -> None:
        confinement = confinement_from(data["confinement"]) if kind == "child_confined" else None
        if confinement is not None and confinement.missing:
            missing = "; ".join(confinement.missing)
            notes.append(
                f"the file was read in a process that this machine cannot confine ({missing}): docs/sandbox.md"
            )
        events(kind, data)

    return hear


def build_model(artifact: Artifact, *, arch: Arch | None, events: EventSink = ignore_event) -> LoadedModel:
    """The second half of `load_model`: the network of an artifact already read. Raises as `load_model` does."""
    if artifact.keras is not None:
        loaded = _from_keras(artifact, artifact.keras, arch)
    elif artifact.exported is not None:
        loaded = _from_exported(artifact, artifact.exported, arch)
    else:
        loaded = _from_arrays(artifact, arch or _named_in(artifact), events)
    events("model_loaded", {"name": loaded.name, "arch": loaded.arch, "digest": loaded.digest})
    return loaded


def model_of_factory(text: str, access: Access | None, *, events: EventSink = ignore_event) -> LoadedModel:
    """The model that a factory makes with its weights in it: a network, or any callable (see `models.scorer`).

    Args:
        text: `FILE.py:FACTORY` or `pkg.mod:FACTORY`.
        access: what attacks may use; None: gradients of a network, scores of another callable.

    Raises:
        ArchError: a built-in name, whose weights nobody gave, or the factory fails or makes no callable.
        UsageError: gradients of a callable that is no network.
    """
    arch = read_arch(text)
    if arch.built_in:
        raise ArchError("a built-in network without weights", where="--model", expected="a model file", got="none")
    made = call_factory(arch, events=events)
    loaded = model_of_object(made, access, name=arch.text, arch=arch.text, own=True)
    if not loaded.digest:
        loaded = replace(loaded, digest=arch.code_sha256)  # the code is all that can be named; "" for a module's
    events("model_loaded", {"name": loaded.name, "arch": loaded.arch, "digest": loaded.digest})
    return loaded


def model_of_object(made: Any, access: Access | None, *, name: str, arch: str, own: bool = False) -> LoadedModel:
    """A network or any callable of the user's, as it stands. A network is copied, so that the user's is left alone.

    Args:
        own: nobody else has it: a network that a factory just made needs no copy.

    Raises:
        ArchError: neither, or a network that cannot be copied.
        UsageError: gradients of a callable that is no network.
    """
    if isinstance(made, nn.Module):
        try:
            network = (made if own else copy.deepcopy(made)).eval()
            digest = _digest_of(network)
        except Exception as error:  # a user's network may raise anything
            got, expected = f"{type(error).__name__}: {error}", "eval() and state_dict() that work"
            if own:
                raise ArchError("the network cannot be prepared", where=name, expected=expected, got=got) from error
            raise ArchError("the network cannot be prepared", where=name, expected=f"{expected}, and a copy", got=got,
                            hint="let a factory make it: --arch FILE.py:FACTORY needs no copy") from error  # fmt: skip
        if access in (None, "gradients") and _is_quantised(network):
            raise UsageError("a quantised network offers no gradients", where=name, expected="a float network",
                             got="quantised weights", hint="--access scores attacks it by queries")  # fmt: skip
        kind = "network"
    elif callable(made):
        if access == "gradients":
            got = type(made).__name__
            raise UsageError("a callable offers no gradients", where="--access", expected="scores or labels", got=got)
        network, digest, kind = Scorer(made, access or "scores"), "", "callable"
    else:
        got = type(made).__name__
        raise ArchError("the factory returned no model", where=name, expected="a network or a callable", got=got)
    return LoadedModel(
        network=network, name=name, digest=digest, file_sha256="", format=kind, arch=arch, user_code=True
    )


def _from_keras(artifact: Artifact, model: KerasModel, arch: Arch | None) -> LoadedModel:
    built_in = built_in_of(model)
    if arch is not None and arch.text != built_in:
        raise ArchError("a .keras file describes its own network", where="--arch", expected="none", got=arch.text)
    network = network_from_keras(model)
    shape = (model.input_shape[2], *model.input_shape[:2]) if len(model.input_shape) == 3 else None
    classes = model.layers[-1].output_shape[0]
    notes = ("one number an image: it is taken as the score of class 1",) if classes == 1 else ()
    loaded = _loaded(artifact, network, built_in or "keras", shape, max(2, classes))
    return replace(loaded, notes=(*model.notes, *notes), known=known_of_keras(model))


def _from_exported(artifact: Artifact, program: ExportedProgram, arch: Arch | None) -> LoadedModel:
    if arch is not None:
        raise ArchError("a .pt2 file describes its own network", where="--arch", expected="none", got=arch.text)
    note = batch_note(program)
    loaded = _loaded(artifact, ExportedNetwork(program).eval(), "pt2", None, artifact.classes)
    return replace(loaded, notes=(note,) if note else ())


def _from_arrays(artifact: Artifact, arch: Arch, events: EventSink) -> LoadedModel:
    network = network_entry(arch.text).network() if arch.built_in else run_factory(arch, events=events)
    state = {key: array_to_tensor(array) for key, array in artifact.arrays.items()}
    notes = fit_state(network, state, where=artifact.name)
    if arch.built_in:
        entry = network_entry(arch.text)
        return replace(_loaded(artifact, network, arch.text, entry.input_shape, entry.num_classes), notes=notes)
    try:
        return replace(_loaded(artifact, network, arch.text, None, None), user_code=True, notes=notes)
    except Exception as error:  # a user's eval() or state_dict() may raise anything
        raise ArchError(
            "the network cannot be prepared", where=arch.text, got=f"{type(error).__name__}: {error}"
        ) from error


def _digest_of(network: nn.Module) -> str:
    """`state_digest`; empty without any weights, which name no network."""
    state = tensors_of_state(network.state_dict())
    return state_digest(state) if state else ""


def _is_quantised(network: nn.Module) -> bool:
    """Layers that compute in whole numbers pass no gradient on: an attack by gradient would be blind."""
    return any(tensor.is_quantized for tensor in tensors_of_state(network.state_dict()).values())


def _loaded(
    artifact: Artifact, network: nn.Module, arch: str, input_shape: Shape | None, num_classes: int | None
) -> LoadedModel:
    return LoadedModel(
        network=network.eval(),
        name=artifact.name,
        digest=_digest_of(network),
        file_sha256=artifact.sha256,
        format=artifact.format.value,
        arch=arch,
        input_shape=input_shape,
        num_classes=num_classes,
    )


def _named_in(artifact: Artifact) -> Arch:
    name = artifact.metadata.get("arch", "")
    if name in NETWORKS:
        return Arch(text=name)
    raise ArchError(
        "the file holds weights only: name the architecture",
        where=artifact.name,
        expected="--arch " + " or ".join([*NETWORKS, "FILE.py:FACTORY"]),
        got=f"no --arch; the file says {name!r}, and a file may not choose code" if name else "no --arch",
    )


def _refuse_other_data(loaded: LoadedModel, classes: int | None, input_shape: Shape | None) -> None:
    """More classes than the data names are fine: a sample need not hold every class."""
    if None not in (loaded.input_shape, input_shape) and loaded.input_shape != input_shape:
        raise ShapeError(
            "the network takes other images",
            where=loaded.name,
            expected=f"{input_shape} (data)",
            got=loaded.input_shape,
        )
    if loaded.num_classes is not None and classes is not None and loaded.num_classes < classes:
        raise ShapeError(
            "the network has too few classes",
            where=loaded.name,
            expected=f">= {classes} (data)",
            got=loaded.num_classes,
        )


def model_bytes(network: nn.Module, arch: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """The network's state as safetensors; equal weights and metadata give equal bytes.

    Args:
        arch: stored in the file's metadata as `arch`, so that `--arch` may be left out for a built-in name.
        metadata: further text to store.
    """
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in network.state_dict().items()}
    return safetensors_bytes(arrays, dict(metadata or {}) | {"arch": arch})


def save_model(network: nn.Module, path: Path, *, arch: str, metadata: Mapping[str, str] | None = None) -> None:
    """Write `model_bytes` to `path`, whole or not at all. Raises EnvironmentFailedError, FileKindError."""
    write_bytes(path, model_bytes(network, arch, metadata))


def make_target(
    loaded: LoadedModel,
    *,
    input_shape: Shape,
    num_classes: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    access: Access | None = None,
    device: torch.device | None = None,
) -> NetworkTarget:
    """The loaded network as something to attack: evaluation mode, weights laid out for speed.

    Args:
        input_shape: (C, H, W) of the data.
        num_classes: K of the data; a network known to have more classes keeps its own K.
        mean, std: subtracted and divided by, per channel (one value, or C), after the range; empty: neither. With
            none of the three given, pixels are prepared as the model's folder says, if it does.
        value_range: what 0 and 1 become, e.g. (0, 255) or (-1, 1).
        batch_size: most samples in one pass.
        access: what attacks may use; None: gradients of a network, scores of another callable.
        device: where the network is put; None: it stays where it is.

    Raises:
        ShapeError: the network is known to be for other data.
        UsageError: mean, std or range is unusable.
    """
    _refuse_other_data(loaded, num_classes, input_shape)
    said = bool(mean or std) or tuple(value_range) != (0.0, 1.0)
    known = loaded.known
    if known.tell and known.input is not None and not said:
        mean, std, value_range = known.input.mean, known.input.std, (known.input.low, known.input.high)
    for what, values, usable in (("mean", mean, math.isfinite), ("std", std, lambda v: math.isfinite(v) and v > 0)):
        _refuse_values(what, values, input_shape[0], usable)
    if not all(map(math.isfinite, value_range)) or value_range[0] == value_range[1]:
        raise UsageError("an unusable range", where="--range", expected="two different numbers", got=value_range)
    transform = InputTransform(low=value_range[0], high=value_range[1], mean=tuple(mean), std=tuple(std))
    if said:
        by = "the command line" + (f", which wins over {known.input_from}," if known.tell else "")
        known = replace(known, input=transform, input_from=by)
    access = access or ("scores" if isinstance(loaded.network, Scorer) else "gradients")
    return NetworkTarget(
        to_channels_last(loaded.network if device is None else loaded.network.to(device)).eval(),
        name=loaded.name,
        digest=loaded.digest,
        input_shape=input_shape,
        num_classes=loaded.num_classes or num_classes,
        transform=transform,
        batch_size=batch_size,
        access=access,
        known=known,
    )


def _refuse_values(what: str, values: Sequence[float], channels: int, usable: Callable[[float], bool]) -> None:
    if len(values) not in {0, 1, channels} or not all(map(usable, values)):
        expected = f"1 or {channels} finite numbers" + (" above 0" if what == "std" else "")
        raise UsageError(f"an unusable {what}", where=f"--{what}", expected=expected, got=list(values))
