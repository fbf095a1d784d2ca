"""What a child gives up before it reads hostile bytes, and what the machine could not take from it."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import secure_ai
from secure_ai.files.sandbox.landlock import restrict_files
from secure_ai.files.sandbox.limits import forbid_processes
from secure_ai.files.sandbox.linux import PR_SET_NO_NEW_PRIVS, drop_capabilities, prctl
from secure_ai.files.sandbox.seccomp import filter_calls

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/proc/cpuinfo", "/sys/devices/system/cpu")
LAYERS = ("no_new_privs", "capabilities", "landlock", "seccomp")


@dataclass(frozen=True, slots=True)
class Layer:
    """One means of the kernel's: in force or not, and its version or why not."""

    state: Literal["enforced", "missing"]
    reason: str

    @property
    def enforced(self) -> bool:
        """Whether it is in force."""
        return self.state == "enforced"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What confined a child while it read hostile bytes.

    Attributes:
        no_new_privs: no program it starts gets more rights than it has.
        capabilities: root's powers are gone.
        landlock: it reads Python's library folders and its own folder, and writes its own folder only.
        seccomp: no sockets, no other processes' memory, no new processes or programs, no signals to others.
    """

    no_new_privs: Layer
    capabilities: Layer
    landlock: Layer
    seccomp: Layer

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not in force: `name: reason`."""
        return tuple(f"{name}: {getattr(self, name).reason}" for name in LAYERS if not getattr(self, name).enforced)

    def as_json(self) -> dict[str, dict[str, str]]:
        """By layer, `state` and `reason`."""
        layers = {name: getattr(self, name) for name in LAYERS}
        return {name: {"state": layer.state, "reason": layer.reason} for name, layer in layers.items()}


def confinement_from(content: Any) -> Confinement | None:
    """The value that `as_json` wrote; None for anything else."""
    if not isinstance(content, Mapping) or set(content) != set(LAYERS):
        return None
    layers = {}
    for name, said in content.items():
        if not isinstance(said, Mapping) or set(said) != {"state", "reason"} or not isinstance(said["reason"], str):
            return None
        if said["state"] not in ("enforced", "missing"):
            return None
        layers[name] = Layer(said["state"], said["reason"])
    return Confinement(**layers)


def confine(private: Path) -> Confinement:
    """In the child: give up everything that reading a file does not need, for good. Never raises.

    Args:
        private: the one folder that may be written.
    """
    unless = _unless_alone()  # the first three bind the calling thread, and threads that it starts later
    no_new_privs = _layer(unless, lambda: prctl(PR_SET_NO_NEW_PRIVS, 1))
    landlock = _layer(unless, lambda: f"ABI {restrict_files(readable=readable_paths(), private=private)}")
    capabilities = _layer(unless, drop_capabilities)
    seccomp = _layer("", filter_calls)
    if not seccomp.enforced:
        forbid_processes()
    return Confinement(no_new_privs, capabilities, landlock, seccomp)


def readable_paths() -> list[Path]:
    """What a child may read: code and the processor's description, and nobody's data."""
    python = [os.path.dirname(os.__file__), *site.getsitepackages(), os.path.dirname(secure_ai.__file__)]
    # A module that is imported late opens the C libraries it needs; torch chooses its kernels by the processor.
    return [Path(path) for path in (*python, f"{sys.base_prefix}/lib", *_SYSTEM)]


def _unless_alone() -> str:
    """Empty if this process has one thread; else why a means that binds one thread does not bind the process."""
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return "the number of threads is unknown: no /proc"
    return "" if threads == 1 else f"{threads} threads were running before"


def _layer(unless: str, apply: Callable[[], object]) -> Layer:
    try:
        result = apply()
    except OSError as error:
        return Layer("missing", error.strerror or str(error))
    return Layer("missing", unless) if unless else Layer("enforced", result if isinstance(result, str) else "")
