"""Atomic writing under injected failures, stale files, and the lock of a folder."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import EXIT_INCONCLUSIVE, EnvironmentFailedError, FileKindError, LockedError, PathEscapeError
from secure_ai.files import write
from secure_ai.files.write import lock_folder, make_folder, remove_stale, write_beneath, write_bytes, write_json


def test_new_and_replaced_content_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"", bytes(3_000_000)):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        write_bytes(tmp_path / "a", b"x", mode=0o444)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444


def failing(code: int, *, at: int = 1) -> Callable[..., Any]:
    calls = 0

    def fail(*_: Any, **__: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise OSError(code, os.strerror(code))

    return fail


def short_then_full(descriptor: int, data: bytes, write_some: Callable[[int, bytes], int] = os.write) -> int:
    """A disk that takes 10 bytes and is full."""
    if os.fstat(descriptor).st_size >= 10:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write_some(descriptor, data[:10])


FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "open-EACCES": ("open", failing(errno.EACCES)),
    "open-EROFS": ("open", failing(errno.EROFS)),
    "write-ENOSPC": ("write", failing(errno.ENOSPC)),
    "write-ENOSPC-after-10-bytes": ("write", short_then_full),
    "write-EDQUOT": ("write", failing(errno.EDQUOT)),
    "write-EFBIG": ("write", failing(errno.EFBIG)),
    "fchmod-EPERM": ("fchmod", failing(errno.EPERM)),
    "fsync-EIO": ("fsync", failing(errno.EIO)),
    "replace-EACCES": ("replace", failing(errno.EACCES)),
    "replace-EXDEV": ("replace", failing(errno.EXDEV)),
}


@pytest.mark.parametrize("existing", [None, b"the old content"], ids=["new", "replacing"])
@pytest.mark.parametrize(("function", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, fault: Callable[..., Any], existing: bytes | None
) -> None:
    path = tmp_path / "a"
    if existing is not None:
        path.write_bytes(existing)
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fault)
        with pytest.raises(EnvironmentFailedError) as caught:
            write_bytes(path, b"new content " * 100)
    assert caught.value.exit_code == EXIT_INCONCLUSIVE
    assert caught.value.got
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if existing is None else ["a"])
    assert existing is None or path.read_bytes() == existing
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_failed_sync_of_the_folder_is_reported_though_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO, at=2))
    with pytest.raises(EnvironmentFailedError):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:7]))
    write_bytes(tmp_path / "a", bytes(range(256)))
    assert (tmp_path / "a").read_bytes() == bytes(range(256))


def test_a_file_size_limit_is_a_disk_error(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from secure_ai.files.write import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_bytes(Path(sys.argv[1]), bytes(5000))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, check=False
    )
    assert "EnvironmentFailedError" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "fifo", "full"])
def test_only_regular_files_are_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": "/etc/hostname", "dangling": "nowhere", "full": "/dev/full"}[kind])
    with pytest.raises(FileKindError):
        write_bytes(path, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_dev_full_itself_is_refused() -> None:
    with pytest.raises(FileKindError):
        write_bytes(Path("/dev/full"), b"x")


def test_missing_and_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailedError):
        write_bytes(tmp_path / "missing" / "a", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentFailedError):
        make_folder(tmp_path / "file" / "inner")
    assert make_folder(tmp_path / "x" / "y").is_dir()
    assert make_folder(tmp_path / "x" / "y").is_dir()


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "é"], "a": None})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": [1, "é"], "a": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_a_killed_write_leaves_the_old_file_and_a_stale_one_that_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from secure_ai.files import write\n"
        "write.os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write.write_bytes(Path(sys.argv[1]), b'new')"
    )
    process = child(code, str(tmp_path / "a"))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert remove_stale(tmp_path) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_stale_cleanup_takes_only_our_own_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    keep = [tmp_path / "a", tmp_path / "inner" / "secure-ai-tmp-x", tmp_path / f"{write.TEMPORARY_PREFIX}link"]
    keep[0].write_bytes(b"")
    keep[1].write_bytes(b"")
    keep[2].symlink_to("a")
    (tmp_path / f"{write.TEMPORARY_PREFIX}1").write_bytes(b"")
    (tmp_path / "inner" / f"{write.TEMPORARY_PREFIX}2").write_bytes(b"")
    assert remove_stale(tmp_path) == 2
    assert all(path.is_symlink() or path.exists() for path in keep)
    assert remove_stale(tmp_path) == 0


HOLD = (
    "import sys, time; from pathlib import Path; from secure_ai.files.write import lock_folder\n"
    "with lock_folder(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


def test_a_folder_held_by_another_process_is_locked_until_that_dies(tmp_path: Path) -> None:
    process = child(HOLD, str(tmp_path))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        started = time.monotonic()
        with pytest.raises(LockedError) as caught, lock_folder(tmp_path):
            pass
        assert caught.value.exit_code == EXIT_INCONCLUSIVE
        assert time.monotonic() - started < 10, "it does not wait"
    finally:
        process.kill()
        process.communicate()
    with lock_folder(tmp_path):
        pass


def test_the_lock_is_freed_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), lock_folder(tmp_path):
        raise RuntimeError("inside")
    with lock_folder(tmp_path), pytest.raises(LockedError), lock_folder(tmp_path):
        pass


def test_a_lock_that_is_a_link_or_cannot_be_made_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / write.LOCK_NAME).symlink_to("/etc/hostname")
    with pytest.raises(EnvironmentFailedError), lock_folder(tmp_path):
        pass
    with pytest.raises(EnvironmentFailedError), lock_folder(tmp_path / "missing"):
        pass


@pytest.mark.parametrize("name", ["a", "inner/a", "inner/deep/a"])
def test_beneath_makes_folders_and_replaces_files(tmp_path: Path, name: str) -> None:
    write_beneath(tmp_path, name, b"old")
    write_beneath(tmp_path, name, b"new", mode=0o600)
    assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]


@pytest.mark.parametrize("name", ["/a", "../a", "inner/../../a", "", "inner//a", "a\0b", "inner/"])
def test_beneath_stays_beneath(tmp_path: Path, name: str) -> None:
    with pytest.raises(PathEscapeError):
        write_beneath(tmp_path, name, b"x")


@pytest.mark.parametrize("name", ["link/a", "link/deep/a", "here", "file/a"])
def test_beneath_follows_no_link(tmp_path: Path, name: str) -> None:
    root, victim = tmp_path / "root", tmp_path / "victim"
    root.mkdir()
    victim.mkdir()
    (root / "file").write_bytes(b"")
    (victim / "a").write_bytes(b"kept")
    (root / "link").symlink_to(victim)
    (root / "here").symlink_to(victim / "a")
    with pytest.raises(FileKindError):
        write_beneath(root, name, b"x")
    assert [(path.name, path.read_bytes()) for path in victim.iterdir()] == [("a", b"kept")]


def test_beneath_takes_a_link_to_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_beneath(tmp_path / "link", "a", b"x")
    assert (tmp_path / "real" / "a").read_bytes() == b"x"
