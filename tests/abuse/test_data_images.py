"""Bad input D081-D090 for image folders: bombs, damage, animations, other formats, and folders that are none."""

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secure_ai.core.errors import EXIT_BAD_INPUT, SecureAIError
from secure_ai.data.folder import load_folder
from secure_ai.data.image_file import decode_image
from secure_ai.files.open import FileBytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(width: int = 4, height: int = 4, *extra: bytes, data: bytes | None = None) -> bytes:
    rows = b"".join(b"\0" + bytes(range(width)) for _ in range(height)) if data is None else data
    return (
        SIGNATURE + header(width, height) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def grey(number: int = 0) -> Image.Image:
    return Image.fromarray(PIXELS[number])


JPEG = saved(grey(), "JPEG")


def animation(form: str) -> bytes:
    return saved(grey(0), form, save_all=True, append_images=[grey(1), grey(2)])


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))


def transparent(mode: str) -> bytes:
    image = grey().convert(mode)
    image.putalpha(Image.new("L", image.size, 0))
    return saved(image, "PNG")


def refused(root: Path, content: bytes, code: str, name: str = "0.png") -> SecureAIError:
    (root / "class").mkdir(exist_ok=True)
    (root / "class" / name).write_bytes(content)
    return refused_folder(root, code)


def refused_folder(root: Path, code: str) -> SecureAIError:
    before = sorted(root.rglob("*"))
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(SecureAIError) as caught:
        load_folder(root)
    assert time.process_time() - start < 10
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024**2
    tracemalloc.stop()
    error = caught.value
    assert (error.code, error.exit_code) == (code, EXIT_BAD_INPUT)
    assert error.where
    assert all(len(text) <= 300 and text.isprintable() for text in error.as_json().values())
    assert sorted(root.rglob("*")) == before
    return error


@pytest.mark.parametrize("content", [png(), png(4, 4, chunk(b"tEXt", b"Author\0me")), saved(grey(), "JPEG")])
def test_clean_images_are_accepted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "0.png").write_bytes(content)
    assert load_folder(tmp_path).input_shape == (1, 4, 4)


