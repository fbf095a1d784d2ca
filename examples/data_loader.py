"""A DataLoader, and a model that expects normalised images.

Run it with `python examples/data_loader.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secure_ai

MEAN, STD = (0.33, 0.33, 0.33), (0.18, 0.18, 0.18)


def stripes(n: int) -> TensorDataset:
    """Noisy images (3, 8, 8) in [0, 1]: class 0 has bright rows, class 1 bright columns."""
    y = torch.arange(n) % 2
    x = 0.4 * torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x[y == 0, :, ::2] += 0.25
    x[y == 1, :, :, ::2] += 0.25
    return TensorDataset(x, y)


def trained(data: TensorDataset) -> nn.Module:
    """A linear model of normalised images."""
    linear = nn.Linear(3 * 64, 2)
    nn.init.zeros_(linear.weight)
    net = nn.Sequential(nn.Flatten(), linear)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for x, y in DataLoader(data, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(normalised(x)), y).backward()
        optimizer.step()
    return net


def normalised(x: Tensor) -> Tensor:
    """What the model was trained on."""
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def main(n: int = 1000) -> None:
    """Train, attack, save."""
    data = stripes(n)
    net = trained(data)
    loader = DataLoader(data, batch_size=128)  # in a fixed order, and without the normalisation
    report = secure_ai.attack(net, loader, norm="l2", eps=0.5, mean=MEAN, std=STD)
    print(report)
    report.save("report.json")
    report.save_examples("examples.npz")


if __name__ == "__main__":
    main()
