"""Bad input D046-D057: safetensors files, each refused with its code; and the clean one accepted."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.files.open import FileBytes, read_file
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(start: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


def file_of(data: bytes = bytes(8), **tensors: Any) -> bytes:
    return raw(json.dumps(tensors).encode(), data)


def named(name: str) -> bytes:
    return raw(json.dumps({name: entry(0, 8)}).encode(), bytes(8))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


GOOD = file_of(a=entry(0, 8))
NAN, INF = float("nan"), float("inf")
TWICE = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[%s]}}'
ROWS: dict[str, tuple[str, bytes]] = {
    "D046-empty": ("E_SAFETENSORS", b""),
    "D046-7-bytes": ("E_SAFETENSORS", bytes(7)),
    "D046-length-0": ("E_SAFETENSORS", bytes(8)),
    "D046-length-2^64-1": ("E_SAFETENSORS", raw(b"{}", b"", 2**64 - 1)),
    "D046-length-100000001": ("E_SAFETENSORS", raw(b"{}", b"", 100_000_001)),
    "D046-length-beyond-file": ("E_SAFETENSORS", raw(b"{}", b"", 3)),
    "D047-hole": ("E_SAFETENSORS", file_of(a=entry(0, 4), b=entry(8, 12), data=bytes(12))),
    "D047-hole-in-front": ("E_SAFETENSORS", file_of(a=entry(4, 8))),
    "D047-overlap": ("E_SAFETENSORS", file_of(a=entry(0, 8), b=entry(4, 8))),
    "D047-reversed": ("E_SAFETENSORS", file_of(a=entry(8, 0, [2]))),
    "D047-negative": ("E_SAFETENSORS", file_of(a=entry(-8, 0))),
    "D047-short": ("E_SAFETENSORS", GOOD[:-1]),
    "D047-trailing-byte": ("E_SAFETENSORS", GOOD + b"\0"),
    "D047-zip-tail": ("E_SAFETENSORS", GOOD + b"PK\5\6" + bytes(18)),
    "D048-overflow": ("E_SAFETENSORS", file_of(a=entry(0, 8, [2**63 - 1, 2**63 - 1]))),
    "D048-shape-not-bytes": ("E_SAFETENSORS", file_of(a=entry(0, 8, [3]))),
    "D048-float-shape": ("E_SAFETENSORS", file_of(a=entry(0, 8, [2.0]))),
    "D048-true-shape": ("E_SAFETENSORS", file_of(a=entry(0, 4, [True]), data=bytes(4))),
    "D048-huge-integer": (
        "E_SAFETENSORS",
        raw(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', bytes(8)),
    ),
    "D048-unknown-dtype": ("E_SAFETENSORS", file_of(a=entry(0, 8, [8], "F8_E4M3"))),
    "D048-dtype-is-a-list": ("E_SAFETENSORS", file_of(a=entry(0, 8, dtype=["F32"]))),
    "D048-offsets-of-3": ("E_SAFETENSORS", file_of(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]})),
    "D048-many-dimensions": ("E_SAFETENSORS", file_of(a=entry(0, 4, [1] * 40), data=bytes(4))),
    "D048-truth-value-2": ("E_SAFETENSORS", file_of(a=entry(0, 2, [2], "BOOL"), data=b"\1\2")),
    "D049-leading-space": ("E_SAFETENSORS", raw(b" " + json.dumps({"a": entry(0, 8)}).encode(), bytes(8))),
    "D050-twice-same-range": ("E_SAFETENSORS", raw(TWICE % b"0,8", bytes(8))),
    "D050-unknown-field": ("E_SAFETENSORS", file_of(a=entry(0, 8) | {"x": 1})),
    "D050-missing-field": ("E_SAFETENSORS", file_of(a={"dtype": "F32", "shape": [2]})),
    "D050-empty-header": ("E_SAFETENSORS", raw(b"{}")),
    "D051-twice-other-range": ("E_SAFETENSORS", raw(TWICE % b"8,16", bytes(16))),
    "D052-name-parent": ("E_SAFETENSORS", named("../../x")),
    "D052-name-nul": ("E_SAFETENSORS", named("a\0b")),
    "D052-name-right-to-left": ("E_SAFETENSORS", named("a\u202eb")),
    "D052-name-empty": ("E_SAFETENSORS", named("")),
    "D052-name-newline": ("E_SAFETENSORS", named("a\n")),
    "D052-name-129": ("E_SAFETENSORS", named("a" * 129)),
    "D052-name-1-MB": ("E_SAFETENSORS", named("a" * 1_000_000)),
    "D052-metadata-as-tensor": ("E_SAFETENSORS", named("__metadata__")),
    "D053-nan": ("E_NONFINITE", file_of(a=entry(0, 8), data=floats(0, NAN))),
    "D053-inf": ("E_NONFINITE", file_of(a=entry(0, 8), data=floats(-INF, 0))),
    "D053-bf16-nan": ("E_NONFINITE", file_of(a=entry(0, 2, [1], "BF16"), data=b"\xc0\x7f")),
    "D053-f16-inf": ("E_NONFINITE", file_of(a=entry(0, 2, [1], "F16"), data=b"\0\x7c")),
    "D053-f64-nan": ("E_NONFINITE", file_of(a=entry(0, 8, [1], "F64"), data=struct.pack("<d", NAN))),
    "D055-200k-tensors": ("E_SAFETENSORS", file_of(b"", **{f"t{i}": entry(0, 0, [0]) for i in range(200_000)})),
    "D055-4097-tensors": ("E_SAFETENSORS", file_of(b"", **{f"t{i}": entry(0, 0, [0]) for i in range(4097)})),
    "D056-deep": ("E_SAFETENSORS", raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "D056-not-utf8": ("E_SAFETENSORS", raw(b'{"\xff":1}')),
    "D056-not-json": ("E_SAFETENSORS", raw(b"{a:1}")),
    "D056-array-root": ("E_SAFETENSORS", raw(b"[]")),
    "D056-nested-metadata": ("E_SAFETENSORS", file_of(__metadata__={"a": {"b": "c"}}, a=entry(0, 8))),
    "D056-number-in-metadata": ("E_SAFETENSORS", file_of(__metadata__={"a": 1}, a=entry(0, 8))),
    "D056-nan-in-header": ("E_SAFETENSORS", raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8))),
}


@pytest.mark.parametrize(("code", "content"), ROWS.values(), ids=ROWS.keys())
def test_bad_safetensors_is_refused(refused: Callable[..., Any], code: str, content: bytes) -> None:
    refused(code, lambda: read_safetensors(FileBytes("m.safetensors", content)))


def test_the_file_that_the_rows_are_made_from_is_accepted() -> None:
    np.testing.assert_array_equal(read_safetensors(FileBytes("m", GOOD)).tensors["a"], np.zeros(2, np.float32))


def test_d053_minus_zero_and_subnormals_are_accepted() -> None:
    content = file_of(a=entry(0, 8), data=floats(-0.0, 1e-45))
    assert read_safetensors(FileBytes("m", content)).tensors["a"].tobytes() == floats(-0.0, 1e-45)


def test_d055_4096_tensors_are_accepted() -> None:
    content = file_of(b"", **{f"t{i}": entry(0, 0, [0]) for i in range(4096)})
    assert len(read_safetensors(FileBytes("m", content)).tensors) == 4096


def test_d057_a_file_changed_after_it_was_read_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"a": np.arange(4, dtype=np.float32)}, {}))
    file = read_file(path, max_bytes=1000)
    tensors = read_safetensors(file).tensors
    with path.open("r+b") as stream:
        stream.seek(-16, 2)
        stream.write(bytes(16))
    np.testing.assert_array_equal(tensors["a"], [0, 1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        tensors["a"][0] = 1
