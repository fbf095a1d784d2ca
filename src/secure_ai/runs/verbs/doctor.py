"""The verb `doctor`: what this installation can do on this machine, and what to do where it cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import secure_ai
from secure_ai.core.compute import choose_device, configure, device_name
from secure_ai.core.errors import SecureAIError
from secure_ai.core.machine import available_cores, cpu_name
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.core.versions import versions
from secure_ai.data.idx_folder import FILES
from secure_ai.data.mnist import cache_folder
from secure_ai.files.sandbox.probe import sandbox_report

Status = Literal["ok", "note", "problem"]
OLDEST_TORCH = (2, 10)
EXTRAS = {"art": ("art", "attacks of ART by name, art:NAME")}
"""Extra -> (module that it brings, what it is for)."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at.

    Attributes:
        status: `ok`; `note`: all works, something could be better; `problem`: something will not work.
        found: what is there.
        todo: what to do about it; empty where nothing is to be done.
    """

    id: str
    status: Status
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `doctor` found, in the order looked at."""

    examined: tuple[Examined, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return all(one.status != "problem" for one in self.examined)

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai doctor --json`."""
        rows = [{"id": e.id, "status": e.status, "found": e.found, "todo": e.todo} for e in self.examined]
        return {"schema_version": SCHEMA_VERSION, "healthy": self.healthy, "checks": rows}


def doctor() -> Diagnosis:
    """Look at versions, device, precision, threads, the MNIST cache, the sandbox and the extras; changes nothing."""
    looks: tuple[Callable[[], Examined], ...] = (_versions, _device, _precision, _threads, _cache, _sandbox)
    return Diagnosis((*(look() for look in looks), *(_extra(name) for name in EXTRAS)))


def _versions() -> Examined:
    every = versions()
    told = ", ".join(f"{name} {version}" for name, version in every.items())
    found = f"secure-ai {secure_ai.__version__}, Python {platform.python_version()}, {told}"
    missing = [name for name, version in every.items() if version == "not installed"]
    if missing:
        return Examined("versions", "problem", found, f"install {', '.join(missing)}: ./scripts/run, or pip install .")
    numbers = tuple(int(part) for part in every["torch"].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_TORCH:
        return Examined("versions", "problem", found, "torch 2.10 or later: older ones load files unsafely")
    return Examined("versions", "ok", found)


def _device() -> Examined:
    chosen = choose_device("auto")
    if chosen.type == "cpu":
        return Examined("device", "ok", f"cpu: {cpu_name()}", "for a GPU: an NVIDIA driver and a CUDA build of torch")
    return Examined("device", "ok", device_name(chosen), "--device cpu for results that other machines repeat")


def _precision() -> Examined:
    dtype = str(configure("auto", "auto").training_dtype).removeprefix("torch.")
    slow = "training is slower without bfloat16 units; attacks are float32 everywhere" if dtype == "float32" else ""
    return Examined("precision", "ok", f"attacks float32, training {dtype}", slow)


def _threads() -> Examined:
    cores, asked = available_cores(), os.environ.get("OMP_NUM_THREADS", "")
    try:
        configure()
    except SecureAIError as error:
        return Examined("threads", "problem", f"OMP_NUM_THREADS={asked}", f"set it to {error.expected}, or unset it")
    if asked and int(asked) > cores:
        return Examined("threads", "note", f"{asked} threads for {cores} cores", "unset OMP_NUM_THREADS")
    return Examined("threads", "ok", f"{asked or cores} of {cores} cores")


def _cache() -> Examined:
    try:
        folder = cache_folder()
        missing = [name for names in FILES.values() for name in names if not (folder / name).is_file()]
    except (SecureAIError, OSError) as error:
        return Examined("mnist", "problem", f"no cache: {error}", "set XDG_CACHE_HOME to a folder you may write to")
    if missing:
        return Examined("mnist", "note", f"not in {folder}", "secure-ai data fetch")
    return Examined("mnist", "ok", str(folder))


def _sandbox() -> Examined:
    try:
        report = sandbox_report()
    except SecureAIError as error:
        return Examined("sandbox", "problem", error.message, "docs/sandbox.md; attack and run read no model file in it")
    tried = f"{len(report.tried) - len(report.allowed)} of {len(report.tried)} attempts to get out were denied"
    if report.allowed:
        todo = "docs/sandbox.md says what the kernel needs; --require-sandbox refuses to read files meanwhile"
        return Examined("sandbox", "note", f"{tried}; allowed: {', '.join(report.allowed)}", todo)
    return Examined("sandbox", "ok", tried)


def _extra(name: str) -> Examined:
    module, purpose = EXTRAS[name]
    if importlib.util.find_spec(module) is None:
        return Examined(
            f"extra {name}", "note", f"not installed: {purpose}", f"pip install '.[{name}]' in the source folder"
        )
    return Examined(f"extra {name}", "ok", purpose)
