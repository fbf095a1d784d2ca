"""The child that tries what a broken parser would try, and tells what the kernel let it do. Run by `probe`.

Every attempt is harmless where it succeeds: it touches the probe's own folder, and neither stops nor changes a process.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess  # starts only /bin/sh, with a fixed list of arguments
from collections.abc import Callable, Mapping
from pathlib import Path

from secure_ai.files.jsons import parse_json
from secure_ai.files.sandbox.child import answer_request

SECRET, SPARE, NEW = "secret", "spare", "new"  # files of the probe's folder: there, there to be removed, not there
_DENIED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAGAIN)  # the last by a limit of no processes
_PTRACE_SEIZE = 0x4206  # attaches without stopping; the kernel detaches when this process ends
_ANY_PORT = 9

Attempt = Callable[[Path, int], object]  # (folder outside, process id of another) -> nothing, or OSError


def _write(folder: Path, other: int) -> None:
    os.close(os.open(folder / NEW, os.O_WRONLY | os.O_CREAT, 0o600))


def _copy_memory(folder: Path, other: int) -> None:
    here = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)
    remote = (ctypes.c_size_t * 2)(0, 8)  # address 0 holds nothing: EFAULT where it may look
    _call("process_vm_readv", other, local, 1, remote, 1, 0)


def _trace(folder: Path, other: int) -> None:
    _call("ptrace", _PTRACE_SEIZE, other, None, None)


def _shared_memory(folder: Path, other: int) -> None:
    _call("shmget", 0x5EC0DE, 8, 0)  # no such segment: ENOENT where it may look


def _call(function: str, *arguments: object) -> None:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _shell(folder: Path, other: int) -> None:
    subprocess.run(["/bin/sh", "-c", "exit 0"], check=False)


def _exec(folder: Path, other: int) -> None:
    os.execv(folder / NEW / "none", ["none"])  # noqa: S606  # no such program: it fails in any case


def _leave_the_group(folder: Path, other: int) -> None:
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(0)
    os.waitpid(child, 0)


def _connect(folder: Path, other: int) -> None:
    with socket.socket() as tcp:
        tcp.connect(("127.0.0.1", _ANY_PORT))  # ECONNREFUSED where it may try


def _datagram(folder: Path, other: int) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


# what -> the layers of which each alone denies it, and the attempt
ATTEMPTS: Mapping[str, tuple[tuple[str, ...], Attempt]] = {
    "read a file outside": (("landlock",), lambda folder, other: (folder / SECRET).read_bytes()),
    "list a folder outside": (("landlock",), lambda folder, other: list(folder.iterdir())),
    "write a file outside": (("landlock",), _write),
    "cut a file outside": (("seccomp",), lambda folder, other: os.truncate(folder / SECRET, 1)),
    "remove a file outside": (("landlock",), lambda folder, other: (folder / SPARE).unlink()),
    "change a file's mode": (("seccomp",), lambda folder, other: (folder / SECRET).chmod(0o600)),
    "open the parent's memory": (("landlock",), lambda folder, other: Path(f"/proc/{other}/mem").open("rb").close()),
    "read the parent's environment": (("landlock",), lambda folder, other: Path(f"/proc/{other}/environ").read_bytes()),
    "copy the parent's memory": (("landlock", "seccomp"), _copy_memory),
    "trace the parent": (("landlock", "seccomp"), _trace),
    "signal the parent": (("seccomp",), lambda folder, other: os.kill(other, 0)),
    "run a shell": (("landlock", "seccomp"), _shell),
    "become another program": (("seccomp",), _exec),
    "start a process that escapes the kill": (("seccomp",), _leave_the_group),
    "open a TCP connection": (("seccomp",), _connect),
    "open a UDP socket": (("seccomp",), _datagram),
    "look for shared memory": (("seccomp",), _shared_memory),
}


def try_all(folder: Path, other: int) -> dict[str, str]:
    """Make every attempt.

    Args:
        folder: outside the sandbox, with the files `SECRET` and `SPARE`.
        other: a process outside.

    Returns:
        By attempt, the kernel's reason where it was denied, empty where it was not.
    """
    return {name: _denial(attempt, folder, other) for name, (_, attempt) in ATTEMPTS.items()}


def _denial(attempt: Attempt, folder: Path, other: int) -> str:
    try:
        attempt(folder, other)
    except OSError as error:
        return str(error.strerror) if error.errno in _DENIED else ""
    return ""


def answer(request: bytes) -> bytes:
    """`try_all` as JSON."""
    asked = parse_json(request, where="request")
    return json.dumps(try_all(Path(asked["folder"]), asked["other"])).encode()


if __name__ == "__main__":
    answer_request(answer)
