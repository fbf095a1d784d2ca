"""What a run says of several networks or classes at once: the other lists of report.json, as values."""

from __future__ import annotations

from dataclasses import dataclass

from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.results import Rate
from secure_ai.core.trust import Trust, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often each true label was predicted as each label.

    Attributes:
        counts: K rows of K counts; row = true label, column = prediction.
        class_names: of the classes 0 to K - 1, fewer where not all are named; empty: nobody names them.
    """

    id: str
    model: str
    title: str = ""
    counts: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two rates of the same n images, e.g. before and after a defence.

    Attributes:
        card: the family of comparisons that Holm's correction is over.
        before, after: ids of measurements.
        only_before, only_after: images classified correctly in one of the two only.
        difference: after minus before, with its 95 % interval `ci_low` to `ci_high`.
        p: exact McNemar; `p_holm`: corrected over the card.
        trust: the worse verdict of the two.
    """

    card: str
    before: str
    after: str
    n: int
    only_before: int
    only_after: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_holm: float
    trust: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer matrix: accuracy of every network on the examples made for every one.

    Attributes:
        rates: row = network that the examples were made for, column = network that they were scored on.
    """

    id: str
    networks: tuple[str, ...]
    budget: PerturbationBudget | None
    attack: str
    n: int
    note: str = ""
    rates: tuple[tuple[Rate, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """The median distance to the nearest adversarial example that an attack found, over all n samples.

    Attributes:
        median: 0 counts samples that are misclassified unchanged; None for infinity, which `infinite` explains.
        found: samples with an example at any distance.
    """

    id: str
    model: str
    metric: str
    norm: Norm
    attack: str
    n: int
    median: float | None
    ci_low: float | None
    ci_high: float | None
    found: Rate
    clean_errors: int = 0
    infinite: str = ""
    note: str = ""
    trust: Trust | None = None
    stage: str = ""
    replay: str = ""
