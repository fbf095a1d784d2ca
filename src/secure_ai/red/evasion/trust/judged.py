"""One function judges: a number that this package prints was asked the same checks, whoever wanted it.

`judge_network` is for a suite, `judge_single` for one attack by itself, which is never reliable and is spared the
probes, and `judge_clean` for the accuracy without an attack. The command, the stages of a run and the benchmark of
planted defences call these and have no list of checks of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import Rate
from secure_ai.core.statistics import mcnemar_exact
from secure_ai.core.trust import Check, CheckOutcome, Trust, check, judge, sample_size_check
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.preflight import ONLY_FOR_ATTACKS, Preflight, examine, same_answers
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackPlan, Progress, ignore_progress
from secure_ai.red.evasion.suite.borrowed import Examples, bind_borrowed, example_files
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.data_checks import data_checks
from secure_ai.red.evasion.trust.health import gradient_health
from secure_ai.red.evasion.trust.judge import judge_suite
from secure_ai.red.evasion.trust.probes.diagnose import OF_SURVIVORS, PROBES, diagnose, diagnose_survivors
from secure_ai.red.evasion.trust.required import BREAKING
from secure_ai.red.evasion.trust.usual_inputs import with_usual_inputs

SIGNIFICANT = 0.05
SETTLED_BY = frozenset({"one-step-only", "suite-strength", "made-for-another-network"})
"""Checks of the suite itself: where one fails the number is no claim, whatever the probes would find."""
ATTACKING, PROBING = "attacking", "checking the number"
ATTACKS_PARTS, PARTS = 7, 10  # of the progress; how long the probes take does not depend on the number of images
INTERRUPTED = "interrupted before every check of this verdict was made"


@dataclass(frozen=True, slots=True)
class SavedExamples:
    """What the attack `examples:FILE` looks up.

    Attributes:
        file: as the attack names it.
        examples: by clean image, and the digest of the network they were made for.
    """

    file: str
    examples: Examples


def ignore_phase(what: str) -> None:
    """For callers that show none."""


Borrowed = NetworkTarget | SavedExamples
"""What an attack works with that is not the target: the surrogate of `transfer`, or the examples of a file."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A robust accuracy and what it is worth.

    Attributes:
        result: of the suite. After an interruption `result.interruption` is set, also where the suite itself had
            finished and only checks are missing; then `checks-finished` fails.
        trust: the verdict on `robust_accuracy`.
        checked: preflight, and the target that was attacked.
        probes: the checks that hold for the network at any budget nearby; empty where none were made.
        robust: (N,) bool: who counts as right: the suite's own, less who was broken at a smaller eps of a curve.
        probe_seconds: that the checks after the suite took.
    """

    result: SuiteResult
    trust: Trust
    checked: Preflight
    probes: tuple[Check, ...]
    robust: np.ndarray
    probe_seconds: float = 0.0

    @property
    def robust_accuracy(self) -> Rate:
        """Of `robust`; without a value where nothing was finished."""
        if not self.result.n:
            return self.result.robust_accuracy
        return self.result.counted(int(self.robust.sum()), self.result.n)

    def also(self, *checks: Check) -> Judged:
        """The same number after further checks, which can only lower its verdict."""
        return replace(self, trust=judge([*self.trust.checks, *checks], breaking=BREAKING))


def judge_network(
    target: NetworkTarget,
    data: Dataset,
    budget: PerturbationBudget,
    attacks: Sequence[AttackPlan],
    seed: int,
    *,
    checked: Preflight | None = None,
    probes: Callable[[], tuple[Check, ...]] | None = None,
    borrowed: Sequence[Borrowed] = (),
    standing: np.ndarray | None = None,
    keep_examples: bool = False,
    progress: Progress = ignore_progress,
    stop: Callable[[], bool] | None = None,
    attacked: Callable[[SuiteResult], None] | None = None,
    phase: Callable[[str], None] = ignore_phase,
) -> Judged:
    """Attack a network with a suite and ask everything that its robust accuracy depends on.

    In this order: preflight, what the usual normalisations would give, the suite, the data, the same answers as before,
    the probes, the input gradients.

    Args:
        target: as it was given; preflight decides how it is attacked.
        attacks: in the order to be run; they may still lack what `borrowed` holds.
        checked: preflight's result where it was made before: its target is attacked. None: it is made here.
        probes: gives those made for all points of a curve, by `probe_network`; only those that ask about the images
            that this suite leaves are made then. None, or where it gives none: all are made here, so that none can be
            spared. Where a check of the suite itself fails (SETTLED_BY) no probe is made: none could help the number.
        borrowed: the surrogate of `transfer` and the files of `examples`.
        standing: (N,) bool, who was right at every smaller eps of a curve. Who was not counts as broken here, and
            `monotone-in-eps` is asked.
        keep_examples, stop: as of `run_suite`.
        progress: of the suite and then of the probes, as one whole.
        phase: told when the suite begins, and when its number is checked.
        attacked: is given the suite's result before it is judged, so that hours of work outlive an error in a check.

    Raises:
        SecureAIError: what `preflight`, `run_suite` and `diagnose` raise.
    """
    checked = checked or examine(target, data, seed)
    if not probes:
        checked = with_usual_inputs(checked, data, budget, seed)
    plans = _bound(attacks, borrowed)
    phase(ATTACKING)
    result = run_suite(
        checked.target,
        data.images,
        data.labels,
        budget=budget,
        attacks=plans,
        seed=seed,
        keep_examples=keep_examples,
        progress=lambda done, total: progress(ATTACKS_PARTS * done, PARTS * total),
        stop=stop,
    )
    result = replace(result, n_effective=data.n_effective)
    if attacked is not None:
        attacked(result)
    robust = result.robust if standing is None else standing & result.robust
    law = () if standing is None else (monotone_check(standing, result.robust),)

    def ask() -> tuple[Check, ...]:
        phase(PROBING)
        if given := probes() if probes else ():
            return (*given, *_survivor_probes(checked, data, budget, seed, robust))
        return _probes(checked, data, budget, plans, seed, robust, after_attacks(progress))

    found = _verdict(checked, data, result, robust, law, ask)
    if found.result.interruption is None:
        progress(PARTS, PARTS)
    return found


def judge_single(
    target: NetworkTarget,
    data: Dataset,
    budget: PerturbationBudget,
    attack: AttackPlan,
    seed: int,
    *,
    checked: Preflight | None = None,
    keep_examples: bool = False,
    progress: Progress = ignore_progress,
) -> Judged:
    """One attack by itself, with every check but the probes.

    One attack is never all that a claim needs (`suite-strength`), so that what the probes cost would decide nothing.
    Arguments and errors as of `judge_network`.
    """
    checked = checked or examine(target, data, seed)
    result = run_suite(
        checked.target,
        data.images,
        data.labels,
        budget=budget,
        attacks=(attack,),
        seed=seed,
        keep_examples=keep_examples,
        progress=progress,
    )
    result = replace(result, n_effective=data.n_effective)
    return _verdict(checked, data, result, result.robust, (), None)


def judge_clean(checked: Preflight, data: Dataset) -> Trust:
    """The verdict on the accuracy without an attack: preflight's checks and the data's, but for those of attacks."""
    asked = [made for made in checked.checks if made.id not in ONLY_FOR_ATTACKS]
    return judge(
        [sample_size_check(len(data)), *asked, *data_checks(data), same_answers(checked)], breaking=frozenset()
    )


def after_attacks(progress: Progress) -> Progress:
    """Progress of the probes, as what `judge_network` has left of its own."""

    def told(done: int, total: int) -> None:
        progress(ATTACKS_PARTS * total + (PARTS - ATTACKS_PARTS) * done, PARTS * total)

    return told


def probe_network(
    checked: Preflight,
    data: Dataset,
    budget: PerturbationBudget,
    attacks: Sequence[AttackPlan],
    seed: int,
    progress: Progress = ignore_progress,
) -> tuple[Check, ...]:
    """The probes that need no suite's result, made once for all points of a curve; none without gradients."""
    return _probes(checked, data, budget, attacks, seed, None, progress)


