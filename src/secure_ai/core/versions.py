"""Versions of what results depend on, without importing any of it."""

from __future__ import annotations

from importlib import metadata

DEPENDENCIES = (
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "h5py",
    "pydantic",
    "cyclopts",
    "matplotlib",
    "bandit",
    "keras",
)


def versions() -> dict[str, str]:
    """Installed version by package; `not installed` where there is none."""
    return {name: _version(name) for name in DEPENDENCIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
