from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.blue.guards.transforms import (
    RANDOM,
    TRANSFORMS,
    Transformed,
    bit_depth,
    jpeg_like,
    median,
    random_resize,
)
from secure_ai.core.errors import UsageError
from secure_ai.core.seeds import generator


def smooth(n: int = 2, size: int = 28) -> torch.Tensor:
    """Images that change slowly."""
    x = torch.rand((n, 1, 5, 5), generator=generator(1))
    return nn.functional.interpolate(x, size=(size, size), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_shape_and_range_are_kept(name: str) -> None:
    x = torch.rand((3, 3, 30, 28), generator=generator(0))
    found = TRANSFORMS[name](x, generator(0))
    assert found.shape == x.shape
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not torch.equal(found, x)


def test_bit_depth_keeps_its_levels_and_only_those() -> None:
    x = torch.linspace(0, 1, 49).view(1, 1, 7, 7)
    found = bit_depth(x, generator(0), bits=2)
    assert sorted({round(float(v) * 3) for v in found.flatten()}) == [0, 1, 2, 3]
    assert torch.equal(bit_depth(found, generator(0), bits=2), found)


def test_the_median_removes_a_single_pixel_and_leaves_a_plain() -> None:
    x = torch.full((1, 1, 5, 5), 0.25)
    x[0, 0, 2, 2] = 1.0
    assert torch.equal(median(x, generator(0), size=3), torch.full((1, 1, 5, 5), 0.25))


@pytest.mark.parametrize("quality", [30, 50, 90])
def test_jpeg_like_loses_what_jpeg_loses(quality: int) -> None:
    """Against a real encoder and decoder on grey images of whole blocks: within two grey levels on average."""
    from PIL import Image

    x = smooth(1, 32)
    buffer = io.BytesIO()
    Image.fromarray((x[0, 0].numpy() * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    real = np.asarray(Image.open(buffer), dtype=np.float64)
    ours = jpeg_like((x * 255).round() / 255, generator(0), quality=quality)[0, 0].numpy() * 255
    assert float(np.abs(ours - real).mean()) < 1.0


def test_random_resize_draws_anew_and_repeats_by_seed() -> None:
    x = smooth()
    first = random_resize(x, generator(0), smallest=0.7)
    assert torch.equal(first, random_resize(x, generator(0), smallest=0.7))
    assert not torch.equal(first, random_resize(x, generator(1), smallest=0.7))
    assert torch.allclose(random_resize(x, generator(0), smallest=1.0), x, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - RANDOM))
def test_straight_through_has_the_value_of_the_guard_and_the_gradient_of_none(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    x = smooth().requires_grad_()
    plain, through = (Transformed(network, name, straight_through=s) for s in (False, True))
    assert torch.allclose(plain(x), through(x), atol=1e-5)
    wanted = torch.autograd.grad(network(x)[:, 0].sum(), x)[0]
    assert torch.allclose(torch.autograd.grad(through(x)[:, 0].sum(), x)[0], wanted, atol=1e-6)


def test_a_random_guard_answers_differently_each_time() -> None:
    guarded = Transformed(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), "resize", straight_through=False)
    assert not torch.equal(guarded(smooth()), guarded(smooth()))
    with pytest.raises(UsageError):
        Transformed(nn.Identity(), "magic", straight_through=False)
