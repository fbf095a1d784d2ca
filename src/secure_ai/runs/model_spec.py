"""How a user names a model: the options of `MODEL` on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_ai.models.target.access import Access

SUBJECT = "subject"  # the id and role of the user's network in a report
SURROGATE = "surrogate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model and how to read and feed it.

    Attributes:
        model: path; safetensors, torch state dict, `.keras` or `.pt2`, detected by content. None: what the factory of
            `arch` returns is the model, a network with its weights or any callable.
        arch: built-in name, `FILE.py:FACTORY` or `pkg.mod:FACTORY`; not needed for `.keras`, `.pt2` and our own
            safetensors.
        weights_key: which entry of a torch checkpoint holds the weights, where several could.
        access: what attacks may use of it; None: gradients of a network, scores of any other callable.
        mean: per-channel mean that the network expects to be subtracted.
        std: per-channel standard deviation that it expects to be divided by.
        value_range: what pixels in [0, 1] are scaled to first.
    """

    model: str | None = None
    arch: str | None = None
    weights_key: str = ""
    access: Access | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)

    def words(self) -> list[str]:
        """The options of the command line that say the same."""
        options = (
            ("--model", self.model),
            ("--arch", self.arch),
            ("--weights-key", self.weights_key),
            ("--access", self.access),
        )
        words = [word for name, value in options if value for word in (name, value)]
        scaled = () if self.value_range == (0.0, 1.0) else self.value_range
        for name, values in (("--mean", self.mean), ("--std", self.std), ("--range", scaled)):
            if values:
                words += [name, ",".join(map(repr, values))]
        return words

    def command(self, verb: str, options: Mapping[str, object]) -> str:
        """The command line that does `verb` to it; an option that is None was not given."""
        given = (word for name, value in options.items() if value is not None for word in (f"--{name}", str(value)))
        return shlex.join(["secure-ai", *verb.split(), *self.words(), *given])

    def as_json(self) -> dict[str, Any]:
        """For stage settings."""
        return {
            "model": self.model,
            "arch": self.arch,
            "weights_key": self.weights_key,
            "access": self.access,
            "mean": list(self.mean),
            "std": list(self.std),
            "value_range": list(self.value_range),
        }