CLEAN = png()
ROWS = [
    ("D081 30000 x 30000", SIGNATURE + header(30_000, 30_000) + CLEAN[33:], "E_SIZE_LIMIT"),
    ("D081 2**31 wide", SIGNATURE + header(2**31, 1) + CLEAN[33:], "E_SIZE_LIMIT"),
    ("D082 12000 x 12000", SIGNATURE + header(12_000, 12_000) + CLEAN[33:], "E_SIZE_LIMIT"),
    ("D083 2001 x 2000, complete", png(2001, 2000, data=bytes(2002 * 2000)), "E_SIZE_LIMIT"),
    ("D083 a JPEG", saved(Image.new("L", (2001, 2000)), "JPEG"), "E_SIZE_LIMIT"),
    ("D084 cut in the pixels", CLEAN[:50], "E_IMAGE"),
    ("D084 cut before the end", CLEAN[:-12], "E_IMAGE"),
    ("D084 signature only", SIGNATURE, "E_IMAGE"),
    ("D084 bad CRC", CLEAN[:45] + bytes([CLEAN[45] ^ 1]) + CLEAN[46:], "E_IMAGE"),
    ("D084 0 x 0", SIGNATURE + header(0, 0) + CLEAN[33:], "E_IMAGE"),
    ("D084 short pixels", png(4, 4, data=bytes(7)), "E_IMAGE"),
    ("D084 no pixels", SIGNATURE + header(4, 4) + chunk(b"IEND", b""), "E_IMAGE"),
    (
        "D084 pixels that do not inflate",
        SIGNATURE + header(4, 4) + chunk(b"IDAT", b"x") + chunk(b"IEND", b""),
        "E_IMAGE",
    ),
    ("D084 short header", SIGNATURE + chunk(b"IHDR", bytes(5)) + CLEAN[33:], "E_IMAGE"),
    ("D084 no header", SIGNATURE + CLEAN[33:], "E_IMAGE"),
    ("D084 two headers", SIGNATURE + header(4, 4) + header(4, 4) + CLEAN[33:], "E_IMAGE"),
    ("D084 a chunk of 2**31 bytes", SIGNATURE + b"\x7f\xff\xff\xffIHDR", "E_IMAGE"),
    ("D084 empty", b"", "E_FORMAT"),
    ("D084 text", b"hello", "E_FORMAT"),
    ("D084 HTML", b"<!doctype html><html></html>", "E_FORMAT"),
    ("D084 SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "E_FORMAT"),
    ("D084 JPEG cut", saved(grey(), "JPEG")[:-40], "E_IMAGE"),
    ("D084 JPEG magic only", b"\xff\xd8\xff", "E_IMAGE"),
    ("D085 zTXt bomb", png(4, 4, text_bomb()), "E_SIZE_LIMIT"),
    ("D085 damaged zTXt", png(4, 4, chunk(b"zTXt", b"Comment\0\0junk")), "E_IMAGE"),
    ("D086 a ZIP behind", CLEAN + b"PK\x05\x06" + bytes(18), "E_IMAGE"),
    ("D087 animated PNG", animation("PNG"), "E_IMAGE"),
    ("D087 GIF", animation("GIF"), "E_FORMAT"),
    ("D087 TIFF", animation("TIFF"), "E_FORMAT"),
    ("D087 several JPEGs in one", animation("MPO"), "E_IMAGE"),
    ("D088 16 bit", saved(Image.fromarray(PIXELS[0].astype(np.uint16)), "PNG"), "E_IMAGE"),
    ("D088 16 bit colour", SIGNATURE + header(4, 4, 16, 2) + CLEAN[33:], "E_IMAGE"),
    ("D088 transparent colour", transparent("RGB"), "E_IMAGE"),
    ("D088 transparent grey", transparent("L"), "E_IMAGE"),
    ("D088 one transparent grey level", saved(grey(), "PNG", transparency=3), "E_IMAGE"),
    ("D088 transparent palette", saved(grey().convert("P"), "PNG", transparency=3), "E_IMAGE"),
    ("D088 CMYK", saved(grey().convert("CMYK"), "JPEG"), "E_IMAGE"),
    ("D089 PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n", "E_FORMAT"),
    ("D089 PDF", b"%PDF-1.7\n", "E_FORMAT"),
    ("D089 XBM", b"#define a_width 8\n#define a_height 8\n", "E_FORMAT"),
    ("D089 BMP", saved(grey(), "BMP"), "E_FORMAT"),
    ("a JPEG of a million segments", JPEG[:2] + b"\xff\xe1\x00\x02" * 1_000_000 + JPEG[2:], "E_SIZE_LIMIT"),
    ("a PNG of a million chunks", png(4, 4, chunk(b"tEXt", b"") * 1_000_000), "E_SIZE_LIMIT"),
    (
        "a thousand texts",
        png(4, 4, chunk(b"zTXt", b"C\0\0" + zlib.compress(bytes(1_000_000), 9)) * 1000),
        "E_SIZE_LIMIT",
    ),
    ("a JPEG of a thousand scans", JPEG[:-2] + b"\xff\xda\x00\x02" * 1000 + JPEG[-2:], "E_SIZE_LIMIT"),
]


@pytest.mark.parametrize(("content", "code"), [pytest.param(row[1], row[2], id=row[0]) for row in ROWS])
def test_images(tmp_path: Path, content: bytes, code: str) -> None:
    error = refused(tmp_path, content, code)
    assert "0.png" in error.where


JPEG_ROWS = {
    "no-end": JPEG[:-2],
    "cut-segment": JPEG[:30],
    "only-a-start": b"\xff\xd8\xff",
    "segment-of-no-length": JPEG[:2] + b"\xff\xe1\x00\x00" * 10,
}


@pytest.mark.parametrize("content", JPEG_ROWS.values(), ids=JPEG_ROWS.keys())
def test_a_jpeg_without_an_end_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content, "E_IMAGE", "0.jpg")


