"""Adversarial training in a loop of your own: run it with `python examples/robust_training_loop.py`.

Two classes of noisy images, a small network with batch normalisation, an eps that grows over the first half.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secure_ai.training import pgd_examples, pgd_step

EPS = 0.1


def images(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n, 1, 8, 8) in [0, 1]: the left or the right half is brighter."""
    y = torch.arange(n) % 2
    x = 0.4 * torch.rand((n, 1, 8, 8), generator=generator)
    x[y == 0, :, :, :4] += 0.4
    x[y == 1, :, :, 4:] += 0.4
    return x, y


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x, y = images(512, generator)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    network.train()
    for epoch in range(6):
        eps = EPS * min(1.0, (epoch + 1) / 3)
        for chosen in torch.randperm(len(x), generator=generator).split(64):
            loss = pgd_step(
                network, optimizer, x[chosen], y[chosen], norm="linf", eps=eps, steps=5, generator=generator
            )
        print(f"epoch {epoch + 1}: eps {eps:.3f}, loss {loss:.3f}")
    network.eval()
    x, y = images(200, generator)
    x_adv = pgd_examples(network, x, y, norm="linf", eps=EPS, steps=20, generator=generator)
    for name, shown in (("clean", x), ("PGD at 0.1", x_adv)):
        print(f"{name}: {float((network(shown).argmax(dim=1) == y).float().mean()):.1%} of 200 correct")


if __name__ == "__main__":
    main()