def monotone_check(before: np.ndarray, now: np.ndarray) -> Check:
    """Fails where the suite at a larger eps leaves more samples right than at the smaller ones, beyond chance.

    Args:
        before: (N,) bool, right at every smaller eps.
        now: (N,) bool, right at this eps.
    """
    risen, fallen = int((~before & now).sum()), int((before & ~now).sum())
    p = mcnemar_exact(risen, fallen)
    evidence = (
        f"{risen} of {len(now)} samples broken at a smaller eps were not broken again (they count as broken), "
        f"{fallen} became wrong; McNemar p = {p:.2g}"
    )
    return check("monotone-in-eps", risen <= fallen or p > SIGNIFICANT, evidence)


def _verdict(
    checked: Preflight,
    data: Dataset,
    result: SuiteResult,
    robust: np.ndarray,
    first: Sequence[Check],
    ask: Callable[[], tuple[Check, ...]] | None,
) -> Judged:
    """Ask what is left to ask. The suite is whole: its result outlives an interruption of the checks on it."""
    made = [*checked.checks, *data_checks(data), *first]
    asked: tuple[Check, ...] = ()
    gradients = None
    began = time.perf_counter()
    if result.complete:
        try:
            made.append(same_answers(checked))
            asked = (_spared(judge_suite(result, more=made)) or ask()) if ask else ()
            made += asked
            if checked.target.access == "gradients":
                gradients = gradient_health(checked.target, data.images, data.labels)
        except KeyboardInterrupt as interruption:
            made.append(check("checks-finished", False, INTERRUPTED))
            result = replace(result, interruption=interruption)
    trust = judge_suite(result, gradients=gradients, more=made)
    lasting = tuple(one for one in asked if one.id not in OF_SURVIVORS)
    return Judged(result, trust, checked, lasting, robust, time.perf_counter() - began)