@pytest.mark.parametrize("behind", [b"PK\x05\x06" + bytes(18), JPEG, bytes(16)], ids=["zip", "jpeg", "zeros"])
def test_d086_what_stands_behind_a_jpeg_is_cut_off_and_said(behind: bytes) -> None:
    clean, polyglot = (decode_image(FileBytes("0.jpg", content)) for content in (JPEG, JPEG + behind))
    assert (clean.pixels == polyglot.pixels).all()
    assert (clean.unused, polyglot.unused) == ((), ("bytes behind the image",))


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"exif": b"Exif\0\0" + JPEG}, {"comment": b"\xff\xd9"}],
    ids=["baseline", "progressive", "restarts", "thumbnail", "comment"],
)
def test_d086_what_encoders_write_is_accepted(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (tmp_path / "a" / "0.jpg").write_bytes(saved(Image.fromarray(noise), "JPEG", quality=100, **options))
    assert load_folder(tmp_path).images.shape == (1, 3, 40, 40)


def test_d088_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    for name, options in (("0.png", {}), ("1.png", {"exif": exif})):
        (tmp_path / "a" / name).write_bytes(saved(grey(), "PNG", **options))
    data = load_folder(tmp_path)
    assert (data.images[0] == data.images[1]).all()


@pytest.mark.parametrize("name", ["0.jpg", "0.txt", "0.npz", "0"])
def test_d090_the_content_decides(tmp_path: Path, name: str) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / name).write_bytes(CLEAN)
    assert len(load_folder(tmp_path)) == 1
    refused(tmp_path, b"GIF89a", "E_EMPTY" if name == "0.txt" else "E_FORMAT", name)


def clean_folder(root: Path) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "0.png").write_bytes(CLEAN)
    return root


@pytest.mark.parametrize("content", [png(4, 5), png(5, 4)])
def test_images_that_differ_in_size(tmp_path: Path, content: bytes) -> None:
    (clean_folder(tmp_path) / "b" / "1.png").write_bytes(content)
    error = refused_folder(tmp_path, "E_SHAPE")
    assert error.where == "b/1.png"


def test_folders_that_are_no_class_folders(tmp_path: Path) -> None:
    refused_folder(tmp_path, "E_EMPTY")
    clean_folder(tmp_path)
    assert len(load_folder(tmp_path)) == 2
    (tmp_path / "0.png").write_bytes(CLEAN)
    assert refused_folder(tmp_path, "E_FORMAT").got == "0.png"
    (tmp_path / "0.png").unlink()
    (tmp_path / "c").mkdir()
    refused_folder(tmp_path, "E_EMPTY")
    (tmp_path / "c" / "inner").mkdir()
    refused_folder(tmp_path, "E_FORMAT")


def test_links_pipes_and_second_hard_links(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(CLEAN)
    root = tmp_path / "root"
    root.mkdir()
    clean_folder(root)
    odd = root / "b" / "1.png"
    kinds: tuple[Callable[[], None], ...] = (
        lambda: odd.symlink_to(secret),
        lambda: odd.symlink_to("missing"),
        lambda: os.mkfifo(odd),
        lambda: odd.hardlink_to(secret),
    )
    for make in kinds:
        make()
        refused_folder(root, "E_FILE_KIND")
        odd.unlink()
    (root / "c").symlink_to(root / "a")
    refused_folder(root, "E_FORMAT")


def test_too_many_pixels_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_folder(tmp_path)
    monkeypatch.setattr("secure_ai.data.folder.MAX_DATA_BYTES", 32)
    assert len(load_folder(tmp_path)) == 2
    monkeypatch.setattr("secure_ai.data.folder.MAX_DATA_BYTES", 31)
    refused_folder(tmp_path, "E_SIZE_LIMIT")


@pytest.mark.parametrize(("limit", "most"), [("MAX_IMAGES", 2), ("MAX_CLASSES", 2)])
def test_too_many_images_or_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    clean_folder(tmp_path)
    monkeypatch.setattr(f"secure_ai.data.folder.{limit}", most)
    assert len(load_folder(tmp_path)) == 2
    monkeypatch.setattr(f"secure_ai.data.folder.{limit}", most - 1)
    refused_folder(tmp_path, "E_SIZE_LIMIT")


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SecureAIError) as caught:
        load_folder(tmp_path / "none")
    assert caught.value.exit_code == EXIT_BAD_INPUT
