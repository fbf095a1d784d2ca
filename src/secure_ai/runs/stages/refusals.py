"""Hostile files made here and sent through the tool's own readers, each kind with the clean files it must accept."""

from __future__ import annotations

import io
import pickle  # only to WRITE files that must be refused
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.core.errors import SecureAIError
from secure_ai.core.events import ignore_event
from secure_ai.core.result import Result
from secure_ai.core.results import Measurement, rate
from secure_ai.data.npz import load_npz
from secure_ai.data.splits import random_order
from secure_ai.files.safetensors import safetensors_bytes
from secure_ai.files.seal import Seal
from secure_ai.models.load.artifact import read_artifact
from secure_ai.runs.engine.measure import Context, Settings
from secure_ai.runs.engine.store import Store
from secure_ai.runs.engine.subject import Subject
from secure_ai.runs.stages.entries import rate_entry

CLEAN_FILES = 20
ALTERED_COPIES = 200


class _Payload:
    """Asks an unpickler to call a harmless function; it must never be called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (len, ((),))


def refusals(subjects: Mapping[str, Subject], settings: Settings, context: Context) -> Result:
    """Three checks, each with its negative control: altered model files, pickled models, mismatched data."""
    entries: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="secure-ai-refusals-") as temporary:
        folder = Path(temporary)
        seed = context.seed
        for name, protocol, attempts in (
            ("altered-model/refused", "one bit of a stored model changed", _altered(folder, seed)),
            ("unaltered-model/accepted", "stored models as they were", _unaltered(folder)),
            ("pickled-model/refused", "models saved as pickles", _pickled(folder)),
            ("safetensors-model/accepted", "models saved as safetensors", _safe(folder, seed)),
            ("mismatched-data/refused", "images and labels that do not fit", _mismatched(folder)),
            ("matching-data/accepted", "images and labels that fit", _matching(folder, seed)),
        ):
            entries.append(_entry(name, protocol, attempts))
    return Result(measurements=tuple(entries))


def _entry(name: str, protocol: str, attempts: Iterator[Callable[[], object]]) -> Measurement:
    refused = name.endswith("/refused")
    outcomes = [_is_refused(attempt) is refused for attempt in attempts]
    metric = "refusal_rate" if refused else "acceptance_rate"
    return rate_entry("check", name, metric, rate(sum(outcomes), len(outcomes)), protocol)


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except SecureAIError:
        return True
    return False


def _weights(seed: int) -> dict[str, np.ndarray]:
    values = random_order(64, "refusals", seed).astype(np.float32)
    return {"dense.weight": values.reshape(8, 8) / 64, "dense.bias": values[:8] / 64}


def _altered(folder: Path, seed: int) -> Iterator[Callable[[], object]]:
    store = Store(folder / "store", ignore_event, Seal(None))
    content = safetensors_bytes(_weights(seed), {})
    digest = store.put("model", "0" * 64, {"model": content}, 0.0).outputs["model"]
    path = folder / "store" / "objects" / digest[:2] / digest
    for place in random_order(8 * len(content), "bits", seed)[:ALTERED_COPIES].tolist():
        changed = bytearray(content)
        changed[place // 8] ^= 1 << (place % 8)
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(changed))
        yield lambda: store.blob(digest)


def _unaltered(folder: Path) -> Iterator[Callable[[], object]]:
    store = Store(folder / "clean", ignore_event, Seal(None))
    for seed in range(CLEAN_FILES):
        digest = store.put("model", f"{seed:064x}", {"model": safetensors_bytes(_weights(seed), {})}, 0.0).outputs[
            "model"
        ]
        yield lambda digest=digest: store.blob(digest)  # type: ignore[misc]  # bound now, called before the next turn


def _pickled(folder: Path) -> Iterator[Callable[[], object]]:
    payloads = [_Payload(), {"weight": _Payload()}, [1, 2, 3], {"weight": 1.0}]
    for number, payload in enumerate(payloads):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            content = pickle.dumps(payload, protocol=protocol)
            for ending, wrapped in ((".pt", content), (".safetensors", content), (".zip.pt", _as_torch_zip(content))):
                path = folder / f"p{number}-{protocol}{ending}"
                path.write_bytes(wrapped)
                yield lambda path=path: read_artifact(path)  # type: ignore[misc]  # as above


def _as_torch_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return stream.getvalue()


def _safe(folder: Path, seed: int) -> Iterator[Callable[[], object]]:
    for number in range(CLEAN_FILES):
        path = folder / f"clean-{number}.safetensors"
        path.write_bytes(safetensors_bytes(_weights(seed + number), {}))
        yield lambda path=path: read_artifact(path)  # type: ignore[misc]  # as above


def _npz(path: Path, arrays: dict[str, Any]) -> Callable[[], object]:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path.write_bytes(stream.getvalue())
    return lambda: load_npz(path)


def _mismatched(folder: Path) -> Iterator[Callable[[], object]]:
    x, y = np.tile(np.arange(64, dtype=np.uint8), (12, 1)).reshape(12, 8, 8), np.arange(12) % 3
    cases: tuple[dict[str, np.ndarray], ...] = (
        {"x": x, "y": y[:-1]},
        {"x": x[:-1], "y": y},
        {"x": x, "y": y[:0]},
        {"x": x[:0], "y": y[:0]},
        {"x": x, "y": -y},
        {"x": x, "y": y + 0.5},
        {"x": x, "y": np.eye(12)},
        {"x": x.reshape(12, 64), "y": y},
        {"x": x.astype(np.float32), "y": y},
        {"x": np.full(x.shape, np.nan, dtype=np.float32), "y": y},
        {"x": x},
        {"x": x, "z": y},
    )
    for number, arrays in enumerate(cases):
        yield _npz(folder / f"bad-{number}.npz", arrays)


def _matching(folder: Path, seed: int) -> Iterator[Callable[[], object]]:
    for number in range(CLEAN_FILES):
        x = (random_order(12 * 64, seed, number) % 256).astype(np.uint8).reshape(12, 8, 8)
        yield _npz(folder / f"good-{number}.npz", {"x": x, "y": np.arange(12) % 3})
