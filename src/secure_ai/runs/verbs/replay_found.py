"""What `replay` finds: the shards that were run again, and the image that was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from secure_ai.core.errors import EXIT_OK, EXIT_VERIFICATION_FAILED
from secure_ai.core.result import Replay
from secure_ai.core.results import SCHEMA_VERSION, Measurement


@dataclass(frozen=True, slots=True)
class ShardReplay:
    """One shard run again: its first sample, how many it holds, the digest on record and the one that came out."""

    first: int
    n: int
    expected: str
    got: str

    def as_json(self) -> dict[str, Any]:
        """The entry of `shards`."""
        return {"first": self.first, "n": self.n, "expected": self.expected, "got": self.got, "same": self.same}

    @property
    def same(self) -> bool:
        """Every bit of every example."""
        return self.got == self.expected


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says of one image."""

    label: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its adversarial example.

    Attributes:
        broken_by: text of the attack that broke it; None: none did.
        attacked: false for an image that was misclassified as it is.
        distance: between the two, in the budget's norm.
    """

    index: int
    label: int
    clean: Answer
    adversarial: Answer
    broken_by: str | None
    attacked: bool
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What `replay` found.

    Attributes:
        clean, x_adv: (1, C, H, W) float32 of that sample.
        differences: what is not as it was when the run was made, and may be why bits differ.
    """

    measurement: Measurement
    record: Replay
    shards: tuple[ShardReplay, ...]
    sample: Sample
    clean: np.ndarray
    x_adv: np.ndarray
    differences: tuple[str, ...]

    @property
    def verdict(self) -> Literal["same", "differs"]:
        """`same` where every shard that was run again came out bit for bit."""
        return "same" if all(shard.same for shard in self.shards) else "differs"

    @property
    def exit_code(self) -> int:
        """0 or 4."""
        return EXIT_OK if self.verdict == "same" else EXIT_VERIFICATION_FAILED

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai replay --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "measurement": self.measurement.id,
            "stage": self.measurement.stage,
            "model": {"id": self.measurement.model, "digest": self.record.model_digest},
            "data": {"digest": self.record.data_digest, "n": self.record.n},
            "budget": {"norm": self.record.norm, "eps": self.record.eps},
            "attacks": list(self.record.attacks),
            "seed": self.record.seed,
            "shards": [shard.as_json() for shard in self.shards],
            "sample": asdict(self.sample),
            "differences": list(self.differences),
        }
