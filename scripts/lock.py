"""Resolve pyproject.toml into two lock files with hashes: what a run needs, and what tests need on top.

torch is left out (its CPU and CUDA wheels have different hashes; requirements-torch.txt holds its version), but what
every build of torch needs is locked, so that installing torch brings nothing that is not pinned.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP_TOOLS = "pip-tools==7.6.2"
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
EDITABLE_NEEDS = ("editables",)  # what hatchling asks for when it installs a checkout in place
OPTIONS = (
    "-q",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-options",
    "--strip-extras",
    "--unsafe-package=torch",
)


def core_requirements(project: dict[str, dict[str, list[str]]]) -> list[str]:
    """Every dependency of the package but torch, and what building it in place needs."""
    named = [text for text in project["project"]["dependencies"] if not re.match(r"torch\b", text)]
    return [*named, *project["build-system"]["requires"], *TORCH_NEEDS, *EDITABLE_NEEDS]


def compile_lock(python: Path, folder: Path, source: str, lines: list[str], lock: str) -> None:
    """Write `lock` beside this project from `lines`; run in `folder`, so that no path of this machine gets into it."""
    (folder / source).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / lock).write_bytes((ROOT / lock).read_bytes() if (ROOT / lock).exists() else b"")
    environment = {**os.environ, "CUSTOM_COMPILE_COMMAND": "scripts/lock"}
    command = [str(python), "-m", "piptools", "compile", *OPTIONS, "-o", lock, source]
    subprocess.run(command, cwd=folder, env=environment, check=True)  # our own list, no shell
    text = (folder / lock).read_text(encoding="utf-8").replace(f"-r {source}", "secure-ai")
    (ROOT / lock).write_text(text, encoding="utf-8")


def main() -> None:
    """Make a throw-away environment with pip-tools and compile both locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "tools", with_pip=True)
        python = folder / "tools" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-qq", PIP_TOOLS], check=True)  # our own list
        compile_lock(python, folder, "core.in", core_requirements(project), "requirements.lock")
        dev = ["-c requirements.lock", *project["dependency-groups"]["dev"]]
        compile_lock(python, folder, "dev.in", dev, "requirements-dev.lock")


if __name__ == "__main__":
    main()
