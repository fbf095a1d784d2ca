"""Attacks of the Adversarial Robustness Toolbox by name: which there are, and how their settings are read.

`art:ProjectedGradientDescent:max_iter=40:eps_step=0.01`. The table is closed: an attack of the toolbox is offered when
it turns one image of a classifier into one image, can be set up with plain values, and runs with nothing installed but
ART and what this package needs (docs/attacks.md says which are left out). ART itself is imported when the first of its
attacks is named.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from secure_ai.core.budget import Norm
from secure_ai.core.errors import CostLimitError, ExtraMissingError
from secure_ai.red.evasion.attacks.art_adapter import ArtAttack, run_art
from secure_ai.red.evasion.contract import AttackEntry, AttackPlan, Setting
from secure_ai.red.evasion.refusal import nearest, refusal

MAX_COUNT = 100_000  # of any single whole number
MAX_WORK = 10**7  # product of an attack's counts: what a sample may cost, roughly, since ART declares no passes
MAX_NUMBER = 1e6

P_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
ANY_NORM: tuple[Norm, ...] = (*P_NORMS, "l0")


ART_ATTACKS: dict[str, ArtAttack] = {
    "AutoConjugateGradient": ArtAttack("white-box", P_NORMS),
    "AutoProjectedGradientDescent": ArtAttack("white-box", P_NORMS),
    "BasicIterativeMethod": ArtAttack("white-box", ("linf",)),
    "BoundaryAttack": ArtAttack("decision-based", ANY_NORM, alone=True),
    "CarliniL0Method": ArtAttack("white-box", ANY_NORM),
    "CarliniL2Method": ArtAttack("white-box", ANY_NORM),
    "CarliniLInfMethod": ArtAttack("white-box", ANY_NORM),
    "DeepFool": ArtAttack("white-box", ANY_NORM),
    "ElasticNet": ArtAttack("white-box", ANY_NORM),
    "FastGradientMethod": ArtAttack("white-box", P_NORMS, iterative=False),
    "HopSkipJump": ArtAttack("decision-based", ("linf", "l2"), alone=True),
    "MomentumIterativeMethod": ArtAttack("white-box", P_NORMS),
    "NewtonFool": ArtAttack("white-box", ANY_NORM),
    "PixelAttack": ArtAttack("score-based", ANY_NORM, alone=True),
    "ProjectedGradientDescent": ArtAttack("white-box", P_NORMS),
    "ProjectedGradientDescentNumpy": ArtAttack("white-box", P_NORMS),
    "ProjectedGradientDescentPyTorch": ArtAttack("white-box", P_NORMS),
    "RescalingAutoConjugateGradient": ArtAttack("white-box", P_NORMS),
    "SaliencyMapMethod": ArtAttack("white-box", ANY_NORM, targeted=True),
    "SignOPTAttack": ArtAttack("decision-based", ANY_NORM, alone=True),
    "SimBA": ArtAttack("score-based", ANY_NORM, alone=True, probabilities=True),
    "SpatialTransformation": ArtAttack("score-based", ANY_NORM),
    "SquareAttack": ArtAttack("score-based", ("linf", "l2")),  # it takes l1 and then does nothing
    "ThresholdAttack": ArtAttack("score-based", ANY_NORM, alone=True),
    "UniversalPerturbation": ArtAttack("white-box", ("linf", "l2")),
    "VirtualAdversarialMethod": ArtAttack("white-box", ("l2",), probabilities=True),
    "ZooAttack": ArtAttack("score-based", ANY_NORM, alone=True),  # in a batch it indexes one image with all of them
}
"""ART's class name -> what it may know, the budgets it fits, how it is run."""

INSTEAD: dict[str, dict[str, Setting]] = {"PixelAttack": {"es": 1}, "ThresholdAttack": {"es": 1}}
"""Where ART's default needs a package that nothing here brings (`cma`): differential evolution instead."""

OURS = frozenset({"eps", "norm", "targeted", "batch_size", "verbose", "summary_writer"})
"""What the budget, the target label and the batch decide, or what would print or write files."""

OPTIONAL: dict[str, Setting] = {"decay": 0.0, "eps_step": 0.0, "loss_type": "", "th": 0}
"""Settings that are left to ART (or to the budget: `eps_step`) unless they are given -> a value of their type."""

