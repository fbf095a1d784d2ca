import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.core.errors import LabelError, PixelRangeError, ShapeError
from secure_ai.models.tensors import array_to_tensor, images_to_float, labels_to_tensor, state_digest, to_channels_last


def every_pixel() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    pixels.setflags(write=False)
    return pixels


def test_bytes_become_the_floats_of_keras() -> None:
    expected = every_pixel().astype(np.float32) / 255
    for images in (every_pixel(), torch.from_numpy(every_pixel().copy())):
        result = images_to_float(images)
        assert result.dtype == torch.float32
        assert np.array_equal(result.numpy(), expected)


def test_floats_are_kept_and_never_shared() -> None:
    array = np.random.default_rng(0).random((2, 1, 3, 3)).astype(np.float32)
    for images in (array, torch.from_numpy(array)):
        result = images_to_float(images)
        assert np.array_equal(result.numpy(), array)
        result.zero_()
        assert array.any()


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan"), float("inf")])
def test_floats_outside_the_range_are_refused(value: float) -> None:
    images = np.zeros((2, 1, 2, 2), np.float32)
    assert images_to_float(images).shape == (2, 1, 2, 2)
    images[1, 0, 1, 1] = value
    with pytest.raises(PixelRangeError, match="outside"):
        images_to_float(images)


def test_other_types_and_shapes_are_refused() -> None:
    with pytest.raises(PixelRangeError, match="unsupported type"):
        images_to_float(np.zeros((1, 1, 2, 2), np.int32))
    with pytest.raises(ShapeError):
        images_to_float(np.zeros((1, 2, 2), np.uint8))


def test_labels() -> None:
    labels = np.array([3, 0, 9], dtype=">i4")
    assert torch.equal(labels_to_tensor(labels), torch.tensor([3, 0, 9]))
    assert labels_to_tensor(torch.tensor([1], dtype=torch.uint8)).dtype == torch.int64
    for wrong in (np.array([1.0]), np.array([[1]]), np.array([True])):
        with pytest.raises(LabelError):
            labels_to_tensor(wrong)


def test_the_digest_of_a_known_state() -> None:
    state = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor(7)}
    text = b"'a' torch.int64 ()\n" + np.int64(7).tobytes()
    text += b"'b' torch.float32 (2,)\n" + np.array([1, -2], np.float32).tobytes()
    assert state_digest(state) == hashlib.sha256(text).hexdigest()


def test_the_digest_depends_on_content_and_not_on_layout() -> None:
    weights = torch.rand(4, 3, 2, 2)
    digest = state_digest({"w": weights, "v": torch.zeros(0)})
    assert state_digest({"v": torch.zeros(0), "w": weights.contiguous(memory_format=torch.channels_last)}) == digest
    changed = weights.clone()
    changed[0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0], torch.tensor(2.0))
    for other in (changed, weights.double(), weights.reshape(3, 4, 2, 2)):
        assert state_digest({"w": other, "v": torch.zeros(0)}) != digest
    assert state_digest({"w": weights, "u": torch.zeros(0)}) != digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.float64, torch.complex64])
def test_every_type_has_a_digest(dtype: torch.dtype) -> None:
    ones = torch.ones(3).to(dtype)
    assert state_digest({"w": ones}) != state_digest({"w": torch.zeros(3).to(dtype)})


def test_channels_last_changes_layout_only() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(1, 1, 2), nn.Linear(2, 2))
    before = state_digest(network.state_dict())
    to_channels_last(network)
    weight = network[0].get_parameter("weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert state_digest(network.state_dict()) == before


def test_a_tensor_of_an_array_is_its_own() -> None:
    array = every_pixel()
    tensor = array_to_tensor(array)
    tensor.zero_()
    assert array.max() == 255
