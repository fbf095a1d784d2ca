"""One attack as a function in a training loop: adversarial training (Madry et al., 1706.06083).

Run it with `python examples/adversarial_training.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import secure_ai

EPS = 0.1


def digits(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images (n, 1, 8, 8) in [0, 1]: class k is bright in quarter k."""
    y = torch.arange(n) % 4
    x = 0.5 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for k in range(4):
        top, left = 4 * (k // 2), 4 * (k % 2)
        x[y == k, :, top : top + 4, left : left + 4] += 0.3
    return x, y


def train(steps: int, adversarial: bool) -> nn.Module:
    """Train on clean or on adversarial images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(steps):
        x, y = digits(64, seed=step)
        if adversarial:
            x = secure_ai.attacks.pgd(net, x, y, norm="linf", eps=EPS, steps=5, seed=step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def main(n: int = 1000, steps: int = 100) -> None:
    """Train twice and compare under the same attack."""
    x, y = digits(n, seed=10**6)
    for adversarial in (False, True):
        net = train(steps, adversarial)
        x_adv = secure_ai.attacks.apgd_ce(net, x, y, norm="linf", eps=EPS)
        clean, robust = (int((net(images).argmax(1) == y).sum()) for images in (x, x_adv))
        name = "adversarial training" if adversarial else "plain training"
        print(f"{name}: {clean} of {n} correct, {robust} under Auto-PGD")


if __name__ == "__main__":
    main()
