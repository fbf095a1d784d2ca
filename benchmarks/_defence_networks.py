"""Networks of the benchmark of defences, as users hand over theirs: `--arch benchmarks/_defence_networks.py:NAME`."""

from torch import nn


def small_cnn() -> nn.Module:
    """The network of TRADES' MNIST figures (1901.08573, section 5.2) without its dropout: 312,202 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10),
    )  # fmt: skip


def strided() -> nn.Module:
    """The network of "Fast is better than free" (2001.03994, section 5.1): no pooling, cheap to pass 100,000 times."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
