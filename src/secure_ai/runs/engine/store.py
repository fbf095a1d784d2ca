"""The content-addressed store: what a stage put out, kept by digest, found again by the digest of all its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.core.errors import DigestMismatchError, FileKindError, FileMissingError, SecureAIError
from secure_ai.core.events import EventSink, canonical_json
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_beneath
from secure_ai.files.seal import Seal, SealedFile
from secure_ai.files.write import make_folder, write_beneath

MAX_BLOB_BYTES = 1024 * MIB
MAX_RECORD_BYTES = 4 * MIB
READ_ONLY = 0o444
RECORD = "stage record"  # the purpose of its tag


def key_of(content: Mapping[str, Any]) -> str:
    """SHA-256 hex over the canonical JSON of everything that decides a stage's result."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a finished stage: names of outputs to their digests, and the seconds it took when it ran."""

    stage: str
    outputs: Mapping[str, str]
    seconds: float

    def content(self, key: str) -> bytes:
        """What its tag is made over: the stage's key too, so that it does not hold under another."""
        return canonical_json(
            {"key": key, "stage": self.stage, "outputs": dict(self.outputs), "seconds": self.seconds}
        ).encode()


class Store:
    """Blobs and records beneath one folder.

    Nothing read from it is believed before its digest is checked, and no record without the tag of `seal`'s key: such a
    record is foreign. It is left where it is until the stage has run.

    Attributes:
        seal: what its records are sealed with.
        foreign: keys of the records that were asked for and are foreign.
    """

    def __init__(self, folder: Path, events: EventSink, seal: Seal) -> None:
        self._folder = folder
        self._events = events
        self.seal = seal
        self.foreign: set[str] = set()
        for path in (folder, *(folder / name for name in ("objects", "stages", "partial"))):
            if make_folder(path).is_symlink():
                raise FileKindError("a link stands in the store", where=path.name, hint="remove it first")

    def put(self, stage: str, key: str, outputs: Mapping[str, bytes], seconds: float) -> Record:
        """Keep a stage's outputs; the record is written last, so that a kill in between leaves no half stage."""
        digests = {name: self._put_blob(content) for name, content in outputs.items()}
        record = Record(stage, digests, round(seconds, 3))
        said = {"stage": stage, "outputs": digests, "seconds": record.seconds}
        said["tag"] = self.seal.tag(RECORD, record.content(key))
        write_beneath(self._folder, f"stages/{key}.json", canonical_json(said).encode(), mode=READ_ONLY)
        return record

    def _put_blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        name = f"objects/{digest[:2]}/{digest}"
        if not (self._folder / name).exists() or self._read(name, MAX_BLOB_BYTES) != content:
            write_beneath(self._folder, name, content, mode=READ_ONLY)
        return digest

    def find(self, key: str) -> Record | None:
        """The record of the stage with that key; None where it or one of its blobs is missing, malformed or foreign."""
        name = f"stages/{key}.json"
        if not (self._folder / name).exists():
            return None
        try:
            content = parse_json(self._read(name, MAX_RECORD_BYTES), where=name)
            record = Record(str(content["stage"]), dict(content["outputs"]), float(content["seconds"]))
            if not self.seal.holds(RECORD, record.content(key), content.get("tag")):
                self.foreign.add(key)
                self._events("store_foreign", {"record": key})
                return None
            for digest in record.outputs.values():
                self.blob(digest)
        except (SecureAIError, KeyError, TypeError, ValueError) as error:
            self._events("store_damaged", {"record": key, "reason": type(error).__name__})
            (self._folder / name).unlink(missing_ok=True)
            return None
        return record

    def blob(self, digest: str) -> bytes:
        """The bytes with that digest.

        Raises:
            DigestMismatchError: they are not those that were stored (the blob is removed), or FileMissingError.
        """
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise FileMissingError("not a digest", where="store record", got=digest)
        name = f"objects/{digest[:2]}/{digest}"
        content = self._read(name, MAX_BLOB_BYTES)
        if (actual := hashlib.sha256(content).hexdigest()) != digest:
            (self._folder / name).unlink(missing_ok=True)
            raise DigestMismatchError("a stored file was altered", where=name, expected=digest, got=actual)
        return content

    def _read(self, name: str, max_bytes: int) -> bytes:
        return read_beneath(self._folder, name, max_bytes=max_bytes).content

    def partial(self, key: str) -> SealedFile:
        """Where a stage with that key may keep the state to resume from."""
        return SealedFile(self._folder / "partial", key, f"partial {key}", self.seal)
