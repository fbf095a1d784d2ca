"""Landlock: which files this process may open from now on, and no TCP. Source: landlock(7), linux/landlock.h."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from secure_ai.files.sandbox.linux import buffer, system_call

# The three calls have these numbers on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(1, 6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_READ_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
# ABI -> how many rights on files it knows: REFER came with 2, TRUNCATE with 3, IOCTL_DEV with 5.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_SINCE, _TCP = 4, 0b11  # bind, connect
_SCOPES_SINCE, _SCOPES = 6, 0b11  # abstract unix sockets, signals


def landlock_abi() -> int:
    """Version of Landlock that this kernel offers, from 1. Raises OSError where it offers none."""
    return system_call(CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict_files(*, readable: Iterable[Path], private: Path) -> int:
    """Confine the files of this thread, and of threads it starts later, for good. Needs no_new_privs.

    No program can be run, no TCP used (from ABI 4), no process outside signalled (from ABI 6).

    Args:
        readable: files, and folders beneath which files may be read; those that cannot be opened are left out.
        private: the folder beneath which files may be read, written, made and removed.

    Returns:
        The ABI in use.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    abi = landlock_abi()
    handled = (1 << _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]) - 1
    words = [handled, _TCP if abi >= _TCP_SINCE else 0, _SCOPES if abi >= _SCOPES_SINCE else 0]
    words = words[: 1 if abi < _TCP_SINCE else 2 if abi < _SCOPES_SINCE else 3]
    attributes = struct.pack(f"={len(words)}Q", *words)
    ruleset = system_call(CREATE_RULESET, buffer(attributes), len(attributes), 0)
    try:
        for path in readable:
            with contextlib.suppress(OSError):  # not there, or not to be opened by this user: one rule less
                _allow(ruleset, path, _READ if path.is_dir() else _READ_FILE)
        _allow(ruleset, private, _READ_WRITE & handled)
        system_call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        system_call(ADD_RULE, ruleset, _PATH_BENEATH, buffer(struct.pack("=Qi", rights, descriptor)), 0)
    finally:
        os.close(descriptor)
