"""One PNG or JPEG image to pixels, strictly: limits before decoding, pixels as stored, and a written conversion table.

A PNG is taken apart first (W3C PNG specification, sections 5 and 11.2): only the chunks that make the pixels reach the
decoder, so a compressed text, an animation or a colour profile is never opened, and nothing may follow the last chunk.
EXIF orientation and colour profiles are not applied: the pixels are those that a training pipeline would have read.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import FormatError, ImageError, SizeLimitError
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import MIB, FileBytes

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_BYTES = 16 * MIB
MAX_PIXELS = 4_000_000
MAX_TEXT_BYTES = MIB  # of all texts of an image together
MAX_PARTS = 10_000  # chunks of a PNG, segments of a JPEG; encoders write one for 8 KiB of pixels
MAX_JPEG_SCANS = 100  # a progressive JPEG has about ten; thousands make the decoder run for hours
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in the data of a scan these are no markers
ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")

# Pillow's mode -> (mode of the result, rule). Every other mode is refused: 16 and 32 bit, CMYK, YCbCr, LAB.
CONVERSIONS = {
    "L": ("L", "as stored"),
    "RGB": ("RGB", "as stored"),
    "1": ("L", "black 0, white 255"),
    "P": ("RGB", "colours of the palette"),
    "LA": ("L", "only where every pixel is opaque"),
    "RGBA": ("RGB", "only where every pixel is opaque"),
}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels (C, H, W) uint8 with C 1 or 3, the mode they were stored in, and what the file held that was not used."""

    pixels: NDArray[np.uint8]
    stored_mode: str
    unused: tuple[str, ...]


@refuses_with(ImageError)
def decode_image(file: FileBytes) -> DecodedImage:
    """The pixels of a PNG or JPEG file, detected by content.

    Raises:
        FormatError: neither PNG nor JPEG.
        SizeLimitError: more than 4,000,000 pixels, or a part that inflates too far.
        ImageError: damaged, animated, 16 bit, transparent, of an unsupported mode, or followed by other data.
    """
    content = file.content
    if content.startswith(PNG_SIGNATURE):
        content, unused = _strip_png(content, file.name)
        return _decode(content, "PNG", unused, file.name)
    if content.startswith(JPEG_SIGNATURE):
        end = _jpeg_end(content, file.name)
        behind = ("bytes behind the image",) if end < len(content) else ()  # cameras put previews there
        return _decode(content[:end], "JPEG", behind, file.name)
    raise FormatError("not an image this tool reads", where=file.name, expected="PNG or JPEG", got=content[:8])


def _strip_png(content: bytes, where: str) -> tuple[bytes, tuple[str, ...]]:
    """The PNG with only the chunks that make its pixels, and the names of the others."""
    kept = [PNG_SIGNATURE]
    names: list[bytes] = []
    position, text_bytes = len(PNG_SIGNATURE), 0
    while names[-1:] != [b"IEND"]:
        if len(names) >= MAX_PARTS:
            raise SizeLimitError("too many PNG chunks", where=where, expected=f"<= {MAX_PARTS}")
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        chunk = content[position:end]
        if len(chunk) < 12 or end > len(content):
            raise ImageError("the PNG is cut off", where=where, got=f"{len(content)} bytes")
        name, body = chunk[4:8], chunk[8:-4]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ImageError("a PNG chunk is damaged", where=f"{where}, byte {position}", got=name)
        if (name == b"IHDR") != (not names):
            raise ImageError("the PNG header stands in the wrong place", where=f"{where}, byte {position}", got=name)
        _check_chunk(name, body, where)
        if name == b"zTXt":
            text_bytes += _text_bytes(body, MAX_TEXT_BYTES - text_bytes, where)
        names.append(name)
        if name in PIXEL_CHUNKS:
            kept.append(chunk)
        position = end
    if position != len(content):
        got = f"{len(content) - position} bytes"
        raise ImageError("bytes stand after the PNG", where=where, expected="nothing after IEND", got=got)
    unused = {name.decode("latin-1") for name in names if name not in PIXEL_CHUNKS}
    return b"".join(kept), tuple(sorted(unused))


def _jpeg_end(content: bytes, where: str) -> int:
    """Where the image ends, by a walk over its segments (ITU-T T.81, annex B), of which few may be scans."""
    position, scans, segments = 2, 0, 0
    while content[position : position + 2] != b"\xff\xd9":
        segments += 1
        if segments > MAX_PARTS:
            raise SizeLimitError("too many JPEG segments", where=where, expected=f"<= {MAX_PARTS}")
        if content[position : position + 1] != b"\xff" or len(content) < position + 4:
            raise ImageError("the JPEG is damaged or cut off", where=f"{where}, byte {position}", got=len(content))
        marker = content[position + 1]
        if marker == 0xFF:  # a byte of filling
            position += 1
            continue
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xDA:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise SizeLimitError("too many scans", where=where, expected=f"<= {MAX_JPEG_SCANS}")
            found = _JPEG_MARKER.search(content, position)
            position = found.start() if found else len(content)
    return position + 2


def _check_chunk(name: bytes, body: bytes, where: str) -> None:
    if name == b"IHDR":
        if len(body) != 13:
            raise ImageError("the PNG header is damaged", where=where, expected="13 bytes", got=len(body))
        width, height, depth = struct.unpack(">IIB", body[:9])
        _check_size(width, height, where)
        if depth == 16:
            raise ImageError("16-bit images are not read", where=where, expected="at most 8 bits a channel")
    if name in ANIMATION_CHUNKS:
        raise ImageError("an animated PNG", where=where, expected="one frame", got=name)


def _text_bytes(body: bytes, most: int, where: str) -> int:
    """How long the compressed text is; it must not be longer than `most`."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body.partition(b"\x00")[2][1:], most + 1)
    except zlib.error as error:
        raise ImageError("a PNG text is damaged", where=where, got=error) from None
    if len(text) > most:
        raise SizeLimitError("PNG texts inflate too far", where=where, expected=f"<= {MAX_TEXT_BYTES} bytes")
    return len(text)


def _check_size(width: int, height: int, where: str) -> None:
    if not (width and height):
        raise ImageError("an image without pixels", where=where, got=f"{width}x{height}")
    if width * height > MAX_PIXELS:
        got = f"{width}x{height}"
        raise SizeLimitError("too many pixels", where=where, expected=f"<= {MAX_PIXELS}", got=got)


def _decode(content: bytes, form: str, unused: tuple[str, ...], where: str) -> DecodedImage:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content), formats=[form]) as image:
                _check_size(image.width, image.height, where)
                frames = getattr(image, "n_frames", 1)
                if frames != 1:
                    raise ImageError("several frames", where=where, expected="one", got=frames)
                image.load()
                found = (*unused, *(key for key in ("exif", "icc_profile") if key in image.info))
                return DecodedImage(_to_pixels(image, where), image.mode, found)
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        Warning,
        Image.DecompressionBombError,
    ) as error:
        raise ImageError("the image cannot be decoded", where=where, got=error) from None


def _to_pixels(image: Image, where: str) -> NDArray[np.uint8]:
    if image.mode not in CONVERSIONS:
        raise ImageError("unsupported kind of image", where=where, expected=", ".join(CONVERSIONS), got=image.mode)
    mode, _ = CONVERSIONS[image.mode]
    if "transparency" in image.info:
        raise ImageError("a transparent image", where=where, expected="opaque pixels", got=image.mode)
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() != (255, 255):
        raise ImageError("a transparent image", where=where, expected="opaque pixels", got=image.mode)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[np.newaxis] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
