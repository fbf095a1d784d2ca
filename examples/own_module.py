"""Your own module and tensors: one attack, then a robust accuracy with its verdict.

Run it with `python examples/own_module.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import secure_ai


def bars(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy colour images (n, 3, 12, 12) in [0, 1] with a bright bar; its row is the class, 0 to 3."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 4
    x = 0.4 * torch.rand(n, 3, 12, 12, generator=draw)
    for row in range(3):
        x[torch.arange(n), :, 3 * y + row] += 0.25
    return x, y


def trained(x: Tensor, y: Tensor) -> nn.Module:
    """A small convolutional network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def main(n: int = 1000) -> None:
    """Train, attack, print."""
    net = trained(*bars(400, seed=1))
    x, y = bars(n, seed=2)

    x_adv = secure_ai.attacks.pgd(net, x, y, norm="linf", eps=30 / 255)
    fooled = int((net(x_adv).argmax(1) != y).sum())
    print(f"PGD fooled the model on {fooled} of {n} images")

    report = secure_ai.attack(net, (x, y), norm="linf", eps="30/255")
    print(f"clean accuracy:  {report.clean_accuracy}")
    print(f"robust accuracy: {report.robust_accuracy}, {report.trust.verdict.value}")
    for reason in report.trust.reasons:
        print(f"  {reason}")


if __name__ == "__main__":
    main()
