"""The format is told by content alone, from files that the formats' own libraries wrote."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from secure_ai.files.sniff import Format, sniff

FIXTURES = Path(__file__).parent / "fixtures"


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def hdf5(stream: io.BytesIO) -> None:
    h5py.File(stream, "w").close()


IMAGES = np.zeros((2, 3, 3), np.uint8)
STATE = {"w": torch.zeros(2)}
FILES: dict[str, tuple[Format, bytes]] = {
    "safetensors": (Format.SAFETENSORS, save({"w": np.zeros(2, np.float32)})),
    "safetensors-with-space": (Format.SAFETENSORS, (3).to_bytes(8, "little") + b" {}"),
    "torch": (Format.TORCH_ZIP, written(lambda stream: torch.save(STATE, stream))),
    "torch-without-pickle": (Format.TORCH_ZIP, zipped("archive/version", "archive/data/0")),
    "torch-legacy": (
        Format.PICKLE,
        written(lambda stream: torch.save(STATE, stream, _use_new_zipfile_serialization=False)),
    ),
    "keras": (Format.KERAS, (FIXTURES / "keras_3_15_torch.keras").read_bytes()),
    "keras-without-config": (Format.KERAS, zipped("metadata.json", "evil.py")),
    "keras-cut": (Format.KERAS, (FIXTURES / "keras_3_15_torch.keras").read_bytes()[:2000]),
    "npz": (Format.NPZ, written(lambda stream: np.savez(stream, x=IMAGES, y=IMAGES))),
    "npz-compressed": (Format.NPZ, written(lambda stream: np.savez_compressed(stream, x=IMAGES))),
    "npy": (Format.NPY, written(lambda stream: np.save(stream, IMAGES))),
    "idx-images": (Format.IDX, b"\0\0\x08\x03" + bytes(12)),
    "idx-labels": (Format.IDX, b"\0\0\x08\x01" + bytes(4)),
    "gzip": (Format.GZIP, gzip.compress(b"x", mtime=0)),
    "hdf5": (Format.HDF5, written(hdf5)),
    "png": (Format.PNG, written(lambda stream: Image.new("L", (2, 2)).save(stream, "png"))),
    **{f"pickle-{p}": (Format.PICKLE, pickle.dumps({"a": Path("x")}, p)) for p in (2, 3, 4, 5)},
    "pickle-of-a-call-0": (Format.PICKLE, b"cos\nsystem\n(S'id'\ntR."),
    "onnx": (Format.ONNX, b"\x08\x08\x12\x07pytorch"),
    "zip-of-something": (Format.ZIP, zipped("readme.txt")),
    "zip-without-members": (Format.ZIP, zipped()),
    "text": (Format.UNKNOWN, b"import os\n"),
    "json": (Format.UNKNOWN, b'{"a": 1}'),
    "empty": (Format.UNKNOWN, b""),
    "zeros": (Format.UNKNOWN, bytes(100)),
}


@pytest.mark.parametrize(("expected", "content"), FILES.values(), ids=FILES.keys())
def test_format(expected: Format, content: bytes) -> None:
    assert sniff(content) is expected


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([content for _, content in FILES.values()]), st.binary(max_size=40), st.data())
def test_never_raises_whatever_is_changed_or_cut(content: bytes, patch: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content)))
    cut = data.draw(st.integers(0, len(content)))
    changed = content[:position] + patch + content[position + len(patch) :]
    assert sniff(changed[:cut]) in Format
    assert sniff(changed) in Format
