"""Environments of benchmarks, each made once from its own lists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = ("-I", "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check")


def make_environment(folder: Path, stamp: str, files: Sequence[str], installs: Sequence[Sequence[str]]) -> Path:
    """The Python of `folder`; made where missing, and anew when one of `files` changed.

    Args:
        stamp: name of the file that marks a finished environment.
        files: requirement files, relative to the project.
        installs: arguments of `pip install`, one list a call.
    """
    python, mark = folder / "bin" / "python", folder / stamp
    wanted = "".join((ROOT / name).read_text(encoding="utf-8") for name in files) + str(ROOT)
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return python
    print(f"making {folder} (once)", file=sys.stderr)
    subprocess.run([sys.executable, "-I", "-m", "venv", "--clear", str(folder)], check=True)
    for arguments in installs:
        subprocess.run([str(python), *PIP, *arguments], check=True)
    mark.write_text(wanted, encoding="utf-8")
    return python
