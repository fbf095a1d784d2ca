"""Randomised smoothing (Cohen, Rosenfeld and Kolter, 1902.02918): a certificate in L2 for any network.

The smoothed classifier answers the class that the network names most often under Gaussian noise. Where that class has
a probability above 1/2 with confidence 1 - alpha, no change of the image within the radius moves the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn

from secure_ai.core.compute import device_of
from secure_ai.core.seeds import derive_seed, generator, normal
from secure_ai.core.statistics import clopper_pearson_lower

ABSTAIN = -1
SLACK = 1e-9  # inward, relative: rounding of the inverse normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """How the smoothed classifier is sampled.

    Attributes:
        sigma: standard deviation of the noise, on pixels in [0, 1].
        choose: samples that choose the class (n0 of the paper).
        count: further samples that bound its probability (n of the paper).
        alpha: chance that a certificate is wrong, per image.
        batch: most noisy images in one pass.
    """

    sigma: float
    choose: int = 100
    count: int = 10_000
    alpha: float = 0.001
    batch: int = 1000

    @property
    def largest_radius(self) -> float:
        """What an image gets that is never misclassified: no radius beyond it can be certified with `count` samples."""
        return self.radius(self.count)

    def radius(self, successes: int) -> float:
        """Certified radius from `successes` of `count` samples; 0: abstain (1902.02918, algorithm 1)."""
        low = clopper_pearson_lower(successes, self.count, self.alpha)
        return self.sigma * NormalDist().inv_cdf(low) * (1 - SLACK) if low > 0.5 else 0.0


@torch.no_grad()
def votes(network: nn.Module, x: Tensor, classes: int, samples: int, smoothing: Smoothing, *stream: object) -> Tensor:
    """How often each class is named for one image under noise, (K,) int64 on the CPU.

    Args:
        x: (C, H, W), on the network's device. The noise is drawn there: at 100,000 samples an image it would take
            longer to draw on the CPU and to move than to classify, so that GPUs have noise of their own.
        stream: names the noise, e.g. (seed, "count", index).
    """
    device = device_of(network)
    draws = torch.Generator(device=device).manual_seed(derive_seed("smoothing", *stream))
    counts = torch.zeros(classes, dtype=torch.int64, device=device)
    for start in range(0, samples, smoothing.batch):
        size = min(smoothing.batch, samples - start)
        noisy = x.to(device) + smoothing.sigma * torch.randn((size, *x.shape), generator=draws, device=device)
        counts += torch.bincount(network(noisy).argmax(dim=1), minlength=classes)[:classes]
    return counts.cpu()


def certify(network: nn.Module, x: Tensor, classes: int, smoothing: Smoothing, *stream: object) -> tuple[int, float]:
    """The class and its certified L2 radius, or (ABSTAIN, 0.0) (1902.02918, algorithm 1, CERTIFY).

    Args:
        network: in evaluation mode.
        x: (C, H, W).
        stream: names the noise.
    """
    top = int(votes(network, x, classes, smoothing.choose, smoothing, *stream, "choose").argmax())
    seen = votes(network, x, classes, smoothing.count, smoothing, *stream, "count")
    radius = smoothing.radius(int(seen[top]))
    return (top, radius) if radius > 0 else (ABSTAIN, 0.0)


class Smoothed(nn.Module):
    """The smoothed classifier's mean probabilities over fixed noise, as logits: something to attack with gradients."""

    def __init__(self, network: nn.Module, smoothing: Smoothing, samples: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        noise = normal((samples, *shape), generator("smoothed"), device_of(network))
        self.register_buffer("noise", smoothing.sigma * noise)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> (N, K)."""
        noisy = x[:, None] + self.get_buffer("noise")
        probability: Tensor = self.network(noisy.flatten(0, 1)).softmax(dim=1).unflatten(0, noisy.shape[:2]).mean(dim=1)
        return probability.clamp_min(torch.finfo(torch.float32).tiny).log()
