"""The environment script: what it installs, in which order, and when it does so again. Nothing is really installed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = _load("environment")


class Installer:
    """Stands in for venv and pip: notes the commands, makes a `.venv` whose python is a link to this one."""

    def __init__(self, root: Path, fail_at: str = "") -> None:
        self.root, self.fail_at, self.commands = root, fail_at, list[str]()

    def __call__(self, command: Sequence[str]) -> None:
        text = " ".join(command).replace(str(self.root), "ROOT")
        if self.fail_at and self.fail_at in text:
            raise environment.SetupError("cut off")
        self.commands.append(text)
        if " venv " in text:
            (self.root / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
            for stamp in (self.root / ".venv").glob(".secure-ai-*"):
                stamp.unlink()
            python = self.root / ".venv" / "bin" / "python"
            python.unlink(missing_ok=True)
            python.symlink_to(sys.executable)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in environment.DEV_FILES:
        (tmp_path / name).write_text(f"# {name}\n", encoding="utf-8")
    return tmp_path


def ensure(project: Path, *, dev: bool, fail_at: str = "", version: str = "") -> list[str]:
    installer = Installer(project, fail_at)
    environment.ensure(project, dev=dev, run=installer, version=version)
    return installer.commands


def test_the_locked_packages_come_first_with_hashes_then_torch_then_the_project(project: Path) -> None:
    commands = ensure(project, dev=False)
    assert len(commands) == 4
    assert "venv --clear ROOT/.venv" in commands[0]
    assert "--require-hashes -r ROOT/requirements.lock" in commands[1]
    assert commands[2].endswith("-c ROOT/requirements-torch.txt torch")
    assert "--no-deps --no-build-isolation -e ROOT" in commands[3]
    assert all("--only-binary=:all:" in command for command in commands[1:3])


def test_tests_add_the_dev_lock_and_nothing_is_done_twice(project: Path) -> None:
    ensure(project, dev=False)
    (only,) = ensure(project, dev=True)
    assert "--require-hashes -r ROOT/requirements-dev.lock" in only
    assert ensure(project, dev=True) == []
    assert ensure(project, dev=False) == []


@pytest.mark.parametrize("name", environment.CORE_FILES)
def test_a_changed_lock_makes_everything_again(project: Path, name: str) -> None:
    ensure(project, dev=True)
    (project / name).write_text("changed", encoding="utf-8")
    assert len(ensure(project, dev=True)) == 5
    assert ensure(project, dev=True) == []


def test_a_changed_dev_lock_keeps_the_rest(project: Path) -> None:
    ensure(project, dev=True)
    (project / "requirements-dev.lock").write_text("changed", encoding="utf-8")
    assert ensure(project, dev=False) == []
    assert len(ensure(project, dev=True)) == 1


@pytest.mark.parametrize("fail_at", [" venv ", "requirements.lock", "requirements-torch.txt", "-e ROOT"])
def test_an_install_that_was_cut_off_is_not_taken_for_a_finished_one(project: Path, fail_at: str) -> None:
    with pytest.raises(environment.SetupError):
        ensure(project, dev=False, fail_at=fail_at)
    assert len(ensure(project, dev=False)) == 4


def test_a_changed_lock_whose_install_was_cut_off_is_done_again(project: Path) -> None:
    ensure(project, dev=True)
    before = (project / "requirements.lock").read_bytes()
    (project / "requirements.lock").write_text("changed", encoding="utf-8")
    with pytest.raises(environment.SetupError):
        ensure(project, dev=True, fail_at="requirements.lock")
    (project / "requirements.lock").write_bytes(before)
    assert len(ensure(project, dev=True)) == 5, "the half-made .venv was taken for the old finished one"


def test_a_moved_checkout_and_a_broken_interpreter_are_noticed(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ensure(project, dev=False)
    moved = tmp_path_factory.mktemp("moved") / "here"
    project.rename(moved)
    assert len(ensure(moved, dev=False)) == 4
    (moved / ".venv" / "bin" / "python").unlink()
    assert len(ensure(moved, dev=False)) == 4


def test_another_python_asked_for_by_name_makes_it_again(project: Path) -> None:
    own = "{}.{}".format(*sys.version_info[:2])
    ensure(project, dev=False)
    assert ensure(project, dev=False, version=own) == []
    assert len(ensure(project, dev=False, version="3.99")) == 4


def test_two_at_once_wait_for_each_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0

    def watched(root: Path, **_: object) -> bool:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.05)
        inside -= 1
        return False

    monkeypatch.setattr(environment, "ROOT", project)
    monkeypatch.setattr(environment, "ensure", watched)
    threads = [threading.Thread(target=environment.main, args=([],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize(
    ("failure", "code"),
    [(environment.SetupError("pip failed"), 3), (OSError("disk full"), 3), (KeyboardInterrupt(), 130)],
)
def test_failures_have_their_exit_code_and_no_traceback(
    failure: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(root: Path, **_: object) -> bool:
        raise failure

    monkeypatch.setattr(environment, "ensure", broken)
    assert environment.main([]) == code
    assert "secure-ai: " in capsys.readouterr().err


def test_a_command_that_fails_is_an_error() -> None:
    run: Callable[[Sequence[str]], None] = environment.run_command
    run([sys.executable, "-c", ""])
    with pytest.raises(environment.SetupError, match=r"failed \(7\)"):
        run([sys.executable, "-c", "raise SystemExit(7)"])


@pytest.mark.parametrize("script", ["run", "test", "check", "bench"])
def test_scripts_are_executable_and_portable(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert subprocess.run(["/bin/sh", "-n", path], check=False).returncode == 0


def test_a_python_that_does_not_fit_is_refused_by_name() -> None:
    result = subprocess.run(
        [ROOT / "scripts" / "run"], env={"PATH": os.environ["PATH"], "PYTHON": "/bin/false"},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert result.returncode == 3
    assert "needs Python 3.11" in result.stderr
    assert "/bin/false" in result.stderr


def test_bench_without_a_name_lists_and_with_an_unknown_one_says_so() -> None:
    listed = subprocess.run([ROOT / "scripts" / "bench"], capture_output=True, text=True, check=False, timeout=30)
    assert (listed.returncode, "usage" in listed.stdout) == (0, True)
    unknown = subprocess.run(
        [ROOT / "scripts" / "bench", "../x"], capture_output=True, text=True, check=False, timeout=30
    )
    assert unknown.returncode == 2


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_with_hashes_and_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    packages = re.split(r"\n(?=[a-z0-9])", text[text.index("\n#\n") + 3 :])
    packages = [package for package in packages if re.match(r"[a-z0-9]", package)]
    assert len(packages) > 20
    unpinned = [p.split("\n")[0] for p in packages if not re.match(r"[a-z0-9._-]+==[\w.]+ \\\n +--hash=sha256:", p)]
    assert unpinned == []
    assert not re.search(r"://|file:|--index|--find-links|^-", text, flags=re.MULTILINE)


def test_torch_is_the_only_package_without_hashes() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^torch==", locked, flags=re.MULTILINE)
    for needed in ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions", "hatchling"):
        assert re.search(rf"^{needed}==", locked, flags=re.MULTILINE), (
            f"torch or the build would pull {needed} unpinned"
        )
    pinned = (ROOT / "requirements-torch.txt").read_text(encoding="utf-8")
    assert re.search(r"^torch==2\.\d+\.\d+$", pinned, flags=re.MULTILINE)
