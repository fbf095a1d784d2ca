"""The sample report of `tests/report`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    """The module `tests/report/sample_report.py`."""
    file = Path(__file__).parent.parent / "report" / "sample_report.py"
    specification = importlib.util.spec_from_file_location("sample_report", file)
    if specification is None or specification.loader is None:
        raise ImportError(file.name)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def report(sample: ModuleType) -> dict[str, Any]:
    """A fresh sample report."""
    content: dict[str, Any] = sample.build()
    return content