def _spared(trust: Trust) -> tuple[Check, ...]:
    """Every probe as not run, where a check of the suite itself has failed; else none."""
    settled = [made.id for made in trust.checks if made.id in SETTLED_BY and made.outcome is CheckOutcome.FAIL]
    evidence = f"verdict already {trust.verdict.value}: {', '.join(settled)}"
    return tuple(check(identifier, None, evidence) for identifier in PROBES) if settled else ()


def _probes(
    checked: Preflight,
    data: Dataset,
    budget: PerturbationBudget,
    attacks: Sequence[AttackPlan],
    seed: int,
    robust: np.ndarray | None,
    progress: Progress,
) -> tuple[Check, ...]:
    if checked.target.access != "gradients":
        return ()
    return diagnose(
        checked.target, data.images, data.labels, budget, seed, attacks=attacks, robust=robust, progress=progress
    )


def _survivor_probes(
    checked: Preflight, data: Dataset, budget: PerturbationBudget, seed: int, robust: np.ndarray
) -> tuple[Check, ...]:
    if checked.target.access != "gradients":
        return ()
    return diagnose_survivors(checked.target, data.images, data.labels, budget, seed, robust=robust)


def _bound(attacks: Sequence[AttackPlan], borrowed: Sequence[Borrowed]) -> tuple[AttackPlan, ...]:
    """Every plan with what it borrows. Raises AttackSettingsError for one whose surrogate or file is not there."""
    network = next((one for one in borrowed if isinstance(one, NetworkTarget)), None)
    saved = {one.file: one.examples for one in borrowed if isinstance(one, SavedExamples)}
    read = saved.__getitem__ if saved.keys() >= set(example_files(attacks)) else None
    return bind_borrowed(attacks, network=network, read=read)
