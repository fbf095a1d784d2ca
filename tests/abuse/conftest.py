"""What every refusal of bad input has in common, checked in one place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import EXIT_BAD_INPUT, SecureAIError

Refused = Callable[[str, Callable[[], Any]], SecureAIError]

MAX_SECONDS = 10.0  # finds a hang or a bomb; the bound of 1 s is for an idle machine, and tests share theirs
MAX_GROWTH_BYTES = 64 * 1024 * 1024
_NEVER = {"pickle.find_class", "os.system", "os.exec", "socket.connect", "ctypes.dlopen"}
_seen: list[str] | None = None


def _hook(event: str, _: tuple[Any, ...]) -> None:
    if _seen is not None and event in _NEVER:
        _seen.append(event)


sys.addaudithook(_hook)  # a hook cannot be taken away again, so it listens only while `_seen` is a list


def _resident_bytes(*, reset: bool = False) -> int:
    """The most memory this process has held since the last reset (proc(5): clear_refs, VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """`refused(code, call)`: `call()` raises this error in time, within memory, leaves no file and runs nothing."""

    def check(code: str, call: Callable[[], Any]) -> SecureAIError:
        global _seen
        files = sorted(tmp_path.rglob("*"))
        _seen = []
        resident = _resident_bytes(reset=True)
        started = time.process_time()
        try:
            with pytest.raises(SecureAIError) as caught:
                call()
        finally:
            seconds = time.process_time() - started
            growth = _resident_bytes() - resident
            events, _seen = _seen, None
        error = caught.value
        assert error.code == code, f"{error.code}: {error}"
        assert error.exit_code == EXIT_BAD_INPUT
        assert error.where or error.expected, "an error says where, or what was expected"
        for text in error.as_json().values():
            assert len(text) <= 300
            assert text.isprintable(), "one line, nothing that a terminal would obey"
            assert str(tmp_path) not in text, "no absolute path"
            assert "allow_pickle" not in text, "no advice to load it another way"
            assert "weights_only" not in text, "no advice to load it another way"
        assert seconds < MAX_SECONDS
        assert growth < MAX_GROWTH_BYTES
        assert events == []
        assert sorted(tmp_path.rglob("*")) == files
        return error

    return check
