"""Strict JSON: what Python's parser takes and this one must not, and that everything else comes out the same."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core.errors import JsonError
from secure_ai.files.jsons import parse_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_round_trip(value: Any, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert parse_json(content, where="x", max_depth=100) == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1,]",
        b"{} {}",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": 1, "\\u0061": 1}',
        b"NaN",
        b"[-Infinity]",
        b"1e400",
        b"-1e400",
        b'"\xff"',
        '{"a": 1}'.encode("utf-16"),
        b'"\\ud800"',
        b'{"\\uD800": 1}',
        b"9" * 5000,
        b"'a'",
        b"// comment\n{}",
    ],
)
def test_refused(content: bytes) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(content, where="x.json")
    assert "x.json" in caught.value.where


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', where="x") == "\U0001f600"


def test_depth_is_counted_outside_of_strings() -> None:
    assert parse_json(b'["[[[[[[", "\\"[[[[["]', where="x", max_depth=1) == ["[[[[[[", '"[[[[[']
    assert parse_json(b"[[], [[]]]", where="x", max_depth=3) == [[], [[]]]
    with pytest.raises(JsonError, match="deep"):
        parse_json(b"[[], [[]]]", where="x", max_depth=2)


@pytest.mark.parametrize(
    "content", [b"[" * 1_000_000, b'{"a":' * 200_000, b'"' * 999_999, b'"' + b'\\"' * 499_999, b'"\\' * 400_000]
)
def test_hostile_megabytes_are_refused_in_linear_time(content: bytes) -> None:
    started = time.process_time()
    with pytest.raises(JsonError):
        parse_json(content, where="x")
    assert time.process_time() - started < 10


def test_size_limit_is_inclusive() -> None:
    assert parse_json(b"[1]", where="x", max_bytes=3) == [1]
    with pytest.raises(JsonError, match="too large"):
        parse_json(b"[1]", where="x", max_bytes=2)
