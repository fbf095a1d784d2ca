"""What is known of how a network was made: how its pixels were prepared, and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from secure_ai.models.target.transform import InputTransform


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a network was trained on, as its file says.

    Attributes:
        digest: of the data set.
        n: its images.
        images: digests of single images (`image_digests`); None where they are not known.
    """

    digest: str
    n: int
    images: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a model's file, what lies beside it and the user say.

    Attributes:
        input: how pixels in [0, 1] are to be prepared; None: nobody says.
        input_from: who says so.
        training: None: nobody says.
        notes: what could not be read, one sentence each.
        class_names: of the outputs, in their order; empty: nobody says.
        tell: the pixels are prepared as a folder says, or the user overruled one: to be read on the first screen.
    """

    input: InputTransform | None = None
    input_from: str = ""
    training: TrainingData | None = None
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    tell: bool = False
