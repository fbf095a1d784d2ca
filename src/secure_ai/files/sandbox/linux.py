"""System calls that Python's standard library does not wrap. Linux on x86_64 and aarch64 only."""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_NO_NEW_PRIVS = 38


def prctl(option: int, value: int = 0) -> int:
    """Set or read an option of this process. Raises OSError."""
    return _checked(_libc().prctl(option, *(ctypes.c_ulong(v) for v in (value, 0, 0, 0))))


def system_call(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call with whole numbers and buffers. Raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *words))


def buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    """Memory to hand to a system call."""
    return ctypes.create_string_buffer(content, len(content))


def drop_capabilities() -> None:
    """Give up every capability of this thread for good: root keeps its files and loses its powers. Raises OSError."""
    version_3_of_this_thread = (0x20080522).to_bytes(4, "little") + bytes(4)
    _checked(_libc().capset(version_3_of_this_thread, bytes(24)))


def protect_this_process() -> None:
    """Close this process's memory to other processes of the same user, and write no core file (PR_SET_DUMPABLE 0).

    It changes the whole process, debuggers included, so only the command line calls it, never the library.
    """
    if sys.platform == "linux":
        prctl(PR_SET_DUMPABLE, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
