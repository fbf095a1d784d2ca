"""Bad input D015-D026 and D029: NPY and NPZ files, each refused with its code; and the clean ones accepted."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secure_ai.files.npy import NpyLimits, read_npy, read_npz
from secure_ai.files.open import FileBytes

LIMITS = NpyLimits()
X = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
Y = np.array([0, 1])


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def header(text: str, payload: bytes = b"", version: bytes = b"\1\0") -> bytes:
    raw = text.encode("latin-1") + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<L", len(raw))
    return b"\x93NUMPY" + version + length + raw + payload


def fields(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


EIGHT = bytes(8)
STRUCTURED = np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")])
NPY_ROWS: dict[str, tuple[str, bytes]] = {
    "D015-object": ("E_NPY_OBJECT", npy(np.array([{}, 1], dtype=object), allow_pickle=True)),
    "D015-object-without-pickle": ("E_NPY_OBJECT", header(fields("'|O'"), EIGHT)),
    "D015-object-with-size": ("E_NPY_OBJECT", header(fields("'O8'"), EIGHT)),
    "D015-object-in-record": ("E_NPY_OBJECT", header(fields("[('a', '|O')]"), EIGHT)),
    "D016-plain-pickle": ("E_NPY", pickle.dumps([1, 2, 3])),
    "D017-huge": ("E_SIZE_LIMIT", header(fields(shape="(1000000000000,)"), EIGHT)),
    "D018-negative": ("E_NPY", header(fields(shape="(-1,)"), EIGHT)),
    "D018-overflow": ("E_NPY", header(fields(shape="(4611686018427387904, 4)"), EIGHT)),
    "D018-bool": ("E_NPY", header(fields(shape="(True,)"), EIGHT)),
    "D018-float": ("E_NPY", header(fields(shape="(1.5,)"), EIGHT)),
    "D018-no-tuple": ("E_NPY", header(fields(shape="2"), EIGHT)),
    "D018-many-dimensions": ("E_NPY", header(fields(shape="(" + "1, " * 40 + ")"), EIGHT[:4])),
    "D018-two-commas": ("E_NPY", header(fields(shape="(1,,2)"), EIGHT)),
    "D019-code": ("E_NPY", header("__import__('os').system('true')", EIGHT)),
    "D019-code-in-descr": ("E_NPY", header(fields("__import__('os').getcwd()"), EIGHT)),
    "D019-deep": ("E_NPY", header(fields("(" * 4000 + ")" * 4000), EIGHT)),
    "D019-order-is-1": ("E_NPY", header(fields(order="1"), EIGHT)),
    "D019-field-twice": (
        "E_NPY",
        header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", EIGHT),
    ),
    "D019-field-missing": ("E_NPY", header("{'descr': '<f4', 'shape': (2,), }", EIGHT)),
    "D019-field-extra": ("E_NPY", header(fields()[:-1] + "'x': 1}", EIGHT)),
    "D019-fields-swapped": ("E_NPY", header("{'descr': False, 'fortran_order': '<f4', 'shape': (2,), }", EIGHT)),
    "D020-long-header": ("E_NPY", header(fields() + " " * 20_000, EIGHT, b"\2\0")),
    "D020-header-beyond-end": ("E_NPY", header(fields())[:40]),
    "D020-version-9": ("E_NPY", header(fields(), EIGHT, b"\x09\0")),
    "D020-magic-only": ("E_NPY", b"\x93NUMPY"),
    "D020-empty": ("E_NPY", b""),
    "D021-trailing": ("E_NPY_TRAIL", npy(X) + b"\0"),
    "D021-second-array": ("E_NPY_TRAIL", npy(X) + npy(X)),
    "D021-short": ("E_NPY", npy(X)[:-1]),
    "D026-complex": ("E_NPY", npy(np.zeros(2, complex))),
    "D026-text": ("E_NPY", npy(np.array(["a", "b"]))),
    "D026-bytes": ("E_NPY", npy(np.array([b"a", b"b"]))),
    "D026-void": ("E_NPY", npy(np.zeros(2, "V4"))),
    "D026-structured": ("E_NPY", npy(STRUCTURED)),
    "D026-datetime": ("E_NPY", npy(np.array(["2020-01-01"], "M8[s]"))),
    "D026-long-double": ("E_NPY", npy(np.zeros(2, np.longdouble))),
    "D026-truth-value-2": ("E_NPY", header(fields("'|b1'"), b"\1\2")),
    "D029-no-dimension": ("E_NPY", npy(np.float32(1))),
    "D029-empty": ("E_EMPTY", npy(np.zeros((0, 4), np.float32))),
}


@pytest.mark.parametrize(("code", "content"), NPY_ROWS.values(), ids=NPY_ROWS.keys())
def test_bad_npy_is_refused(refused: Callable[..., Any], code: str, content: bytes) -> None:
    refused(code, lambda: read_npy(content, where="x.npy", limits=LIMITS))


def test_d017_a_limit_is_checked_before_the_bytes_are(refused: Callable[..., Any]) -> None:
    limits = NpyLimits(max_array_bytes=31)
    assert refused("E_SIZE_LIMIT", lambda: read_npy(npy(X), where="x.npy", limits=limits)).got == "32"
    assert read_npy(npy(X), where="x.npy", limits=NpyLimits(max_array_bytes=32)).size == 32


def symlink() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x.npy")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def patched(content: bytes, what: bytes, offset: int, value: bytes, which: int = 0) -> bytes:
    """`value` written `offset` bytes behind the occurrence number `which` of `what`."""
    position = -1
    for _ in range(which + 1):
        position = content.index(what, position + 1)
    return content[: position + offset] + value + content[position + offset + len(value) :]


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
GOOD = npz(x=X, y=Y)
PLAIN = zipped(("x.npy", npy(X)), ("y.npy", npy(Y)))  # no ZIP64 fields, unlike NumPy's own
MANY = zipped(*((f"a{i}.npy", b"") for i in range(2000)))
TWICE = zipped(("x.npy", npy(X)), ("z.npy", npy(Y)), ("y.npy", npy(Y))).replace(b"z.npy", b"y.npy")
CASES = zipped(("x.npy", npy(X)), ("X.npy", npy(Y)))
NPZ_ROWS: dict[str, tuple[str, bytes]] = {
    "D015-object": ("E_NPY_OBJECT", zipped(("x.npy", NPY_ROWS["D015-object"][1]), ("y.npy", npy(Y)))),
    "D016-plain-pickle": ("E_ZIP", pickle.dumps([1, 2, 3])),
    "D022-bomb": ("E_ZIP", zipped(("x.npy", bytes(30_000_000)), ("y.npy", npy(Y)), method=zipfile.ZIP_DEFLATED)),
    "D022-bomb-of-many": (
        "E_ZIP",
        zipped(*((f"a{i}.npy", bytes(1_000_000)) for i in range(40)), method=zipfile.ZIP_DEFLATED),
    ),
    "D023-twice": ("E_ZIP", TWICE),
    "D023-twice-but-for-case": ("E_ZIP", CASES),
    "D024-parent": ("E_ZIP", zipped(("x.npy", npy(X)), ("../../evil.npy", npy(Y)))),
    "D024-absolute": ("E_ZIP", zipped(("x.npy", npy(X)), ("/evil.npy", npy(Y)))),
    "D024-backslash": ("E_ZIP", zipped(("x.npy", npy(X)), ("a/y.npy", npy(Y))).replace(b"a/y.npy", b"a\\y.npy")),
    "D024-drive": ("E_ZIP", zipped(("x.npy", npy(X)), ("C:y.npy", npy(Y)))),
    "D024-nul": ("E_ZIP", zipped(("x.npy", npy(X)), ("yA.npy", npy(Y))).replace(b"yA.npy", b"y\0.npy")),
    "D024-right-to-left": ("E_ZIP", zipped(("x.npy", npy(X)), ("\u202ey.npy", npy(Y)))),
    "D024-symlink": ("E_ZIP", zipped((symlink(), b"/etc/passwd"))),
    "D024-folder": ("E_ZIP", zipped(("x.npy", npy(X)), ("d/", b""))),
    "D024-inner-folder": ("E_KEYS", zipped(("x.npy", npy(X)), ("d/y.npy", npy(Y)))),
    "D025-encrypted": ("E_ZIP", patched(PLAIN, CENTRAL, 8, b"\1\0")),
    "D025-bzip2": ("E_ZIP", zipped(("x.npy", npy(X)), method=zipfile.ZIP_BZIP2)),
    "D025-lzma": ("E_ZIP", zipped(("x.npy", npy(X)), method=zipfile.ZIP_LZMA)),
    "D025-zip64-size": ("E_ZIP", patched(PLAIN, CENTRAL, 20, b"\xff" * 8)),
    "D025-other-name": ("E_ZIP", patched(PLAIN, LOCAL, 30, b"z")),
    "D025-other-size": ("E_ZIP", patched(PLAIN, LOCAL, 22, b"\7")),
    "D025-other-crc": ("E_ZIP", patched(PLAIN, LOCAL, 14, b"\7\7\7\7")),
    "D025-other-method": ("E_ZIP", patched(PLAIN, LOCAL, 8, b"\x08")),
    "D025-both-crc": ("E_ZIP", patched(patched(PLAIN, LOCAL, 14, b"\7\7\7\7"), CENTRAL, 16, b"\7\7\7\7")),
    "D025-data-changed": ("E_ZIP", PLAIN.replace(b"\3\4\5\6", b"\3\4\5\7", 1)),
    "D025-prefix": ("E_ZIP", b"#!/bin/sh\n" + PLAIN),
    "D025-prefix-zip": ("E_ZIP", PLAIN + PLAIN),
    "D025-tail": ("E_ZIP", PLAIN + b"\0"),
    "D025-comment": ("E_ZIP", PLAIN[:-2] + b"\4\0junk"),
    "D025-hole": ("E_ZIP", patched(PLAIN, CENTRAL, 42, struct.pack("<L", 1), which=1)),
    "D025-gap": ("E_ZIP", PLAIN[: PLAIN.index(CENTRAL)] + b"gap" + PLAIN[PLAIN.index(CENTRAL) :]),
    "D025-many-members": ("E_ZIP", MANY),
    "D025-count": ("E_ZIP", patched(PLAIN, END, 8, b"\1\0\1\0")),
    "D025-two-parts": ("E_ZIP", patched(PLAIN, END, 4, b"\1\0")),
    "D025-no-members": ("E_ZIP", zipped()),
    "D025-truncated": ("E_ZIP", PLAIN[:-30]),
    "D025-magic-only": ("E_ZIP", b"PK\3\4"),
    "D027-missing": ("E_KEYS", npz(x=X)),
    "D027-extra": ("E_KEYS", npz(x=X, y=Y, z=Y)),
    "D027-not-an-array": ("E_KEYS", zipped(("x.npy", npy(X)), ("readme.txt", b"hi"))),
}


@pytest.mark.parametrize(("code", "content"), NPZ_ROWS.values(), ids=NPZ_ROWS.keys())
def test_bad_npz_is_refused(refused: Callable[..., Any], code: str, content: bytes) -> None:
    refused(code, lambda: read_npz(FileBytes("d.npz", content), limits=LIMITS, names=("x", "y")))


@pytest.mark.parametrize("content", [GOOD, PLAIN], ids=["numpy", "plain-zip"])
def test_clean_npz_is_accepted(content: bytes) -> None:
    arrays = read_npz(FileBytes("d.npz", content), limits=LIMITS, names=("x", "y"))
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], Y)


def test_d022_sorted_labels_compress_very_well_and_are_no_bomb() -> None:
    stream = io.BytesIO()
    labels = np.arange(10).repeat(6000)
    np.savez_compressed(stream, y=labels)
    assert labels.nbytes > 200 * len(stream.getvalue())
    np.testing.assert_array_equal(read_npz(FileBytes("d.npz", stream.getvalue()), limits=LIMITS)["y"], labels)


def test_d022_a_bomb_that_lies_about_its_size_is_refused(refused: Callable[..., Any]) -> None:
    bomb = zipped(("x.npy", bytes(50_000_000)), method=zipfile.ZIP_DEFLATED)
    for mark, offset in ((LOCAL, 22), (CENTRAL, 24)):
        bomb = patched(bomb, mark, offset, struct.pack("<L", 1000))
    refused("E_ZIP", lambda: read_npz(FileBytes("d.npz", bomb), limits=LIMITS))
