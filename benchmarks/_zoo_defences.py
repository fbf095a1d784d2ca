"""Planted broken defences, each around a trained network, and beside each what an adaptive attacker uses instead.

Every wrapper keeps the network's answers nearly as they were and spoils only what an attack learns from them: none of
them makes the network robust. `features`, where the network has them, goes through the same defence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from _package import Wrapped
from torch import Tensor, nn
from torch.nn import functional


class Quantised(Wrapped):
    """Rounds pixels to `levels` steps (Guo et al., 1711.00117, section 3). Adapted: the gradient passes straight."""

    def __init__(self, network: nn.Module, levels: int = 7, *, straight: bool = False) -> None:
        super().__init__(network)
        self.levels, self.straight = levels, straight

    def prepare(self, x: Tensor) -> Tensor:
        rounded = torch.round(x * self.levels) / self.levels
        return x + (rounded - x).detach() if self.straight else rounded


class Thermometer(Wrapped):
    """Each pixel as `levels` comparisons (Buckman et al., ICLR 2018), for a network of as many channels.

    Adapted: backward through a ramp in place of each comparison (Athalye et al., 1802.00420, section 5.1).
    """

    def __init__(self, network: nn.Module, levels: int = 8, *, soft: bool = False) -> None:
        super().__init__(network)
        self.levels, self.soft = levels, soft

    def prepare(self, x: Tensor) -> Tensor:
        steps = (torch.arange(self.levels, dtype=x.dtype) + 0.5).view(1, -1, 1, 1) / self.levels
        hard = (x > steps).to(x.dtype)
        if not self.soft:
            return hard
        ramp = ((x - steps) * self.levels / 2 + 0.5).clamp(0, 1)
        return ramp + (hard - ramp).detach()


class Shattered(Wrapped):
    """Adds a fine ripple to the pixels: too small to matter, but it decides the sign of every gradient."""

    phase: Tensor

    def __init__(self, network: nn.Module, seed: int, frequency: float = 2000.0, height: float = 0.01) -> None:
        super().__init__(network)
        self.frequency, self.height = frequency, height
        draw = torch.Generator().manual_seed(seed)
        self.register_buffer("phase", 6.2832 * torch.rand((1, 1, 28, 28), generator=draw))

    def prepare(self, x: Tensor) -> Tensor:
        return x + self.height * torch.sin(self.frequency * x + self.phase)


class Noisy(Wrapped):
    """Gaussian noise on the pixels at every call."""

    def __init__(self, network: nn.Module, sigma: float = 0.1) -> None:
        super().__init__(network)
        self.sigma = sigma

    def prepare(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x)


class RandomResize(Wrapped):
    """A random smaller size at a random place, at every call (Xie et al., 1711.01991)."""

    def __init__(self, network: nn.Module, smallest: int = 24) -> None:
        super().__init__(network)
        self.smallest = smallest

    def prepare(self, x: Tensor) -> Tensor:
        size = int(torch.randint(self.smallest, 29, ()))
        top, left = (int(torch.randint(0, 29 - size, ())) for _ in range(2))
        small = functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
        return functional.pad(small, (left, 28 - size - left, top, 28 - size - top))


class Detached(Wrapped):
    """Cuts the graph."""

    def prepare(self, x: Tensor) -> Tensor:
        return x.detach()


class NanGradient(Wrapped):
    """Adds 0 times a square root at 0, whose derivative is infinite: the answer stays, the gradient is NaN."""

    def prepare(self, x: Tensor) -> Tensor:
        return x + 0 * torch.sqrt(x - x)


class Scaled(Wrapped):
    """Logits times `factor`, as a network distilled at that temperature answers (Papernot et al., 1511.04508)."""

    def __init__(self, network: nn.Module, factor: float = 100.0) -> None:
        super().__init__(network)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.network(x)
        return logits


class Decoy(Wrapped):
    """Answers without a gradient, plus a whisper of another function that has one: a gradient that leads nowhere."""

    def __init__(self, network: nn.Module, seed: int, height: float = 1e-3) -> None:
        super().__init__(network)
        draw = torch.Generator().manual_seed(seed)
        self.register_buffer("decoy", torch.randn((784, 10), generator=draw))
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.detach()) + self.height * (x.flatten(1) @ self.get_buffer("decoy"))
        return logits

    @property
    def features(self) -> Callable[[Tensor], Tensor] | None:
        return None


class Purified(Wrapped):
    """Moves the image a few gradient steps towards the class the network sees, inside the forward pass."""

    def __init__(self, network: nn.Module, steps: int = 3, step_size: float = 0.02) -> None:
        super().__init__(network)
        self.steps, self.step_size = steps, step_size

    def prepare(self, x: Tensor) -> Tensor:
        moved = x.detach()
        with torch.enable_grad():
            for _ in range(self.steps):
                moved = moved.detach().requires_grad_()
                logits = self.network(moved)
                loss = functional.cross_entropy(logits, logits.detach().argmax(dim=1), reduction="sum")
                (slope,) = torch.autograd.grad(loss, moved)
                moved = (moved - self.step_size * slope.sign()).clamp(0, 1)
        return x + (moved - x).detach()


class Routed(nn.Module):
    """A router says which half of the classes; among those an expert decides. No gradient leads through the choice.

    Adapted: the choice is soft, so that an attack sees both ways out.
    """

    def __init__(self, router: nn.Module, expert: nn.Module, *, soft: bool = False, floor: float = -20.0) -> None:
        super().__init__()
        self.router, self.expert, self.soft, self.floor = router, expert, soft, floor

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K); those of the other half are `floor`, or softly lowered by the router's log-odds."""
        logits: Tensor = self.expert(x)
        routes: Tensor = self.router(x)
        half = logits.shape[1] // 2
        lower = torch.arange(logits.shape[1]) < half
        if self.soft:
            odds = routes[:, :half].logsumexp(1, keepdim=True) - routes[:, half:].logsumexp(1, keepdim=True)
            return logits + torch.where(lower, odds, torch.zeros_like(odds))
        chosen = routes.argmax(dim=1, keepdim=True) < half
        return torch.where(chosen == lower, logits, logits.new_full((), self.floor))
