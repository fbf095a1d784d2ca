"""What is known of how the network was made, against how it is fed and what it is tested on."""

from __future__ import annotations

import math

from secure_ai.core.trust import Check, check
from secure_ai.data.dataset import Dataset
from secure_ai.data.image_digests import image_digests
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform

MOST_SEEN = 0.01  # share of the test images that may stand in the training data
SAME_NUMBER = 5e-3  # 0.1307 and 0.13066 are the same mean
NOT_VERIFIED = "not verified"

INPUT, SEEN, NAMES = "input-normalisation", "not-trained-on", "class-names"
MOST_PAIRS = 5  # of names that a failed check lists


def input_check(target: NetworkTarget) -> Check:
    """Passes where the pixels are prepared as the user or the model's file says; not run where nobody says."""
    known, fed = target.known, target.transform
    if known.input is None:
        return check(INPUT, None, f"fed {spoken(fed)} as given; {NOT_VERIFIED}: nothing beside the model says how")
    channels = target.input_shape[0]
    if same_preparation(known.input, fed, channels):
        return check(INPUT, True, f"fed {spoken(fed)}, as {known.input_from} says")
    flags = " ".join(f"--{name} {','.join(map(str, values))}" for name, values in
                     (("mean", known.input.mean), ("std", known.input.std)) if values)  # fmt: skip
    hint = f": say {flags}" if flags else ""
    return check(INPUT, False, f"fed {spoken(fed)}; {known.input_from} says {spoken(known.input)}{hint}")


def names_check(target: NetworkTarget, dataset: Dataset) -> Check | None:
    """Fails where a class of the data is another output's by name; None where the names cannot be compared.

    Case, spaces and punctuation do not count; of `tabby, tabby cat` either name will do.
    """
    outputs: dict[str, int] = {}
    for output, name in enumerate(target.known.class_names):
        for word in _spellings(name):
            outputs.setdefault(word, output)
    found = [
        (label, name, next(outputs[word] for word in _spellings(name) if word in outputs))
        for label, name in enumerate(dataset.class_names)
        if _spellings(name) & outputs.keys()
    ]
    if not found:
        return None
    apart = [f"{name} is class {label} of the data and output {output}" for label, name, output in found
             if label != output]  # fmt: skip
    told = f"{len(found)} of {dataset.classes} classes are outputs by name"
    if not apart:
        return check(NAMES, True, told)
    shown = "; ".join(apart[:MOST_PAIRS])
    return check(NAMES, False, f"{told}, {len(apart)} of them others ({shown}): renumber the labels")


def _spellings(name: str) -> set[str]:
    """A name and its parts between commas, in small letters and digits alone."""
    parts = (name, *name.split(","))
    return {word for part in parts if (word := "".join(c for c in part.casefold() if c.isalnum()))}


def unseen_check(target: NetworkTarget, dataset: Dataset) -> Check:
    """Fails where test images were in training, by what the model's file and the record beside it say."""
    training = target.known.training
    if training is None:
        return check(SEEN, None, "unknown: nothing beside the model says what it was trained on")
    if training.images is not None:
        seen = sum(digest in training.images for digest in image_digests(dataset.images))
        evidence = f"{seen} of {len(dataset)} images stand among the {training.n} that the network was trained on"
        return check(SEEN, seen <= MOST_SEEN * len(dataset), evidence)
    if training.digest == dataset.digest:
        return check(SEEN, False, f"these are the {training.n} images that the network was trained on")
    evidence = f"trained on other data by its digest, n = {training.n}; single images cannot be told"
    return check(SEEN, None, evidence)


def same_preparation(one: InputTransform, other: InputTransform, channels: int) -> bool:
    """Whether both make the same of every pixel; the order of the axes does not count."""
    return all(
        math.isclose(a, b, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER)
        for a, b in zip(_affine(one, channels), _affine(other, channels), strict=True)
    )


def _affine(transform: InputTransform, channels: int) -> list[float]:
    """What 0 and 1 become, channel by channel."""
    means = (transform.mean or (0.0,)) * (1 if len(transform.mean) > 1 else channels)
    stds = (transform.std or (1.0,)) * (1 if len(transform.std) > 1 else channels)
    return [
        (end - mean) / std for end in (transform.low, transform.high) for mean, std in zip(means, stds, strict=False)
    ]


def spoken(transform: InputTransform) -> str:
    """E.g. `[0,1]`, or `[0,1] less 0.1307 over 0.3081`."""
    less = f" less {','.join(map(str, transform.mean))}" if transform.mean else ""
    over = f" over {','.join(map(str, transform.std))}" if transform.std else ""
    return f"[{transform.low:g},{transform.high:g}]{less}{over}"
