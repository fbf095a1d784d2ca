"""The sample report, importable although test folders are no packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    """The module `sample_report.py` beside this file."""
    specification = importlib.util.spec_from_file_location(
        "sample_report", Path(__file__).with_name("sample_report.py")
    )
    if specification is None or specification.loader is None:
        raise ImportError("sample_report.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def report(sample: ModuleType) -> dict[str, Any]:
    """A fresh sample report."""
    content: dict[str, Any] = sample.build()
    return content
