"""Report 1's cache demonstration: why a cache is kept as JSON.

By default a cache is written and read as JSON, and a pickle given to that reader is refused; nothing is unpickled. With
the switch set, a file that was written here a moment ago is really unpickled, in a child process in an empty folder
with limits, and the code inside it runs: it writes a canary file there. That is what Bandit's B301 (CWE-502) means.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.core.errors import ChildFailedError, DigestMismatchError, JsonError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding, Severity
from secure_ai.files.jsons import parse_json
from secure_ai.files.open import MIB, read_file
from secure_ai.files.sandbox import run_child
from secure_ai.files.write import write_bytes

UNSAFE_SWITCH = "ALLOW_UNSAFE_PICKLE"
FINDING_ID = "SAI-CACHE-001"
CANARY_NAME = "canary.txt"
CANARY_TEXT = "a cache file ran this code while it was being loaded"
_CHILD = "secure_ai.audit.cache_demo_child"
_CACHE = {"model": "baseline_cnn", "clean_accuracy": 0.989}
_MAX_CACHE_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a demonstration showed, as data; its findings are planted ones."""

    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]


class _Payload:
    """An object whose pickle asks the reader to call `Path.write_text`: a harmless stand-in for any command."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What the unpickler calls, with which arguments."""
        return Path.write_text, (Path(CANARY_NAME), CANARY_TEXT, "utf-8")


def load_cache_json_safe(path: Path, *, max_bytes: int = _MAX_CACHE_BYTES) -> Any:
    """The content of a JSON cache. Reading it can run no code.

    Raises:
        FileMissingError, FileKindError, SizeLimitError: see `read_file`.
        JsonError: not strict JSON, for instance a pickle.
    """
    file = read_file(path, max_bytes=max_bytes)
    return parse_json(file.content, where=file.name, max_bytes=max_bytes)


def demonstrate_cache(*, allow_unsafe: bool, events: EventSink = ignore_event) -> Demonstration:
    """Write a cache, read it back, and show what a hostile one does to each reader.

    Args:
        allow_unsafe: really unpickle the file written here; callers set it where ALLOW_UNSAFE_PICKLE is 1.
        events: told `cache_demo` with the facts.

    Returns:
        Facts `branch` (json or pickle), `json_round_trip`, `json_refuses_pickle`, `unpickled`, `code_ran`, `canary`
        and `sha256` of the hostile file; one planted finding where code ran.

    Raises:
        ChildFailedError: the child did not do as it was told.
    """
    with tempfile.TemporaryDirectory(prefix="secure-ai-cache-") as name:
        folder = Path(name)
        hostile = pickle.dumps(_Payload())
        write_bytes(folder / "cache.json", json.dumps(_CACHE).encode(), mode=0o600)
        write_bytes(folder / "cache.pkl", hostile, mode=0o600)
        digest = hashlib.sha256(hostile).hexdigest()
        facts = {
            "branch": "pickle" if allow_unsafe else "json",
            "json_round_trip": load_cache_json_safe(folder / "cache.json") == _CACHE,
            "json_refuses_pickle": _refused(folder / "cache.pkl"),
            "sha256": digest,
            **(_unpickle_in_child(hostile, digest) if allow_unsafe else _NOTHING_RAN),
        }
    events("cache_demo", facts)
    return Demonstration(facts, (_finding(digest),) if facts["code_ran"] else ())


_NOTHING_RAN: dict[str, Any] = {"unpickled": False, "code_ran": False, "canary": ""}


def _refused(path: Path) -> bool:
    try:
        load_cache_json_safe(path)
    except JsonError:
        return True
    return False


def _unpickle_in_child(content: bytes, digest: str) -> dict[str, Any]:
    answer = run_child(
        _CHILD,
        digest.encode() + content,
        timeout_s=_TIMEOUT_SECONDS,
        max_answer_bytes=4096,
        max_memory_bytes=1024 * MIB,
        max_file_bytes=4096,
    )
    said = parse_json(answer.content, where="cache demonstration")
    if not isinstance(said, dict) or set(said) != {"unpickled", "code_ran", "canary"}:
        raise ChildFailedError("the child answered in another form", where=_CHILD)
    return said


def checked_bytes(request: bytes) -> bytes:
    """The pickle in a child's request, if it has the digest before it. Raises DigestMismatchError."""
    digest, content = request[:64].decode("ascii", "replace"), request[64:]
    got = hashlib.sha256(content).hexdigest()
    if got != digest:
        raise DigestMismatchError("not the file that was just written", where="request", expected=digest, got=got)
    return content


def _finding(digest: str) -> Finding:
    return Finding(
        id=FINDING_ID,
        severity=Severity.MEDIUM,
        severity_rule="code ran from a file while it was loaded, in a sandbox, on a file made here",
        message="unpickling a cache file ran the code inside it",
        location="cache.pkl",
        evidence={"canary": CANARY_TEXT, "sha256": digest},
        taxonomy=("CWE-502", "BANDIT-B301"),
        remediation="keep caches as JSON and weights as safetensors",
        reproduce=f"{UNSAFE_SWITCH}=1 secure-ai run",
        planted=True,
    )
