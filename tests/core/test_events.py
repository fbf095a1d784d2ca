"""The event log: every edit but a cut tail shows, and no value can break its line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from secure_ai.core.errors import EnvironmentFailedError, FileMissingError, LogError
from secure_ai.core.events import GENESIS, ChainState, EventLog, canonical_json, verify_log

RECORDS = 5


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    ticks = iter(range(1000, 2000))
    write = EventLog(path, clock=lambda: float(next(ticks)))
    for number in range(RECORDS):
        write("load", {"file": f"model-{number}.safetensors", "number": number})
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def refused(path: Path, rows: list[bytes]) -> None:
    path.write_bytes(b"".join(rows))
    with pytest.raises(LogError):
        verify_log(path)
    with pytest.raises(LogError):
        EventLog(path)


def test_an_untouched_log_verifies_and_goes_on(log: Path) -> None:
    state = verify_log(log)
    assert state.records == RECORDS
    again = EventLog(log)
    assert again.state == state
    again("load", {})
    assert verify_log(log) == again.state
    assert again.state.records == RECORDS + 1


def test_the_records_say_what_was_done(log: Path) -> None:
    first = json.loads(lines(log)[0])
    assert (first["seq"], first["time"], first["kind"], first["previous"]) == (1, 1000.0, "load", GENESIS)
    assert first["data"] == {"file": "model-0.safetensors", "number": 0}
    assert verify_log(log).digest == json.loads(lines(log)[-1])["digest"]


@pytest.mark.parametrize("position", range(RECORDS))
def test_an_edit_shows(log: Path, position: int) -> None:
    rows = lines(log)
    rows[position] = rows[position].replace(b"model-", b"modem-")
    refused(log, rows)


@pytest.mark.parametrize("position", range(RECORDS - 1))
def test_an_edit_with_its_own_digest_mended_shows(log: Path, position: int) -> None:
    rows = lines(log)
    record = json.loads(rows[position])
    del record["digest"]
    record["data"]["number"] = 99
    import hashlib

    digest = hashlib.sha256(canonical_json(record).encode()).hexdigest()
    rows[position] = (canonical_json(record | {"digest": digest}) + "\n").encode()
    refused(log, rows)


@pytest.mark.parametrize("position", range(RECORDS - 1))
def test_a_deletion_shows(log: Path, position: int) -> None:
    rows = lines(log)
    del rows[position]
    refused(log, rows)


@pytest.mark.parametrize("position", range(RECORDS - 1))
def test_a_swap_shows(log: Path, position: int) -> None:
    rows = lines(log)
    rows[position], rows[position + 1] = rows[position + 1], rows[position]
    refused(log, rows)


@pytest.mark.parametrize("position", range(RECORDS))
def test_a_duplicate_shows(log: Path, position: int) -> None:
    rows = lines(log)
    rows.insert(position, rows[position])
    refused(log, rows)


@pytest.mark.parametrize("position", range(RECORDS + 1))
def test_an_insertion_shows(log: Path, position: int, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    write = EventLog(other)
    for _ in range(position + 1):
        write("load", {"file": "forged"})
    rows = lines(log)
    rows.insert(position, lines(other)[position])
    if position > 0:
        refused(log, rows)
    else:  # the forged first record is whole; what follows does not follow from it
        refused(log, rows)


@pytest.mark.parametrize("kept", range(1, RECORDS))
def test_a_cut_head_shows(log: Path, kept: int) -> None:
    refused(log, lines(log)[-kept:])


@pytest.mark.parametrize("removed", range(1, RECORDS + 1))
def test_a_cut_tail_shows_only_against_a_digest_kept_elsewhere(log: Path, removed: int) -> None:
    kept_elsewhere = verify_log(log)
    log.write_bytes(b"".join(lines(log)[: RECORDS - removed]))
    assert verify_log(log) == verify_log(log) != kept_elsewhere
    assert verify_log(log).records == RECORDS - removed


def test_half_a_last_line_shows(log: Path) -> None:
    content = log.read_bytes()
    for cut in (1, 2, 20):
        log.write_bytes(content[:-cut])
        with pytest.raises(LogError):
            verify_log(log)


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[]\n", b"null\n", b"not json\n", b"\xff\n", b"[" * 5000 + b"\n", b'{"digest":1}\n']
)
def test_what_is_no_record_shows(log: Path, line: bytes) -> None:
    refused(log, [*lines(log), line])


def test_the_message_names_the_line(log: Path) -> None:
    rows = lines(log)
    rows[2] = rows[2].replace(b"model-", b"modem-")
    log.write_bytes(b"".join(rows))
    with pytest.raises(LogError, match="line 3"):
        verify_log(log)


@pytest.mark.parametrize(
    "value",
    [
        "a\nb",
        "a\r\nb",
        "\u2028",
        "\u2029",
        "\x85",
        "\x0b\x0c",
        "\x1b[2J",
        "\ud800",
        "\x00",
        'quote"}\n{"seq":1',
        "é",
        "😀",
    ],
)
def test_no_value_can_break_its_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "events.jsonl"
    write = EventLog(path)
    write("refusal", {"file": value, value: 1})
    write("refusal", {"nested": [value, {value: value}]})
    content = path.read_bytes()
    assert content.count(b"\n") == 2
    assert content.isascii()
    assert len(content.decode().splitlines()) == 2
    assert verify_log(path).records == 2
    assert json.loads(lines(path)[0])["data"]["file"] == value


def test_a_full_disk_is_said_and_loses_nothing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = EventLog(log)
    before, content = write.state, log.read_bytes()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(EnvironmentFailedError) as caught:
            write("load", {})
    assert os.strerror(errno.ENOSPC) in caught.value.got
    assert caught.value.exit_code == 3
    assert (write.state, log.read_bytes()) == (before, content)
    write("load", {})
    assert verify_log(log).records == RECORDS + 1


def test_a_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(EnvironmentFailedError):
        EventLog(path)("load", {})
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_a_missing_log_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        verify_log(tmp_path / "none.jsonl")
    assert EventLog(tmp_path / "none.jsonl").state == ChainState(0, GENESIS)


def test_one_value_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None, True]}) == '{"a":[1.5,null,true],"b":1}'
    with pytest.raises(ValueError, match="range"):
        canonical_json({"x": float("nan")})


def line_of(text: str) -> str:
    """The one record of a log, with another spelling of it and the digest of what it says."""
    record = json.loads(text)
    record.pop("digest", None)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return text.replace('"DIGEST"', json.dumps(digest))


HEAD = '"previous":"' + GENESIS + '","seq":1,"time":1.0}'
SPELLINGS = {
    "key-twice": '{"data":{},"digest":"DIGEST","kind":"FORGED","kind":"a",' + HEAD,
    "spaces": '{"data": {},"digest":"DIGEST","kind":"a",' + HEAD,
    "order": '{"digest":"DIGEST","data":{},"kind":"a",' + HEAD,
    "escapes": '{"data":{},"digest":"DIGEST","kind":"\\u0061",' + HEAD,
    "number": ('{"data":{},"digest":"DIGEST","kind":"a",' + HEAD).replace("1.0}", "1.00}"),
    "true-for-1": ('{"data":{},"digest":"DIGEST","kind":"a",' + HEAD).replace('"seq":1,', '"seq":true,'),
    "one-point-zero": ('{"data":{},"digest":"DIGEST","kind":"a",' + HEAD).replace('"seq":1,', '"seq":1.0,'),
    "nan": ('{"data":{},"digest":"DIGEST","kind":"a",' + HEAD).replace("1.0}", "NaN}"),
    "deep": '{"data":' + "[" * 100_000,
    "carriage-return": '{"data":{},"digest":"DIGEST","kind":"a",' + HEAD + "\r",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_record_has_one_spelling(tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text((line_of(text) if "DIGEST" in text and "NaN" not in text else text) + "\n")
    with pytest.raises(LogError):
        verify_log(path)


def test_the_spelling_of_the_log_itself_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line_of('{"data":{},"digest":"DIGEST","kind":"a",' + HEAD) + "\n")
    assert verify_log(path).records == 1
