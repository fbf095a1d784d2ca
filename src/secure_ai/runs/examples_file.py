"""Saved adversarial examples: what `--save-adversarial` writes and `examples:FILE.npz` reads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import DataKeysError, LabelError, NonFiniteError, PixelRangeError, ShapeError, UsageError
from secure_ai.data.dataset import MAX_DATA_BYTES, Dataset
from secure_ai.data.npz import pixels_from_array
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import read_file
from secure_ai.files.write import write_bytes
from secure_ai.models.tensors import images_to_float
from secure_ai.red.evasion.attacks.saved_examples import image_key
from secure_ai.red.evasion.suite.borrowed import Examples

LIMITS = NpyLimits(max_array_bytes=MAX_DATA_BYTES, max_dimensions=4, max_members=16)
NEEDED = frozenset({"x_adv", "y", "index", "model_digest", "data_digest"})
FOREIGN = frozenset({"x_adv", "y", "index"})
NEAR_THEIR_OWN = 0.9  # fraction of the examples of another tool
DIGEST_BYTES = 32
NO_DIGEST = bytes(DIGEST_BYTES).hex()  # of a callable: no weights to tell it by


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where examples come from: digests (hex) of the network and of the data that were attacked, budget, attack.

    Attributes:
        complete: false where the attack was stopped, and only what was finished is kept.
    """

    model_digest: str
    data_digest: str
    budget: PerturbationBudget
    attack: str
    seed: int
    complete: bool = True