COUNTS = ("max_iter", "nb_random_init", "num_random_init", "nb_restarts", "nb_steps", "binary_search_steps", "max_eval",
          "num_trial", "sample_size", "nb_parallel", "num_translations", "num_rotations", "nb_grads")  # fmt: skip


def art_plan(words: Sequence[str]) -> AttackPlan:
    """Read what follows `art:`, split at its colons: the attack's name, then `key=value`.

    Raises:
        AttackSettingsError: an attack or setting that is not offered (with the nearest), or a value of a wrong type.
        CostLimitError: more work a sample than anyone can wait for.
        ExtraMissingError: ART is not installed.
    """
    name, *assignments = words or [""]
    row = ART_ATTACKS.get(name)
    if row is None:
        raise refusal("unknown attack of ART", expected=", ".join(ART_ATTACKS), got=name or "nothing",
                       hint=nearest(name, ART_ATTACKS))  # fmt: skip
    known, settings = _settings_of(art_class(name))
    settings |= INSTEAD.get(name, {})
    given: set[str] = set()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if key not in known or not equals or key in given:
            message = "has a setting twice" if key in given else "has no such setting"
            hint = "the budget, the target label or the batch decides it" if key in OURS else nearest(key, known)
            raise refusal(f"{name} {message}", expected=", ".join(sorted(known)), got=assignment, hint=hint)
        given.add(key)
        settings[key] = _value(f"art:{name}:{key}", known[key], text)
    _check_work(name, settings)
    entry = AttackEntry(
        name=f"art:{name}",
        attack=functools.partial(run_art, art_class(name), row),
        norms=row.norms,
        knowledge=row.knowledge,
        kind="minimal",  # a foreign attack that leaves the budget has failed; that is no bug of this tool
        source=f"adversarial-robustness-toolbox, art.attacks.evasion.{name}",
        settings=known,
        iterative=lambda settings: row.iterative,
        names_samples=row.alone,
        gives_back=True,
    )
    return AttackPlan(entry.name, entry, settings)


def art_class(name: str) -> Any:
    """The class of a name in the table. Raises ExtraMissingError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ART's own affair
            from art.attacks import evasion
    except ImportError as error:
        raise ExtraMissingError(
            "attacks of the Adversarial Robustness Toolbox need an optional extra",
            where=f"art:{name}",
            expected="adversarial-robustness-toolbox",
            got=str(error),
            hint="in the checkout: .venv/bin/python -m pip install -e '.[art]'",
        ) from error
    return getattr(evasion, name)


def _settings_of(attack: Any) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Every setting offered with a value of its type, and those with ART's own defaults."""
    signature = inspect.signature(attack.__init__).parameters
    offered = {key: p.default for key, p in signature.items() if key in attack.attack_params and key not in OURS}
    plain = {k: v for k, v in offered.items() if isinstance(v, int | float | str) and k not in OPTIONAL}
    return {**plain, **{key: OPTIONAL[key] for key in offered if key in OPTIONAL}}, plain


def _value(where: str, default: Setting, text: str) -> Setting:
    """`text` as the type of `default`."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise refusal("not a truth value", where=where, expected="true or false", got=text)
        return text.lower() == "true"
    if isinstance(default, str):
        if not text.isidentifier():
            raise refusal("not a word", where=where, expected="letters, digits and underscores", got=text)
        return text
    whole = isinstance(default, int)
    low, high = (0.0, float(MAX_COUNT)) if whole else (-MAX_NUMBER, MAX_NUMBER)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise refusal("value outside its range", where=where, expected=f"{kind} from {low:g} to {high:g}", got=text)
    return value


def _check_work(name: str, settings: Mapping[str, Setting]) -> None:
    counts = {key: int(settings[key]) for key in COUNTS if key in settings and int(settings[key]) > 1}
    work = math.prod(counts.values())
    if work > MAX_WORK:
        got = " x ".join(f"{key}={value}" for key, value in counts.items())
        raise CostLimitError("this attack would never end", where=f"art:{name}",
                             expected=f"counts whose product is at most {MAX_WORK:.0e}", got=got)  # fmt: skip
