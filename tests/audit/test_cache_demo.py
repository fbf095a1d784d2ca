"""The cache demonstration: nothing is unpickled unless asked for, and then really, only in the child, only our file."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest

from secure_ai.audit import cache_demo
from secure_ai.audit.cache_demo import CANARY_NAME, CANARY_TEXT, demonstrate_cache, load_cache_json_safe
from secure_ai.core.errors import DigestMismatchError, FileMissingError, JsonError, SizeLimitError
from secure_ai.files.open import MIB
from secure_ai.files.sandbox import run_child


def test_by_default_nothing_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_demo, "run_child", lambda *_, **__: pytest.fail("a child was started"))
    shown = demonstrate_cache(allow_unsafe=False)
    assert shown.findings == ()
    assert (shown.facts["branch"], shown.facts["unpickled"], shown.facts["code_ran"]) == ("json", False, False)
    assert shown.facts["json_round_trip"] is True
    assert shown.facts["json_refuses_pickle"] is True


def test_with_the_switch_code_runs_in_the_child_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    shown = demonstrate_cache(allow_unsafe=True, events=lambda kind, data: seen.append(f"{kind} {data['branch']}"))
    assert (shown.facts["branch"], shown.facts["unpickled"], shown.facts["code_ran"]) == ("pickle", True, True)
    assert shown.facts["canary"] == CANARY_TEXT
    assert seen == ["cache_demo pickle"]
    (finding,) = shown.findings
    assert finding.planted
    assert "CWE-502" in finding.taxonomy
    assert list(tmp_path.iterdir()) == [], "the payload ran in this process"


def child(content: bytes, digest: str) -> dict[str, object]:
    answer = run_child(
        "secure_ai.audit.cache_demo_child",
        digest.encode() + content,
        timeout_s=20,
        max_answer_bytes=4096,
        max_memory_bytes=1024 * MIB,
        max_file_bytes=4096,
    )
    said: dict[str, object] = json.loads(answer.content)
    return said


def test_the_child_refuses_any_other_file(tmp_path: Path) -> None:
    hostile = pickle.dumps(_Touch(str(tmp_path / "ran")))
    with pytest.raises(DigestMismatchError):
        child(hostile, hashlib.sha256(b"another file").hexdigest())
    assert not (tmp_path / "ran").exists()


def test_a_harmless_pickle_shows_no_code() -> None:
    harmless = pickle.dumps({"clean_accuracy": 0.989})
    answer = child(harmless, hashlib.sha256(harmless).hexdigest())
    assert answer == {"unpickled": True, "code_ran": False, "canary": ""}


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.path),)


def test_the_json_reader_reads_json_and_nothing_else(tmp_path: Path) -> None:
    good, bad = tmp_path / "cache.json", tmp_path / "cache.pkl"
    good.write_text('{"a": [1, 2.5]}', encoding="utf-8")
    bad.write_bytes(pickle.dumps(_Touch(str(tmp_path / CANARY_NAME))))
    assert load_cache_json_safe(good) == {"a": [1, 2.5]}
    with pytest.raises(JsonError):
        load_cache_json_safe(bad)
    with pytest.raises(FileMissingError):
        load_cache_json_safe(tmp_path / "none.json")
    with pytest.raises(SizeLimitError):
        load_cache_json_safe(good, max_bytes=3)
    assert not (tmp_path / CANARY_NAME).exists()
