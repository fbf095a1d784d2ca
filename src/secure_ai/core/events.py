"""Hash-chained event log: each record carries the digest of the one before it, so an edit or a gap shows.

The chain alone does not show a cut tail or a log that was replaced whole; only a copy of the last digest kept elsewhere
does (`run.json` holds one).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_ai.core.errors import EnvironmentFailedError, FileMissingError, LogError

EventSink = Callable[[str, Mapping[str, Any]], None]
GENESIS = "0" * 64
MAX_LOG_BYTES = 256 * 1024 * 1024


def ignore_event(kind: str, data: Mapping[str, Any]) -> None:
    """The sink for callers that keep no log."""


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no spaces, ASCII only (control characters cannot break a line)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChainState:
    """How many records a log holds, and the digest of its last one."""

    records: int
    digest: str


def verify_log(path: Path) -> ChainState:
    """Check sequence numbers and chain of the log at `path`.

    Raises:
        FileMissingError: there is no such log.
        LogError: it cannot be read or is too large, or a record is malformed, out of order or does not follow from the
            one before; the message names the line.
    """
    state = ChainState(0, GENESIS)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:  # noqa: PTH123  # a descriptor, not a path
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_LOG_BYTES:
                expected = f"a regular file of at most {MAX_LOG_BYTES} bytes"
                raise LogError("not a log that can be read", where=path.name, expected=expected)
            for number, line in enumerate(stream, start=1):
                state = _next_state(state, line, f"{path.name} line {number}")
    except FileNotFoundError:
        raise FileMissingError("there is no such log", where=path.name, expected="the events.jsonl of a run") from None
    except OSError as error:
        raise LogError("the log cannot be read", where=path.name, got=error.strerror) from None
    return state


def _next_state(state: ChainState, line: bytes, where: str) -> ChainState:
    """Only the one spelling that `EventLog` writes: no key twice, no space, no number written in another way."""
    try:
        record = json.loads(line)
        canonical = line == (canonical_json(record) + "\n").encode()
        digest = record.pop("digest")
        expected = {"seq": state.records + 1, "previous": state.digest}
        actual = {"seq": record["seq"], "previous": record["previous"]}
        own = _digest(record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise LogError("a record is malformed", where=where, expected="one JSON object a line") from None
    if not canonical:
        raise LogError("a record is not written as this tool writes it", where=where, expected="canonical JSON")
    if type(record["seq"]) is not int or actual != expected or digest != own:
        raise LogError("the chain is broken", where=where, expected=expected, got=actual | {"digest": digest})
    return ChainState(state.records + 1, digest)


class EventLog:
    """Appends to the log at `path`; call it as an `EventSink`. A log that does not verify is refused, never continued.

    Raises:
        LogError: the existing log is broken.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._state = verify_log(path) if path.exists() else ChainState(0, GENESIS)

    @property
    def state(self) -> ChainState:
        """Length and last digest."""
        return self._state

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append one record and flush it to disk. Raises EnvironmentFailedError when the disk refuses."""
        record: dict[str, Any] = {
            "seq": self._state.records + 1,
            "time": round(self._clock(), 3),
            "kind": kind,
            "data": dict(data),
            "previous": self._state.digest,
        }
        digest = _digest(record)
        line = (canonical_json(record | {"digest": digest}) + "\n").encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                if os.write(descriptor, line) != len(line):
                    os.ftruncate(descriptor, size)  # half a record would make the whole log unreadable
                    raise OSError(errno.ENOSPC, "short write")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise EnvironmentFailedError("the event log cannot be written", where=self._path.name, got=error) from None
        self._state = ChainState(record["seq"], digest)
