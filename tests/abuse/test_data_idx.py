"""Bad input D001-D014: IDX and gzip files that are malformed, lie about their size, or belong elsewhere."""

import gzip
import math
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from secure_ai.core.errors import EXIT_BAD_INPUT, SecureAIError
from secure_ai.data.dataset import Dataset
from secure_ai.data.idx import read_idx_images, read_idx_labels
from secure_ai.data.idx_folder import load_idx_folder
from secure_ai.data.splits import refuse_leak
from secure_ai.files.open import FileBytes

IMAGES = "t10k-images-idx3-ubyte"
LABELS = "t10k-labels-idx1-ubyte"


def header(magic: int, *dimensions: int) -> bytes:
    return struct.pack(f">{1 + len(dimensions)}I", magic, *dimensions)


def zipped(content: bytes) -> bytes:
    """As gzip, without the time: test ids must be the same in every process."""
    return gzip.compress(content, mtime=0)


def image_bytes(count: int = 3) -> bytes:
    return header(2051, count, 28, 28) + bytes(range(256)) * 3 + bytes(count * 784 - 768)


def label_bytes(*labels: int) -> bytes:
    return header(2049, len(labels)) + bytes(labels)


def folder(path: Path, images: bytes, labels: bytes) -> Path:
    (path / IMAGES).write_bytes(images)
    (path / LABELS).write_bytes(labels)
    return path


def refused(path: Path, code: str) -> SecureAIError:
    """Load `path`, which must be refused with `code`, quickly, cheaply, and leaving no file behind."""
    before = sorted(entry.name for entry in path.iterdir())
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(SecureAIError) as caught:
        load_idx_folder(path, split="test")
    assert time.process_time() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024**2
    tracemalloc.stop()
    error = caught.value
    assert (error.code, error.exit_code) == (code, EXIT_BAD_INPUT)
    assert error.where
    assert all(len(text) <= 300 and text.isprintable() for text in error.as_json().values())
    assert sorted(entry.name for entry in path.iterdir()) == before
    return error


def test_the_clean_pair_is_accepted(tmp_path: Path) -> None:
    data = load_idx_folder(folder(tmp_path, image_bytes(), label_bytes(0, 9, 4)), split="test")
    assert data.labels.tolist() == [0, 9, 4]


ROWS = [
    ("D001 empty", b"", "E_IDX_SHORT"),
    ("D001 three bytes", b"\0\0\x08", "E_IDX_SHORT"),
    ("D001 dimensions cut", image_bytes()[:15], "E_IDX_SHORT"),
    ("D002 first byte", b"\x01" + image_bytes()[1:], "E_IDX_MAGIC"),
    ("D002 second byte", b"\0\x80" + image_bytes()[2:], "E_IDX_MAGIC"),
    ("D002 type 07", b"\0\0\x07\x03" + image_bytes()[4:], "E_IDX_MAGIC"),
    ("D002 type 0a", b"\0\0\x0a\x03" + image_bytes()[4:], "E_IDX_MAGIC"),
    ("D002 type 10", b"\0\0\x10\x03" + image_bytes()[4:], "E_IDX_MAGIC"),
    ("D002 a valid type that pixels cannot have", b"\0\0\x0c\x03" + image_bytes()[4:], "E_IDX_MAGIC"),
    ("D002 text", b"<html>not found</html>", "E_IDX_MAGIC"),
    ("D003 no dimensions", b"\0\0\x08\0" + image_bytes()[4:], "E_IDX_RANK"),
    ("D003 255 dimensions", b"\0\0\x08\xff" + image_bytes()[4:], "E_IDX_RANK"),
    ("D003 four dimensions", b"\0\0\x08\x04" + image_bytes()[4:], "E_IDX_RANK"),
    ("D004 overflow", header(2051, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(99), "E_IDX_LENGTH"),
    ("D004 product 2**64 wraps to 0", header(2051, 2**31, 2**31, 4), "E_IDX_LENGTH"),
    ("D005 one image short", header(2051, 4, 28, 28) + image_bytes()[16:], "E_IDX_LENGTH"),
    ("D005 one byte more", image_bytes() + b"\0", "E_IDX_LENGTH"),
    ("D005 one byte less", image_bytes()[:-1], "E_IDX_LENGTH"),
    ("D006 labels for images", label_bytes(1, 2, 3), "E_IDX_MAGIC"),
    ("D007 no images", header(2051, 0, 28, 28), "E_EMPTY"),
    ("D007 another number", image_bytes(4), "E_PAIR_COUNT"),
    ("D009 NaN", b"\0\0\x0d\x03" + header(1, 28, 28) + struct.pack(">784f", *[math.nan] * 784), "E_NONFINITE"),
    ("D009 infinity", b"\0\0\x0e\x03" + header(1, 28, 28) + struct.pack(">784d", *[math.inf] * 784), "E_NONFINITE"),
    (
        "D009 float out of range",
        b"\0\0\x0d\x03" + header(1, 28, 28) + struct.pack(">784f", *[2.0] * 784),
        "E_PIXEL_RANGE",
    ),
    ("D010 784x1", header(2051, 3, 784, 1) + bytes(3 * 784), "E_SHAPE"),
    ("D010 32x32", header(2051, 3, 32, 32) + bytes(3 * 1024), "E_SHAPE"),
    ("D010 no pixels", header(2051, 3, 0, 28), "E_SHAPE"),
    ("D012 cut", zipped(image_bytes())[:-9], "E_GZIP"),
    ("D012 bad CRC", zipped(image_bytes())[:-8] + bytes(4) + zipped(image_bytes())[-4:], "E_GZIP"),
    ("D012 bad length", zipped(image_bytes())[:-4] + bytes(4), "E_GZIP"),
    ("D012 two members", zipped(image_bytes()[:800]) + zipped(image_bytes()[800:]), "E_GZIP"),
    ("D012 junk behind", zipped(image_bytes()) + b"junk", "E_GZIP"),
    ("D012 zeros behind", zipped(image_bytes()) + bytes(9), "E_GZIP"),
    ("D012 gzip in gzip", gzip.compress(zipped(image_bytes())), "E_IDX_MAGIC"),
    ("D012 gzip magic only", b"\x1f\x8b", "E_IDX_SHORT"),
    ("D005 gzip, one byte more", gzip.compress(image_bytes() + b"\0", mtime=0), "E_IDX_LENGTH"),
    ("D005 gzip, far more", zipped(image_bytes() + bytes(999)), "E_SIZE_LIMIT"),
    ("D004 gzip, overflow", gzip.compress(header(2051, 2**32 - 1, 28, 28), mtime=0), "E_SIZE_LIMIT"),
]


@pytest.mark.parametrize(("content", "code"), [pytest.param(row[1], row[2], id=row[0]) for row in ROWS])
def test_image_files(tmp_path: Path, content: bytes, code: str) -> None:
    error = refused(folder(tmp_path, content, label_bytes(0, 9, 4)), code)
    assert error.where.startswith((IMAGES, tmp_path.name))


LABEL_ROWS = [
    ("D001 empty", b"", "E_IDX_SHORT"),
    ("D003 two dimensions", header(0x0802, 3, 1) + bytes(3), "E_IDX_RANK"),
    ("D004 2**32-1 labels", header(2049, 2**32 - 1) + bytes(3), "E_IDX_LENGTH"),
    ("D006 images for labels", image_bytes(), "E_IDX_MAGIC"),
    ("D007 no labels", header(2049, 0), "E_EMPTY"),
    ("D007 one label less", label_bytes(0, 1), "E_PAIR_COUNT"),
    ("D008 label 10", label_bytes(0, 10, 1), "E_LABEL"),
    ("D008 label 255", label_bytes(0, 1, 255), "E_LABEL"),
]


@pytest.mark.parametrize(("content", "code"), [pytest.param(row[1], row[2], id=row[0]) for row in LABEL_ROWS])
def test_label_files(tmp_path: Path, content: bytes, code: str) -> None:
    refused(folder(tmp_path, image_bytes(), content), code)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(label_bytes(1, 2), "images, magic number 2051"), (image_bytes(), "labels, magic number 2049")],
)
def test_d006_the_message_says_which_kind_was_expected(content: bytes, expected: str) -> None:
    read = read_idx_images if "images" in expected else read_idx_labels
    with pytest.raises(SecureAIError) as caught:
        read(FileBytes("f", content))
    assert caught.value.expected == expected


