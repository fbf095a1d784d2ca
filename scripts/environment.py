"""Make or reuse `.venv`: everything from the lock with hashes, then torch, then this project. Standard library only.

A finished part is marked by a stamp inside `.venv`, written last; an install that was cut off has none and is done
again. The stamp holds a digest of the locks, of pyproject.toml and of the folder, so a changed lock or a moved checkout
shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXIT_ENVIRONMENT = 3
CORE_FILES = ("requirements.lock", "requirements-torch.txt", "pyproject.toml")
DEV_FILES = (*CORE_FILES, "requirements-dev.lock")
PIP = ("-I", "-m", "pip", "install", "-qq", "--no-input", "--no-user", "--disable-pip-version-check")
LOCKED = ("--only-binary=:all:", "--require-hashes", "-r")

Runner = Callable[[Sequence[str]], None]


class SetupError(Exception):
    """Something that the user must mend: no venv module, no network, a full disk."""


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"secure-ai: {text}\n")
    sys.stderr.flush()


def digest(root: Path, names: Sequence[str]) -> str:
    """SHA-256 over the files, the folder they are in, and nothing else."""
    total = hashlib.sha256(str(root).encode())
    for name in names:
        total.update(hashlib.sha256((root / name).read_bytes()).digest())
    return total.hexdigest()


def run_command(command: Sequence[str]) -> None:
    """Run it, its errors shown. Raises SetupError when it fails."""
    environment = {**os.environ, "PIP_USER": "0"}
    result = subprocess.run(command, env=environment, check=False)  # our own list, no shell
    if result.returncode:
        raise SetupError(f"this command failed ({result.returncode}): {' '.join(command)}")


def stamp_matches(stamp: Path, wanted: str) -> bool:
    """Whether the part that `stamp` marks is finished and belongs to the files as they are now."""
    try:
        return stamp.read_text(encoding="ascii") == wanted
    except (OSError, UnicodeDecodeError):
        return False


def write_stamp(stamp: Path, content: str) -> None:
    """Mark a part as finished, whole or not at all."""
    temporary = stamp.with_suffix(".tmp")
    temporary.write_text(content, encoding="ascii")
    temporary.replace(stamp)


def base_python() -> str:
    """The interpreter to make `.venv` from; never the one inside it."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def usable(venv: Path, *, version: str) -> bool:
    """Whether the interpreter in `.venv` starts; with `version` (such as `3.12`) also whether it is that one."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(  # our own interpreter
            [str(venv / "bin" / "python"), "-I", "-c", question], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return answer.returncode == 0 and version in ("", answer.stdout.strip())


def install_core(root: Path, run: Runner) -> None:
    """A new `.venv` with the locked packages, torch and this project."""
    python = str(root / ".venv" / "bin" / "python")
    say("making .venv (once; it is reused while the lock is unchanged)")
    run([base_python(), "-I", "-m", "venv", "--clear", str(root / ".venv")])
    say("1/3 packages of requirements.lock, each checked against its hash")
    run([python, *PIP, *LOCKED, str(root / "requirements.lock")])
    say("2/3 torch (on Linux a plain one is the CUDA build, several GB)")
    run([python, *PIP, "--only-binary=:all:", "-c", str(root / "requirements-torch.txt"), "torch"])
    say("3/3 secure-ai")
    run([python, *PIP, "--no-deps", "--no-build-isolation", "-e", str(root)])


def install_dev(root: Path, run: Runner) -> None:
    """What tests and checks need, on top of the core."""
    say("packages of requirements-dev.lock, each checked against its hash")
    run([str(root / ".venv" / "bin" / "python"), *PIP, *LOCKED, str(root / "requirements-dev.lock")])


def ensure(root: Path, *, dev: bool, version: str = "", run: Runner = run_command) -> bool:
    """Make `.venv` match the locks; call it under the lock of `root`.

    Args:
        root: the project's folder.
        dev: also what tests need.
        version: the Python that the user asked for by name, such as `3.12`; empty: any that is there.
        run: starts a command; raises SetupError when it fails.

    Returns:
        Whether anything was installed.
    """
    started, installed = time.monotonic(), False
    core, extra = root / ".venv" / ".secure-ai-core", root / ".venv" / ".secure-ai-dev"
    wanted_core, wanted_dev = digest(root, CORE_FILES), digest(root, DEV_FILES)
    if not (stamp_matches(core, wanted_core) and usable(root / ".venv", version=version)):
        core.unlink(missing_ok=True)
        install_core(root, run)
        write_stamp(core, wanted_core)
        installed = True
    if dev and not stamp_matches(extra, wanted_dev):
        install_dev(root, run)
        write_stamp(extra, wanted_dev)
        installed = True
    if installed:
        say(f"ready in {time.monotonic() - started:.0f} s")
    return installed


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 ready, 3 the environment failed, 130 interrupted."""
    version = "{}.{}".format(*sys.version_info[:2]) if os.environ.get("PYTHON") else ""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another script is making .venv; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        ensure(ROOT, dev="--dev" in arguments, version=version)
    except (SetupError, OSError) as error:
        say(str(error))
        say("is the package index reachable, the disk not full, and Python's venv module installed?")
        return EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        say("interrupted; the next start begins the unfinished part again")
        return 130
    finally:
        os.close(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
