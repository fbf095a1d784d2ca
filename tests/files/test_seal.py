from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ai.files.seal import KEY_BYTES, KEY_NAME, Seal, SealedFile, state_root, user_seal

SEAL = Seal(bytes(range(32)))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "secure-ai"


def test_the_tag_is_hmac_sha256() -> None:
    """RFC 4231, test case 2, whose data is split at the zero byte that stands between purpose and content."""
    import hmac

    assert SEAL.tag("what for", b"bytes") == hmac.digest(bytes(range(32)), b"what for\0bytes", "sha256").hex()


@given(st.text("ab", max_size=3), st.binary(max_size=8), st.text("ab", max_size=3), st.binary(max_size=8))
def test_a_tag_holds_for_its_purpose_and_content_alone(one: str, content: bytes, two: str, other: bytes) -> None:
    assert SEAL.holds(one, content, SEAL.tag(one, content))
    assert SEAL.holds(two, other, SEAL.tag(one, content)) == ((one, content) == (two, other))
    assert not Seal(b"x" * 32).holds(one, content, SEAL.tag(one, content))


@pytest.mark.parametrize("tag", [None, "", 0, [], "0" * 64, "\u00e9"])
def test_what_is_no_tag_does_not_hold(tag: object) -> None:
    assert not SEAL.holds("x", b"", tag)
    assert not Seal(None).holds("x", b"", tag)


def test_the_key_is_made_once_and_is_for_its_owner_alone(root: Path) -> None:
    first, second = user_seal(), user_seal()
    assert first == second
    assert first.note == ""
    assert first.key == (root / KEY_NAME).read_bytes()
    assert len(first.key) == KEY_BYTES
    assert (root / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == 0o700


def test_two_users_have_two_keys(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = user_seal()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert user_seal().key != mine.key


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.chmod(0o644),
        lambda key: key.chmod(0o640),
        lambda key: key.write_bytes(b""),
        lambda key: key.write_bytes(bytes(31)),
        lambda key: key.write_bytes(bytes(33)),
    ],
    ids=["0644", "0640", "empty", "short", "long"],
)
def test_a_key_that_others_could_read_or_that_is_none_is_made_again_and_this_is_said(
    root: Path, change: Callable[[Path], object]
) -> None:
    before = user_seal()
    change(root / KEY_NAME)
    after = user_seal()
    assert after.key is not None
    assert after.key != before.key
    assert after.note
    assert user_seal() == Seal(after.key)


def put_link(key: Path) -> None:
    target = key.with_name("elsewhere")
    key.rename(target)
    key.symlink_to(target)


def put_hard_link(key: Path) -> None:
    os.link(key, key.with_name("elsewhere"))


def put_folder(key: Path) -> None:
    key.unlink()
    key.mkdir()


def put_pipe(key: Path) -> None:
    key.unlink()
    os.mkfifo(key, 0o600)


@pytest.mark.parametrize("change", [put_link, put_hard_link, put_folder, put_pipe])
def test_what_is_no_file_of_the_users_own_is_not_used_and_not_replaced(
    root: Path, change: Callable[[Path], None]
) -> None:
    user_seal()
    change(root / KEY_NAME)
    before = os.lstat(root / KEY_NAME)
    seal = user_seal()
    assert seal.key is None
    assert seal.note
    assert os.lstat(root / KEY_NAME).st_ino == before.st_ino


def test_without_a_state_folder_that_can_be_written_there_is_no_key(root: Path) -> None:
    root.parent.write_text("a file where the folder would be")
    seal = user_seal()
    assert seal.key is None
    assert seal.note


def test_without_a_home_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert user_seal().key is None


@pytest.mark.parametrize("value", ["", "relative"])
def test_the_default_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_root() == tmp_path / ".local" / "state" / "secure-ai"


def test_a_sealed_file_is_read_back_under_its_key_and_purpose_alone(tmp_path: Path) -> None:
    file = SealedFile(tmp_path, "x", "one", SEAL)
    assert file.read(10) is None
    file.write(b"content\nmore")
    assert file.read(12) == b"content\nmore"
    assert file.read(2) is None  # larger than allowed
    assert SealedFile(tmp_path, "x", "two", SEAL).read(12) is None
    assert SealedFile(tmp_path, "x", "one", Seal(b"y" * 32)).read(12) is None
    assert SealedFile(tmp_path, "x", "one", Seal(None)).read(12) is None
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes() + b"!")
    assert file.read(100) is None
    file.remove()
    assert not file.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"content", b"secure-ai sealed \ncontent", b"secure-ai sealed \xff\n"])
def test_what_carries_no_tag_is_not_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert SealedFile(tmp_path, "x", "one", SEAL).read(100) is None


def test_without_a_key_nothing_is_written(tmp_path: Path) -> None:
    SealedFile(tmp_path, "x", "one", Seal(None)).write(b"content")
    assert list(tmp_path.iterdir()) == []
