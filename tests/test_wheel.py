"""What `pip install .` brings: the wheel holds every file that the package reads, and the command."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import secure_ai

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "secure_ai"


def test_the_wheel_holds_the_whole_package_and_its_command(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        held = set(archive.namelist())
        entry_points = archive.read(f"secure_ai-{secure_ai.__version__}.dist-info/entry_points.txt").decode()
    ours = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    assert ours - held == set()
    assert {".toml", ".json", ".j2", ".css", ".typed"} <= {Path(name).suffix for name in ours}
    assert "secure-ai = secure_ai.cli.main:main" in entry_points
    assert not any(name.startswith(("tests/", "benchmarks/", "examples/")) for name in held)
