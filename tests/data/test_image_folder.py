"""Image folders: classes by name, pixels exactly as stored, and the conversion table row by row."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secure_ai.core.errors import FileMissingError, FormatError, ShapeError, UsageError
from secure_ai.data.folder import load_folder
from secure_ai.data.image_file import CONVERSIONS, decode_image
from secure_ai.data.source import load_data
from secure_ai.files.open import FileBytes


def grey(seed: int, height: int = 5, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def png(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def write(root: Path, **classes: list[bytes]) -> Path:
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for number, content in enumerate(images):
            (root / name / f"{number}.png").write_bytes(content)
    return root


def test_classes_in_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, zebra=[png(grey(0))], ant=[png(grey(1)), png(grey(2))], Bee=[png(grey(3))])
    data = load_folder(tmp_path)
    assert data.labels.tolist() == [0, 1, 1, 2]  # Bee, ant, zebra: by code point
    assert [image[0].tolist() for image in data.images] == [grey(seed).tolist() for seed in (3, 1, 2, 0)]
    assert (data.classes, data.name, data.input_shape) == (3, tmp_path.name, (1, 5, 4))


def test_colour_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    write(tmp_path, a=[png(pixels)])
    assert (load_folder(tmp_path).images[0] == pixels.transpose(2, 0, 1)).all()


def test_train_and_test_folders(tmp_path: Path) -> None:
    write(tmp_path / "train", a=[png(grey(0))], b=[png(grey(1))])
    write(tmp_path / "test", a=[png(grey(2))], b=[png(grey(3))])
    train, test = load_folder(tmp_path, split="train"), load_folder(tmp_path, split="test")
    assert train.images[0, 0].tolist() == grey(0).tolist()
    assert test.images[0, 0].tolist() == grey(2).tolist()
    assert (train.name, test.name) == (f"{tmp_path.name}:train", f"{tmp_path.name}:test")


def test_a_split_without_one_of_the_classes_numbers_the_others_alike(tmp_path: Path) -> None:
    write(tmp_path / "train", a=[png(grey(0))], b=[png(grey(1))], d=[png(grey(2))])
    write(tmp_path / "test", a=[png(grey(3))], c=[png(grey(4))], d=[png(grey(5))])
    train, test = load_folder(tmp_path, split="train"), load_folder(tmp_path, split="test")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 3], [0, 2, 3])
    assert (train.classes, test.classes) == (4, 4)


def test_a_missing_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train", a=[png(grey(0))])
    assert len(load_folder(tmp_path, split="train")) == 1
    with pytest.raises(FileMissingError):
        load_folder(tmp_path, split="test")
    with pytest.raises(UsageError):
        load_folder(tmp_path, split="all")


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    write(tmp_path, train=[png(grey(0))], test=[png(grey(1))])
    assert load_folder(tmp_path, split="test").labels.tolist() == [0, 1]


def test_hidden_names_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, a=[png(grey(0))])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    assert len(load_folder(tmp_path)) == 1


def test_the_record_says_what_was_stored_and_not_used(tmp_path: Path) -> None:
    palette = Image.fromarray(np.stack([grey(1)] * 3, axis=2)).convert("P")
    colour = np.stack([grey(2)] * 3, axis=2)
    write(tmp_path, a=[png(palette), png(colour, icc_profile=b"profile")])
    events: list[tuple[str, Mapping[str, Any]]] = []
    load_folder(tmp_path, events=lambda kind, event: events.append((kind, event)))
    record = {"folder": tmp_path.name, "stored_modes": {"P": 1, "RGB": 1}, "not_used": {"iCCP": 1}}
    assert events == [("images_decoded", record)]


RGB = np.stack([grey(1), grey(2), grey(3)], axis=2)
OPAQUE = np.full((5, 4, 1), 255, np.uint8)
EXACT = {
    "L": (grey(1), grey(1)[np.newaxis]),
    "RGB": (RGB, RGB.transpose(2, 0, 1)),
    "1": (grey(1) > 100, ((grey(1) > 100) * np.uint8(255))[np.newaxis]),
    "LA": (np.concatenate([grey(1)[..., np.newaxis], OPAQUE], axis=2), grey(1)[np.newaxis]),
    "RGBA": (np.concatenate([RGB, OPAQUE], axis=2), RGB.transpose(2, 0, 1)),
}


@pytest.mark.parametrize("mode", EXACT)
def test_each_row_of_the_table_is_exact(mode: str) -> None:
    stored, expected = EXACT[mode]
    decoded = decode_image(FileBytes("f", png(stored)))
    assert decoded.stored_mode == mode
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.pixels == expected).all()


def test_palette_images_give_their_colours() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode=None).convert("P")
    image.putdata([0, 1, 2, 1])
    image.putpalette([9, 8, 7, 60, 50, 40, 255, 0, 128])
    decoded = decode_image(FileBytes("f", png(image)))
    assert decoded.pixels.transpose(1, 2, 0).reshape(-1, 3).tolist() == [
        [9, 8, 7],
        [60, 50, 40],
        [255, 0, 128],
        [60, 50, 40],
    ]


def test_the_table_has_no_row_without_a_test() -> None:
    assert set(CONVERSIONS) == {*EXACT, "P"}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": Image.Exif()}])
def test_jpeg_gives_what_pillow_gives(options: dict[str, Any]) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "JPEG", quality=90, **options)
    decoded = decode_image(FileBytes("f", stream.getvalue()))
    with Image.open(stream) as image:
        assert (decoded.pixels.transpose(1, 2, 0) == np.asarray(image)).all()


@pytest.mark.parametrize("names", [("Train", "Val"), ("TRAIN", "validation"), ("train", "valid")])
def test_splits_are_known_in_any_case_and_by_their_other_names(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        write(tmp_path / name, a=[png(grey(number))], b=[png(grey(5))])
    assert load_folder(tmp_path, split="val").images[0, 0].tolist() == grey(1).tolist()
    with pytest.raises(FileMissingError) as caught:
        load_folder(tmp_path, split="test")
    assert caught.value.hint.startswith("--split ")


def test_text_beside_images_is_skipped_and_counted_and_anything_else_is_not(tmp_path: Path) -> None:
    write(tmp_path, a=[png(grey(0))], b=[png(grey(1))])
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    data = load_folder(tmp_path)
    assert (len(data), data.classes) == (2, 2)
    assert data.note.startswith("3 files")
    (tmp_path / "a" / "model.pkl").write_bytes(b"x")
    with pytest.raises(FormatError):
        load_folder(tmp_path)


def test_grey_images_among_colour_ones_get_three_equal_channels(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    write(tmp_path, a=[png(grey(0)), png(colour)], b=[png(grey(1))])
    data = load_folder(tmp_path)
    assert data.input_shape == (3, 5, 4)
    assert [image.tolist() for image in data.images[0]] == [grey(0).tolist()] * 3
    assert (data.images[1] == colour.transpose(2, 0, 1)).all()
    assert data.note.startswith("2 grey images")


def test_classes_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path / "train", ant=[png(grey(0))], bee=[png(grey(1))])
    write(tmp_path / "test", bee=[png(grey(2)), png(grey(3))])
    data = load_data(str(tmp_path))
    assert (data.class_names, data.labels.tolist()) == (("ant", "bee"), [1, 1])
    assert load_data(f"{tmp_path}:1").class_names == ("ant", "bee")


def test_images_of_different_sizes_are_refused_with_the_option_that_works(tmp_path: Path) -> None:
    write(tmp_path, a=[png(grey(0)), png(grey(1, 9, 6))], b=[png(grey(2, 4, 4))])
    with pytest.raises(ShapeError) as caught:
        load_folder(tmp_path)
    option, size, *_ = caught.value.hint.split()
    assert option == "--resize"
    data = load_data(str(tmp_path), resize=int(size))
    assert data.input_shape == (1, 4, 4)
    assert (data.images[2, 0] == grey(2, 4, 4)).all()  # of that size already
    assert (data.images[1, 0] == np.asarray(Image.fromarray(grey(1, 9, 6)).resize((4, 4), 2))).all()  # 2: bilinear
    assert "4x4" in data.note


@pytest.mark.parametrize("size", [0, -1, 100_000])
def test_a_size_that_no_image_gets_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path, a=[png(grey(0))], b=[png(grey(2))])
    with pytest.raises(UsageError):
        load_data(str(tmp_path), resize=size)


def test_what_was_skipped_and_resized_stands_beside_how_images_were_drawn(tmp_path: Path) -> None:
    write(tmp_path, a=[png(grey(0)), png(grey(1))], b=[png(grey(2)), png(grey(3))])
    (tmp_path / "a" / "notes.txt").write_text("x")
    for text in (f"{tmp_path}:2", f"{tmp_path}~2"):
        note = load_data(text, resize=3).note
        assert ("1 files" in note, "3x3" in note, "2" in note) == (True, True, True)
        assert (load_data(text).drawn, "sample" in note) == (("first" if ":2" in text else "stratified"), True)


def test_the_validation_split_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "train", a=[png(grey(0))])
    write(tmp_path / "val", a=[png(grey(1))])
    assert load_data(str(tmp_path), split="val").images[0, 0].tolist() == grey(1).tolist()
