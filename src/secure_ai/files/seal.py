"""What this user's earlier runs left is believed again only with a tag made with a key of the user's own (HMAC-SHA256).

The key lies in the user's state folder, never beside what it seals: a store, a cache or a folder that comes from
elsewhere carries no valid tag, so nothing of it is reused.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from secure_ai.core.errors import EnvironmentFailedError, FileKindError, SecureAIError
from secure_ai.files.open import read_beneath
from secure_ai.files.write import write_beneath, write_bytes

KEY_NAME = "reuse.key"
KEY_BYTES = 32
KEY_MODE = 0o600
TAG_DIGITS = 64
HEADER = b"secure-ai sealed "


@dataclass(frozen=True, slots=True)
class Seal:
    """Makes and checks tags.

    Attributes:
        key: None: there is none, so that no tag is made and none holds.
        note: why there is none, or why it is a new one; empty otherwise.
    """

    key: bytes | None
    note: str = ""

    def tag(self, purpose: str, content: bytes) -> str:
        """64 hex digits over what `content` is for and `content`; empty without a key."""
        if self.key is None:
            return ""
        return hmac.new(self.key, purpose.encode() + b"\0" + content, "sha256").hexdigest()

    def holds(self, purpose: str, content: bytes, tag: object) -> bool:
        """Whether `tag` was made with this key for this purpose and content."""
        if self.key is None or not isinstance(tag, str) or not tag.isascii():
            return False
        return hmac.compare_digest(self.tag(purpose, content), tag)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file of the tool's own that is read back later: a header line with the tag, then the content.

    Attributes:
        folder, name: where it lies; no link is followed.
        purpose: what it may be used for; the same bytes under another purpose do not hold.
    """

    folder: Path
    name: str
    purpose: str
    seal: Seal

    def read(self, max_bytes: int) -> bytes | None:
        """The content; None where there is no such file, it cannot be read, or its tag does not hold."""
        try:
            found = read_beneath(self.folder, self.name, max_bytes=max_bytes + len(HEADER) + TAG_DIGITS + 1).content
        except SecureAIError:
            return None
        header, _, content = found.partition(b"\n")
        tag = header.removeprefix(HEADER).decode("ascii", "replace")
        return content if header.startswith(HEADER) and self.seal.holds(self.purpose, content, tag) else None

    def write(self, content: bytes) -> None:
        """Replace the file; without a key nothing is written, since nothing could be read back."""
        if self.seal.key is not None:
            tag = self.seal.tag(self.purpose, content).encode()
            write_beneath(self.folder, self.name, HEADER + tag + b"\n" + content)

    def exists(self) -> bool:
        """Whether something stands there, whoever wrote it."""
        return (self.folder / self.name).exists()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        (self.folder / self.name).unlink(missing_ok=True)


def state_root() -> Path:
    """$XDG_STATE_HOME/secure-ai, or ~/.local/state/secure-ai where that is unset or not absolute.

    Raises:
        EnvironmentFailedError: this user has no home folder.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    try:
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise EnvironmentFailedError("no home folder for the state folder", hint="set XDG_STATE_HOME") from None
    return root / "secure-ai"


def user_seal() -> Seal:
    """The seal with this user's key, which is made at first use. Never raises: without a key nothing is reused."""
    try:
        root = state_root()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, fault = _read_key(root)
        if found is None:
            write_bytes(root / KEY_NAME, secrets.token_bytes(KEY_BYTES), mode=KEY_MODE)
            found, still = _read_key(root)
            if found is None:
                return Seal(None, f"the key in the state folder cannot be used: {still}")
        return Seal(found, f"the key in the state folder was made again: {fault}" if fault else "")
    except (SecureAIError, OSError) as error:
        reason = error.message if isinstance(error, SecureAIError) else error.strerror
        return Seal(None, f"no key in the state folder: {reason}")


def _read_key(root: Path) -> tuple[bytes | None, str]:
    """The key, or why what stands there is none; both empty where nothing does.

    Raises:
        FileKindError: a link, a folder or a file of another user stands there, or OSError; it is left as it is.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(root / KEY_NAME, flags)
    except FileNotFoundError:
        return None, ""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise FileKindError("not a regular file of this user alone", where=KEY_NAME, hint="remove it")
        if status.st_mode & 0o077:
            return None, "others could read it"
        content = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    return (content, "") if len(content) == KEY_BYTES else (None, f"it had not {KEY_BYTES} bytes")
