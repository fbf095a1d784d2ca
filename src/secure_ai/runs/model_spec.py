"""How a user names a model: the options of `MODEL` on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SUBJECT = "subject"  # the id and role of the user's network in a report


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model file and how to read and feed it.

    Attributes:
        model: path; safetensors, torch state dict or `.keras`, told by content.
        arch: built-in name, `FILE.py:FACTORY` or `pkg.mod:FACTORY`; not needed for `.keras` and our own safetensors.
        mean: per-channel mean that the network expects to be subtracted.
        std: per-channel standard deviation that it expects to be divided by.
        value_range: what pixels in [0, 1] are scaled to first.
    """

    model: str
    arch: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)

    def words(self) -> list[str]:
        """The options of the command line that say the same."""
        words = ["--model", self.model]
        if self.arch:
            words += ["--arch", self.arch]
        for name, values in (("--mean", self.mean), ("--std", self.std), ("--range", self.value_range)):
            if values and values != (0.0, 1.0):
                words += [name, ",".join(f"{value:g}" for value in values)]
        return words

    def as_json(self) -> dict[str, Any]:
        """For stage settings."""
        return {
            "model": self.model,
            "arch": self.arch,
            "mean": list(self.mean),
            "std": list(self.std),
            "value_range": list(self.value_range),
        }
