"""The layers below the command line start without the heavy libraries."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import secure_ai.report
import secure_ai.threats

MODULES = [
    module.name
    for package in (secure_ai.report, secure_ai.threats)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
] + [
    *(f"secure_ai.runs.cases.{case}.{name}" for case in ("report_1", "report_2") for name in ("figures", "threats")),
    "secure_ai.runs.reproduction.reproduction",
]
HEAVY = ("torch", "matplotlib", "jinja2", "scipy", "keras", "PIL", "h5py")


def test_all_modules_are_found() -> None:
    assert {"secure_ai.report.render.html", "secure_ai.report.render.png", "secure_ai.threats.register"} <= set(MODULES)


@pytest.mark.parametrize("heavy", HEAVY)
def test_nothing_heavy_is_imported(heavy: str, loaded: set[str]) -> None:
    assert heavy not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Top-level modules after importing every module of both layers in a fresh interpreter."""
    program = f"import sys, importlib\nfor name in {MODULES!r}: importlib.import_module(name)\nprint(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in answer.stdout.split()}
    assert "secure_ai" in names
    return names
