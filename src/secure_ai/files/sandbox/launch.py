"""Work that needs heavy or fragile libraries on foreign bytes runs in a child process, confined, and dies alone.

The child gets bytes on its standard input and answers bytes on its standard output; nothing it says is unpickled. It
runs isolated (`python -I`: no PYTHON* variables, no current folder on the path), with limits on memory, processor time,
file size and open files, in an empty temporary folder, and is killed with its whole process group when the time is up,
when it answers too much, or when its parent dies. Before it reads its request it gives up what `confine` lists, and
says first what the machine could not take from it.

The child is started as `python -m secure_ai.files.sandbox MODULE ...`, which sets the limits and then runs MODULE.
Linux only: limits, confinement and the signal on the parent's death are the kernel's.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess  # starts only this Python, with a fixed list of arguments
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from secure_ai.core.errors import (
    EXIT_BAD_INPUT,
    ChildFailedError,
    EnvironmentFailedError,
    JsonError,
    SandboxError,
    SecureAIError,
)
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.jsons import parse_json
from secure_ai.files.sandbox.child import ALLOW, ANSWER_MAGIC, REQUIRE
from secure_ai.files.sandbox.confine import Confinement, confinement_from

_PACKAGE = "secure_ai."
_HEAD_BYTES = len(ANSWER_MAGIC) + 8
_MAX_CONFINEMENT_BYTES = 4096
_MAX_STDERR_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """What a child answered, and what confined it while it read its request."""

    content: bytes
    confinement: Confinement


class _Policy:
    """Whether every child of this process must be confined.

    Of the process and not an argument that is passed on: a reader that forgets to pass it on would fail open.
    """

    required = False


@contextlib.contextmanager
def sandbox_required(required: bool = True) -> Iterator[None]:
    """Within it, a child that the machine cannot confine reads nothing and raises SandboxError, in every thread."""
    before = _Policy.required
    _Policy.required = before or required
    try:
        yield
    finally:
        _Policy.required = before


@dataclass(slots=True)
class _Streams:
    """What the child has said so far."""

    answer: bytearray
    errors: bytearray


def run_child(
    module: str,
    request: bytes,
    *,
    timeout_s: float,
    max_answer_bytes: int,
    max_memory_bytes: int,
    max_file_bytes: int = 0,
    require: bool = False,
    events: EventSink = ignore_event,
) -> ChildAnswer:
    """Run `python -m module` of this package on `request`; the module answers through `answer_request`.

    Args:
        module: a module of this package.
        timeout_s: wall-clock seconds until the process group is killed.
        max_answer_bytes: a longer answer is refused while it is read.
        max_memory_bytes: limit on the child's address space.
        max_file_bytes: limit on the size of any file the child writes; 0: it writes none.
        require: refuse to read the request where a layer of the confinement is missing; see also `sandbox_required`.
        events: told `child_confined` with the module and the confinement.

    Raises:
        SandboxError: a layer is missing, and `require` or `sandbox_required` is set.
        SecureAIError: the one that the child's work raised, by its code.
        ChildFailedError: it died, timed out, answered too much, or out of form.
        EnvironmentFailedError: the child could not be started.
    """
    if not module.startswith(_PACKAGE):
        raise ChildFailedError("not a module of this package", where=module, expected=_PACKAGE)
    require = require or _Policy.required
    limits = [str(max_memory_bytes), str(int(timeout_s) + 1), str(max_file_bytes), str(os.getpid())]
    words = [module, *limits, REQUIRE if require else ALLOW]
    command = [sys.executable, "-I", "-B", "-X", "utf8", "-m", "secure_ai.files.sandbox", *words]
    try:
        with tempfile.TemporaryDirectory(prefix="secure-ai-child-") as folder, _request_file(request) as stdin:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
            try:
                most = max_answer_bytes + _HEAD_BYTES + _MAX_CONFINEMENT_BYTES
                streams = _listen(process, module, time.monotonic() + timeout_s, most)
            finally:
                _kill_group(process)
    except OSError as error:
        raise EnvironmentFailedError("the child cannot be started", where=module, got=error.strerror) from None
    confinement = _take_confinement(streams.answer)
    if confinement is not None:
        events("child_confined", {"module": module, "confinement": confinement.as_json()})
    content = _judge(module, process.returncode, streams, max_answer_bytes)
    if confinement is None:
        raise ChildFailedError("the child does not say how it is confined", where=module)
    if require and confinement.missing:
        raise SandboxError("the child was not confined", where=module, got="; ".join(confinement.missing))
    return ChildAnswer(content, confinement)


def _environment(folder: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": folder,
        "TMPDIR": folder,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


@contextlib.contextmanager
def _request_file(request: bytes) -> Iterator[IO[bytes]]:
    """The request as a file in memory: no thread has to feed a pipe, and none can block on one."""
    with os.fdopen(os.memfd_create("secure-ai-request"), "w+b") as stream:
        stream.write(request)
        stream.seek(0)
        yield stream


def _listen(process: subprocess.Popen[bytes], module: str, deadline: float, max_bytes: int) -> _Streams:
    streams = _Streams(bytearray(), bytearray())
    with selectors.DefaultSelector() as selector:
        for pipe, sink, most in (
            (process.stdout, streams.answer, max_bytes),
            (process.stderr, streams.errors, _MAX_STDERR_BYTES),
        ):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, (sink, most))
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                raise ChildFailedError("the child did not finish in time", where=module)
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                sink, most = key.data
                if not chunk:
                    selector.unregister(key.fileobj)
                elif sink is streams.answer and len(sink) + len(chunk) > most:
                    raise ChildFailedError("the child answers too much", where=module, expected=f"<= {most} bytes")
                sink += chunk
                del sink[:-most]
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            raise ChildFailedError("the child did not finish in time", where=module)
        time.sleep(_POLL_S)
    return streams


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the child and of processes it started; collect it, so that no zombie stays.

    In this order: until the child is collected, its number cannot become another process's.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _take_confinement(answer: bytearray) -> Confinement | None:
    """Cut what `answer_request` says first off the answer. It was said before the request was read."""
    end = 4 + int.from_bytes(answer[:4], "little")
    if not 4 < end <= min(len(answer), _MAX_CONFINEMENT_BYTES):
        return None
    try:
        confinement = confinement_from(parse_json(bytes(answer[4:end]), where="confinement", max_depth=3))
    except JsonError:
        return None
    del answer[:end]
    return confinement


def _judge(module: str, status: int, streams: _Streams, max_bytes: int) -> bytes:
    if status == EXIT_BAD_INPUT:
        raise _error_of(streams.errors, module)
    if status != 0:
        last = streams.errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        reason = f"signal {-status}" if status < 0 else f"status {status}: {last}"
        raise ChildFailedError("the child failed", where=module, expected="status 0", got=reason)
    head, answer = streams.answer[:_HEAD_BYTES], bytes(streams.answer[_HEAD_BYTES:])
    if len(answer) > max_bytes:
        raise ChildFailedError("the child answers too much", where=module, expected=f"<= {max_bytes} bytes")
    if head != ANSWER_MAGIC + len(answer).to_bytes(8, "little"):
        raise ChildFailedError("the child's answer is cut or out of form", where=module, got=f"{len(answer)} bytes")
    return answer


def _error_of(errors: bytearray, module: str) -> SecureAIError:
    """The error that the child reports in its last line. Only a class of ours, with text, can come out of it."""
    line = bytes(errors).rstrip(b"\n").rpartition(b"\n")[2]
    try:
        said = parse_json(line, where=module, max_depth=2)
    except JsonError:
        said = None
    classes = {kind.code: kind for kind in SecureAIError.__subclasses__()}
    if not isinstance(said, dict) or said.get("code") not in classes:
        return ChildFailedError("the child failed", where=module, got=line[:200].decode("utf-8", "replace"))
    parts = {name: said.get(name, "") for name in ("where", "expected", "got", "hint")}
    return classes[said["code"]](str(said.get("message", "")), **parts)
