"""A user's small model: 15,862 parameters, colour images of 32 x 32 in ten classes, trained in seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _package import to_channels_last

IMAGES, CLASSES, EPOCHS = 1000, 10, 6
NETWORK = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 36, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(36, 10),
    )
"""


def images_of(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 32) uint8 and (N,) labels: stripes of a class's own colour, width and slant, shifted, under noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    rows, columns = np.mgrid[0:32, 0:32]
    angle = np.pi * y / CLASSES
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    waves = np.sin(along * (0.4 + 0.06 * y)[:, None, None] + rng.uniform(0, 6.28, (count, 1, 1)))
    colour = 0.2 + 0.15 * np.stack([np.cos(y), np.sin(y), np.cos(2 * y)], axis=1)
    pixels = 0.5 + colour[:, :, None, None] * waves[:, None] + rng.normal(0, 0.15, (count, 3, 32, 32))
    return (255 * pixels.clip(0, 1)).round().astype(np.uint8), y


def passes_seconds(data: Path, forward: int, backward: int) -> float:
    """What so many passes cost the bare network, 256 images at once in the fast memory layout, with torch's threads.

    Args:
        forward: images passed forward; backward: those of them passed back, too.
    """
    network = to_channels_last(_built()).requires_grad_(False)
    x = torch.from_numpy(np.load(data)["x"][:256]).float().div(255).contiguous(memory_format=torch.channels_last)

    def back() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(network(leaf).sum(), leaf)

    def only_forward() -> None:
        with torch.no_grad():
            network(x)

    both, one = _seconds(back), _seconds(only_forward)
    return (backward * both + (forward - backward) * one) / len(x)


def _seconds(call: Callable[[], None], times: int = 15) -> float:
    call()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def _built() -> torch.nn.Module:
    space: dict[str, object] = {}
    exec(NETWORK, space)  # the text above
    build = space["build"]
    if not callable(build):
        raise TypeError("no factory")
    network: torch.nn.Module = build()
    return network


def make(folder: Path) -> tuple[Path, Path, Path]:
    """Model file, the file of its factory, and the images to attack, in `folder`."""
    torch.manual_seed(0)
    network = _built()
    x, y = images_of(4000, 1)
    inputs, labels = torch.from_numpy(x).float() / 255, torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[part]), labels[part]).backward()
            optimizer.step()
    model, factory, data = folder / "mine.pt", folder / "net.py", folder / "mine.npz"
    torch.save(network.state_dict(), model)
    factory.write_text(NETWORK, encoding="utf-8")
    x, y = images_of(IMAGES, 2)
    np.savez(data, x=x, y=y)
    return model, factory, data
