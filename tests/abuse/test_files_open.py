"""Bad input D106-D109: paths and files that are not what they seem, each refused with its code, and none waited for."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import FileUnreadableError, SecureAIError
from secure_ai.files.open import read_beneath, read_file

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`root` with a good file, links of every kind, and a secret beside it."""
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "good").write_bytes(b"good")
    (root / "inner" / "good").write_bytes(b"inner")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to("../secret")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "folder-link").symlink_to("inner")
    os.link(tmp_path / "secret", root / "hard")
    return root


def test_good_names_are_read(folder: Path) -> None:
    assert read_beneath(folder, "good", max_bytes=LIMIT).content == b"good"
    assert read_beneath(folder, "inner/good", max_bytes=LIMIT).content == b"inner"
    assert read_file(folder / "good", max_bytes=LIMIT).name == "good"


BENEATH_ROWS: dict[str, tuple[str, str]] = {
    "D106-parent": ("E_PATH_ESCAPE", "../secret"),
    "D106-parent-inside": ("E_PATH_ESCAPE", "inner/../good"),
    "D106-dot": ("E_PATH_ESCAPE", "./good"),
    "D106-empty": ("E_PATH_ESCAPE", ""),
    "D106-double-slash": ("E_PATH_ESCAPE", "inner//good"),
    "D106-absolute": ("E_PATH_ESCAPE", "/etc/passwd"),
    "D106-home": ("E_FILE_MISSING", "~/secret"),
    "D106-link": ("E_FILE_KIND", "link"),
    "D106-dangling-link": ("E_FILE_KIND", "dangling"),
    "D106-link-loop": ("E_FILE_KIND", "loop"),
    "D106-link-to-a-folder": ("E_FILE_KIND", "folder-link/good"),
    "D106-hard-link": ("E_FILE_KIND", "hard"),
    "D106-file-as-folder": ("E_FILE_KIND", "good/x"),
    "D107-folder": ("E_FILE_KIND", "inner"),
    "D108-nul": ("E_PATH_ESCAPE", "go\0od"),
    "D108-missing": ("E_FILE_MISSING", "missing"),
    "D108-5000-bytes": ("E_FILE_MISSING", "x" * 5000),
    "D108-not-utf8": ("E_FILE_MISSING", os.fsdecode(b"\xff\xfe")),
    "D108-terminal-control": ("E_FILE_MISSING", "\x1b[2J\u202e\n"),
}


@pytest.mark.parametrize(("code", "name"), BENEATH_ROWS.values(), ids=BENEATH_ROWS.keys())
def test_bad_name_beneath_a_folder_is_refused(refused: Callable[..., Any], folder: Path, code: str, name: str) -> None:
    refused(code, lambda: read_beneath(folder, name, max_bytes=LIMIT))


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return str(folder / "fifo")


def bound_socket(folder: Path) -> str:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    return str(folder / "socket")


def sparse(folder: Path) -> str:
    with (folder / "sparse").open("wb") as stream:
        stream.truncate(1 << 40)
    return str(folder / "sparse")


def large(folder: Path) -> str:
    (folder / "good").write_bytes(bytes(LIMIT + 1))
    return str(folder / "good")


FILE_ROWS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "D106-dangling-link": ("E_FILE_MISSING", lambda folder: str(folder / "dangling")),
    "D106-link-loop": ("E_FILE_KIND", lambda folder: str(folder / "loop")),
    "D107-fifo": ("E_FILE_KIND", fifo),
    "D107-socket": ("E_FILE_KIND", bound_socket),
    "D107-zero": ("E_FILE_KIND", lambda folder: "/dev/zero"),
    "D107-full": ("E_FILE_KIND", lambda folder: "/dev/full"),
    "D107-own-memory": ("E_FILE_UNREADABLE", lambda folder: "/proc/self/mem"),
    "D107-proc-file": ("E_FILE_CHANGED", lambda folder: "/proc/self/status"),
    "D107-standard-output": ("E_FILE_KIND", lambda folder: "/dev/null"),
    "D107-folder": ("E_FILE_KIND", str),
    "D108-empty": ("E_FILE_MISSING", lambda folder: ""),
    "D108-nul": ("E_FILE_MISSING", lambda folder: "a\0b"),
    "D108-5000-bytes": ("E_FILE_MISSING", lambda folder: "x" * 5000),
    "D108-4000-bytes": ("E_FILE_MISSING", lambda folder: "/".join("x" * 15 for _ in range(250))),
    "D109-sparse-terabyte": ("E_SIZE_LIMIT", sparse),
    "D109-over-the-limit": ("E_SIZE_LIMIT", large),
}


@pytest.mark.parametrize(("code", "make"), FILE_ROWS.values(), ids=FILE_ROWS.keys())
def test_bad_file_is_refused(refused: Callable[..., Any], folder: Path, code: str, make: Callable[[Path], str]) -> None:
    path = make(folder)
    refused(code, lambda: read_file(path, max_bytes=LIMIT))


@pytest.mark.parametrize(
    "name", ["a b", "-rf", "quote'\"", "trailing ", "CON", "x" * 255, "\u202e", "a\nb", os.fsdecode(b"\xff")]
)
def test_d108_odd_names_of_real_files_work(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"odd")
    assert read_file(folder / name, max_bytes=LIMIT).content == b"odd"
    assert read_beneath(folder, name, max_bytes=LIMIT).content == b"odd"


def test_a_file_of_exactly_the_limit_is_read(folder: Path) -> None:
    (folder / "good").write_bytes(bytes(LIMIT))
    assert len(read_file(folder / "good", max_bytes=LIMIT).content) == LIMIT


@pytest.mark.parametrize("size", [0, 3, 5, 900], ids=["emptied", "shrinks", "grows", "grows-much"])
def test_d109_a_file_that_changes_while_it_is_read_is_refused(
    refused: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    read = os.read

    def change_then_read(descriptor: int, count: int) -> bytes:
        monkeypatch.setattr(os, "read", read)
        os.truncate(folder / "good", size)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", change_then_read)
    refused("E_FILE_CHANGED", lambda: read_file(folder / "good", max_bytes=LIMIT))


def test_d109_a_file_replaced_after_it_was_opened_does_not_matter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def replace_then_read(descriptor: int, count: int) -> bytes:
        (folder / "new").write_bytes(b"evil")
        os.replace(folder / "new", folder / "good")
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", replace_then_read)
    assert read_file(folder / "good", max_bytes=LIMIT).content == b"good"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user here")
@pytest.mark.parametrize(
    "read",
    [
        lambda folder: read_file(folder / "good", max_bytes=LIMIT),
        lambda folder: read_beneath(folder, "good", max_bytes=LIMIT),
    ],
    ids=["named", "beneath"],
)
def test_d109_a_file_of_mode_0_is_refused(folder: Path, read: Callable[[Path], Any]) -> None:
    (folder / "good").chmod(0)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
    os.seteuid(65534)
    try:
        with pytest.raises(FileUnreadableError) as caught:
            read(folder)
    finally:
        os.seteuid(0)
    assert caught.value.code == "E_FILE_UNREADABLE"


def test_d109_reading_leaves_no_descriptor_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("good", "inner/good", "missing", "link", "inner", "hard"):
        try:
            read_beneath(folder, name, max_bytes=LIMIT)
        except SecureAIError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before
