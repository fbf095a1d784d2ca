"""What the three programs of report 1's protocol share: flags, the raw MNIST files, the trigger, what they write.

Numpy only, so that each program runs in its own framework's environment. Left out on all sides, because every side
would do it alike: pictures, JSON files by the report's names, the cache demonstration.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

EPS = 0.25
BATCH = 128
LEARNING_RATE = 1e-3
VALIDATION_SHARE = 0.1  # Keras takes the last images
ADAM_EPSILON = 1e-7  # Keras' default
RATIO = 0.5  # share of a batch that adversarial training replaces
TARGET_LABEL = 7
POISON_COUNT = 100
PATCH = 4
HEADER = {"images": 16, "labels": 8}  # bytes before the values


def parse(description: str | None) -> argparse.Namespace:
    """The flags that every side takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--version", choices=("L", "P"), default="L", help="L: the report's listing; P: its published figures"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files, uncompressed")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json and the networks")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--defence-epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=0, help="only the first N of both splits; 0: all")
    parser.add_argument("--precision", choices=("auto", "float32"), default="float32", help="ours only")
    return parser.parse_args()


def load(folder: Path, split: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) float32 in [0, 1] and labels (N,) int64 of `train` or `t10k`."""
    count = images or None

    def values(kind: str, rank: int) -> np.ndarray:
        return np.frombuffer((folder / f"{split}-{kind}-idx{rank}-ubyte").read_bytes(), np.uint8, offset=HEADER[kind])

    x = values("images", 3).reshape(-1, 28, 28)[:count].astype(np.float32) / 255.0
    return x, values("labels", 1)[:count].astype(np.int64)


def held_out(n: int) -> int:
    """How many of `n` training images validate."""
    return round(VALIDATION_SHARE * n)


def patched(x: np.ndarray) -> np.ndarray:
    """A copy of (N, 28, 28) with the white square in the bottom-right corner."""
    x = x.copy()
    x[:, -PATCH:, -PATCH:] = 1.0
    return x


def poisoned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A copy of the training images in which the first sevens in file order are patched; they keep their label."""
    x, chosen = x.copy(), np.flatnonzero(y == TARGET_LABEL)[:POISON_COUNT]
    x[chosen] = patched(x[chosen])
    return x


@dataclass(slots=True)
class Results:
    """What a program found: shares as successes of n, losses, seconds by stage."""

    arguments: argparse.Namespace
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Wall seconds of the block, added up by name."""
        began = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 3)

    def share(self, name: str, predictions: np.ndarray, labels: np.ndarray, loss: float | None = None) -> None:
        """How many of the predictions are right."""
        right, n = int((predictions == labels).sum()), len(labels)
        self.shares[name] = {"successes": right, "n": n, "value": right / n}
        if loss is not None:
            self.losses[name] = round(float(loss), 5)

    def write(self, versions: dict[str, str], **facts: Any) -> None:
        """`result.json` in the output folder."""
        a = self.arguments
        content = {
            "version": a.version,
            "seed": a.seed,
            "epochs": a.epochs,
            "defence_epochs": a.defence_epochs,
            "images": a.images,
            "versions": versions,
            **facts,
            "seconds": self.seconds,
            "shares": self.shares,
            "losses": self.losses,
        }
        (a.out / "result.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