def examples_bytes(x_adv: np.ndarray, y: np.ndarray, index: np.ndarray, origin: Origin) -> bytes:
    """The NPZ file: x_adv (N, C, H, W) float32, y (N,), index (N,) positions in the source file, and the origin."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        x_adv=x_adv,
        y=y,
        index=index,
        model_digest=np.frombuffer(bytes.fromhex(origin.model_digest or NO_DIGEST), dtype=np.uint8),
        data_digest=np.frombuffer(bytes.fromhex(origin.data_digest), dtype=np.uint8),
        eps=np.array([origin.budget.eps]),
        norm=np.frombuffer(origin.budget.norm.encode(), dtype=np.uint8),
        attack=np.frombuffer(origin.attack.encode(), dtype=np.uint8),
        seed=np.array([origin.seed], dtype=np.int64),
        complete=np.array([origin.complete]),
    )
    return stream.getvalue()


def save_examples(path: Path, x_adv: np.ndarray, y: np.ndarray, index: np.ndarray, origin: Origin) -> None:
    """Write `examples_bytes` to `path`, whole or not at all."""
    write_bytes(path, examples_bytes(x_adv, y, index, origin))


def refuse_replacing(path: Path) -> None:
    """Refuse to write where a file stands that is not of saved examples, such as the user's data.

    Raises:
        UsageError: it is something else.
    """
    if not path.exists():
        return
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError):
        held = set()
    if not held >= NEEDED:
        raise UsageError(
            "the output is another file, which is kept",
            where=f"--save-adversarial {path.name}",
            expected="a new name, or a file of saved examples to replace",
            got=", ".join(sorted(held)[:4]) or "no archive",
        )


def read_examples(path: str, dataset: Dataset) -> Examples:
    """The examples of a file by their clean image, and the digest (hex) of the network they were made for.

    That digest is empty where it is not known. Besides what `save_examples` writes, an `x_adv` of another tool is
    taken, with `y` and `index` or without them: pixels as of a data set, one example an image of the data, in their
    order.

    Raises:
        DataKeysError, ShapeError, LabelError, PixelRangeError, NonFiniteError: neither.
        UsageError: they were made from other data.
        SecureAIError: the file cannot be read.
    """
    file = read_file(path, max_bytes=MAX_DATA_BYTES)
    arrays = read_npz(file, limits=LIMITS)
    if {"x_adv"} <= arrays.keys() <= FOREIGN:
        return _foreign(arrays, dataset, file.name), ""
    if missing := sorted(NEEDED - arrays.keys()):
        raise DataKeysError("not a file of saved examples", where=file.name, expected=missing[0], got=sorted(arrays))
    digests = {name: _digest(arrays[name], f"{file.name}: {name}") for name in ("model_digest", "data_digest")}
    if digests["data_digest"] != dataset.digest:
        raise UsageError(
            "the examples were made from other images",
            where=file.name,
            expected=f"data {dataset.digest[:12]}",
            got=digests["data_digest"][:12],
            hint="name the data that was attacked, with the same seed",
        )
    rows = _rows(arrays, dataset, file.name)
    made_for = digests["model_digest"]
    lookup = _lookup(images_to_float(dataset.images[rows]), torch.from_numpy(np.array(arrays["x_adv"])))
    return lookup, "" if made_for == NO_DIGEST else made_for


def _lookup(clean: Tensor, examples: Tensor) -> dict[bytes, Tensor]:
    found: dict[bytes, Tensor] = {}
    for image, example in zip(clean, examples, strict=True):
        found.setdefault(image_key(image), example)
    return found


def _foreign(arrays: Mapping[str, np.ndarray], dataset: Dataset, name: str) -> dict[bytes, Tensor]:
    """The examples of another tool, which says nothing of where they come from: they must be near their own images.

    Raises:
        UsageError: less than 90 % are nearer to their own image than to the one after it.
    """
    x_adv = pixels_from_array(arrays["x_adv"], where=f"{name}: x_adv")
    index = arrays.get("index", np.asarray(dataset.indices))
    if "index" not in arrays and len(x_adv) != len(dataset):
        hint = "index=... names the position of each image in its file"
        raise ShapeError("not one example an image", where=f"{name}: x_adv", expected=len(dataset), got=len(x_adv),
                         hint=hint)  # fmt: skip
    examples = images_to_float(x_adv)
    y = arrays.get("y", np.asarray(dataset.labels) if "index" not in arrays else None)
    if y is None:
        raise DataKeysError("index without labels", where=name, expected="x_adv, y and index", got=sorted(arrays))
    rows = _rows({"x_adv": examples.numpy(), "y": y, "index": index}, dataset, name)
    clean = images_to_float(dataset.images[rows])
    own, other = ((examples - images).flatten(1).norm(dim=1) for images in (clean, clean.roll(-1, dims=0)))
    if len(rows) > 1 and float((own <= other).float().mean()) < NEAR_THEIR_OWN:
        raise UsageError("the examples are of other images, or in another order", where=f"{name}: x_adv",
                         expected="the data that was attacked, in its order")  # fmt: skip
    return _lookup(clean, examples)


def _digest(array: np.ndarray, where: str) -> str:
    if array.dtype != np.uint8 or array.shape != (DIGEST_BYTES,):
        raise ShapeError("not a digest", where=where, expected=f"({DIGEST_BYTES},) uint8", got=array.shape)
    return bytes(array).hex()


def _rows(arrays: Mapping[str, np.ndarray], dataset: Dataset, name: str) -> np.ndarray:
    """(M,) positions in the data set of the examples, everything about them checked."""
    x_adv, y, index = arrays["x_adv"], arrays["y"], arrays["index"]
    if x_adv.dtype != np.float32 or x_adv.shape[1:] != dataset.images.shape[1:]:
        expected = f"float32 (N, {', '.join(map(str, dataset.input_shape))})"
        raise ShapeError("the examples do not fit the data", where=f"{name}: x_adv", expected=expected, got=x_adv.shape)
    if not bool(np.isfinite(x_adv).all()):
        raise NonFiniteError("the examples hold NaN or infinity", where=f"{name}: x_adv", expected="finite numbers")
    if float(x_adv.min()) < 0 or float(x_adv.max()) > 1:
        raise PixelRangeError("the examples leave [0, 1]", where=f"{name}: x_adv", expected="[0, 1]")
    for key, array in (("y", y), ("index", index)):
        if array.shape != (len(x_adv),) or array.dtype.kind not in "iu":
            raise LabelError(
                "one whole number an example", where=f"{name}: {key}", expected=len(x_adv), got=array.shape
            )
    place = {int(number): row for row, number in enumerate(dataset.indices)}
    rows = np.array([place.get(int(number), -1) for number in index], dtype=np.int64)
    if (rows < 0).any() or (np.asarray(dataset.labels)[rows] != y).any():
        raise LabelError("an index or a label is not the data's", where=name, expected="the data that was attacked")
    return rows