def test_d008_the_message_names_the_label(tmp_path: Path) -> None:
    error = refused(folder(tmp_path, image_bytes(), label_bytes(0, 9, 10)), "E_LABEL")
    assert error.got == "10"
    assert "label 2" in error.where


def zero_bomb(head: bytes, mebibytes: int) -> bytes:
    """One valid gzip member: `head`, then that many MiB of zeros, about 1 kB each; one MiB is packed, and repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = bytes(1 << 20)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(head)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    tail = struct.pack("<2I", checksum, len(head) + (mebibytes << 20))
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start + block * mebibytes + b"\x03\0" + tail


def test_d011_a_gzip_bomb(tmp_path: Path) -> None:
    bomb = zero_bomb(header(2051, 1337 * 1024, 28, 28), 1023)
    assert len(bomb) < 1_200_000
    refused(folder(tmp_path, bomb, label_bytes(0)), "E_SIZE_LIMIT")


def test_d011_a_gzip_bomb_without_a_header(tmp_path: Path) -> None:
    refused(folder(tmp_path, gzip.compress(bytes(1 << 24), mtime=0), label_bytes(0)), "E_IDX_MAGIC")


@pytest.mark.parametrize("packed", [True, False])
def test_d013_content_decides_and_the_name_is_noted(tmp_path: Path, packed: bool) -> None:
    images = zipped(image_bytes()) if packed else image_bytes()
    (tmp_path / (IMAGES if packed else f"{IMAGES}.gz")).write_bytes(images)
    (tmp_path / LABELS).write_bytes(label_bytes(0, 9, 4))
    kinds: list[str] = []
    data = load_idx_folder(tmp_path, split="test", events=lambda kind, _: kinds.append(kind))
    assert len(data) == 3
    assert kinds == ["data_name_and_content_differ"]


def test_d014_one_file_for_training_and_test(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 784), dtype=np.uint8).tobytes()
    for kind in ("train", "t10k"):
        (tmp_path / f"{kind}-images-idx3-ubyte").write_bytes(header(2051, 3, 28, 28) + images)
        (tmp_path / f"{kind}-labels-idx1-ubyte").write_bytes(label_bytes(0, 9, 4))
    train: Dataset = load_idx_folder(tmp_path, split="train")
    with pytest.raises(SecureAIError) as caught:
        refuse_leak(train, load_idx_folder(tmp_path, split="test"))
    assert caught.value.code == "E_LEAK"


def test_two_refusals_read_the_same(tmp_path: Path) -> None:
    folder(tmp_path, image_bytes()[:-1], label_bytes(0, 9, 4))
    assert str(refused(tmp_path, "E_IDX_LENGTH")) == str(refused(tmp_path, "E_IDX_LENGTH"))
