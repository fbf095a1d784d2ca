"""Errors: one code a class, and text that hostile input cannot break out of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ai.core import errors
from secure_ai.core.errors import MAX_TEXT_CHARACTERS, SecureAIError, printable

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SecureAIError)]


def test_every_class_has_its_own_code() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(CLASSES) > 30
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"E_[A-Z0-9]+(_[A-Z0-9]+)*", code)] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)
def test_every_class_is_usable(kind: type[SecureAIError]) -> None:
    error = kind("it is wrong", where="a.idx byte 3", expected="2051", got=2049, hint="look")
    assert kind.exit_code in (errors.EXIT_BAD_INPUT, errors.EXIT_INCONCLUSIVE, errors.EXIT_VERIFICATION_FAILED)
    assert kind.__doc__
    assert kind.__name__.endswith("Error")
    assert error.as_json() == {
        "code": kind.code, "message": "it is wrong", "where": "a.idx byte 3", "expected": "2051", "got": "2049",
        "hint": "look",
    }  # fmt: skip
    assert str(error) == "it is wrong; where: a.idx byte 3; expected: 2051; got: 2049; hint: look"


def test_empty_parts_are_not_shown() -> None:
    assert str(SecureAIError("no")) == "no"
    assert str(SecureAIError("no", got="x")) == "no; got: x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\x00", "\\x00"),
        ("plain é 7", "plain é 7"),
        (None, "None"),
    ],
)
def test_what_does_not_print_is_escaped(text: object, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(max_size=400), st.integers(1, 350))
@settings(max_examples=80, deadline=None)
def test_the_result_is_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    line = printable(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    line.encode()


def test_a_long_text_is_cut_visibly() -> None:
    assert printable("x" * MAX_TEXT_CHARACTERS) == "x" * MAX_TEXT_CHARACTERS
    cut = printable("x" * (MAX_TEXT_CHARACTERS + 1))
    assert (len(cut), cut[-1]) == (MAX_TEXT_CHARACTERS, "…")
