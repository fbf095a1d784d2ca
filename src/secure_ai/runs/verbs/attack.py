"""The verb `attack`: a user's network under a suite of attacks, every figure with its interval and trust verdict."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.compute import configure
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding
from secure_ai.core.results import SCHEMA_VERSION, Measurement, Rate
from secure_ai.core.trust import Trust
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.files.write import refuse_unwritable
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.target.scorer import ScoreFunction
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackPlan, ignore_progress
from secure_ai.red.evasion.suite.borrowed import example_files, names_transfer, refuse_unbound
from secure_ai.red.evasion.suite.parse import parse_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judged import Borrowed, Judged, SavedExamples, judge_network
from secure_ai.runs.examples_file import Origin, read_examples, refuse_replacing, save_examples
from secure_ai.runs.judgements import judge_measurements
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.recipe import defaults
from secure_ai.runs.user_model import load_subject, spec_of, surrogate_for, target_for

MAX_BATCH_SIZE = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class AttackReport:
    """What `attack` found.

    Attributes:
        judged: the suite's result with its verdict, and what preflight found.
        surrogate: the network that `transfer` made its examples on; its passes are counted apart from the target's.
        command: the line that does the same again; empty for a model that was handed over in Python.
    """

    model: LoadedModel
    data: Dataset
    budget: PerturbationBudget
    judged: Judged
    seed: int
    surrogate: NetworkTarget | None = None
    command: str = ""

    @property
    def result(self) -> SuiteResult:
        """What the suite found, attack by attack and sample by sample."""
        return self.judged.result

    @property
    def clean_accuracy(self) -> Rate:
        """Correct on the clean image ÷ all."""
        return self.result.clean_accuracy

    @property
    def robust_accuracy(self) -> Rate:
        """Correct on the clean image and under every attack ÷ all; read it with `trust`."""
        return self.judged.robust_accuracy

    @property
    def trust(self) -> Trust:
        """The verdict on `robust_accuracy`."""
        return self.judged.trust

    @property
    def fixes(self) -> tuple[str, ...]:
        """What the user should know of how the network is called, and what preflight changed so that it can be."""
        return (*self.model.notes, *self.judged.checked.fixes)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the robust accuracy says, as findings."""
        names = ", ".join(plan.name for plan in self.result.plans)
        measurement = Measurement(
            id=f"{SUBJECT}/attacked",
            model=SUBJECT,
            metric="robust_accuracy",
            value=self.robust_accuracy,
            protocol=f"worst case over {names}",
            stage="attack",
            replay=self.command,
            budget=self.budget,
            trust=self.trust,
        )
        return judge_measurements([measurement], ())

    @property
    def complete(self) -> bool:
        """Every image was attacked, and every check of the verdict made."""
        return self.result.complete and self.result.interruption is None

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai attack --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {
                "name": self.model.name,
                "digest": self.model.digest,
                "format": self.model.format,
                "arch": self.model.arch,
                "user_code": self.model.user_code,
                "access": self.result.access,
            },
            "data": {"name": self.data.name, "digest": self.data.digest, "n": len(self.data), "note": self.data.note},
            "seed": self.seed,
            **self.result.as_json(),
            "complete": self.complete,
            "trust": self.trust.as_json(),
            "preflight": [check.as_json() for check in self.judged.checked.checks],
            "fixes": list(self.fixes),
            "findings": [finding.as_json() for finding in self.findings],
            "surrogate": self._surrogate_json(),
        }

    def _surrogate_json(self) -> dict[str, Any] | None:
        if self.surrogate is None:
            return None
        passes = self.surrogate.passes
        return {
            "name": self.surrogate.name,
            "digest": self.surrogate.digest,
            "forward_passes": passes.forward,
            "backward_passes": passes.backward,
        }


def attack(
    model: ModelSpec | torch.nn.Module | ScoreFunction,
    data: str,
    *,
    norm: str,
    eps: str,
    attack: str = defaults.ATTACK,
    split: str = "test",
    n: int | None = None,
    batch_size: int = 256,
    save_adversarial: str | Path | None = None,
    surrogate: ModelSpec | None = None,
    seed: int = 0,
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = ignore_progress,
) -> AttackReport:
    """Attack a network.

    Args:
        model: the file and how to read and feed it; or a network, or any callable from images (N, C, H, W) float32 in
            [0, 1] as a NumPy array to scores (N, K) (labels (N,): through a ModelSpec with `access="labels"`).
        data: in the forms of `--data`, e.g. `mnist:test~1000`.
        norm: linf, l2, l1 or l0.
        eps: decimal or fraction, e.g. `8/255`.
        attack: comma list, e.g. `fgsm,pgd:steps=100:restarts=5`, `fast,transfer`, `examples:FILE.npz`.
        n: the first n images in file order.
        save_adversarial: an `.npz` file for the examples.
        surrogate: the network that the attack `transfer` makes its examples on.

    Raises:
        SecureAIError: anything in the request, the files or the network that cannot be used; an `.npz` file that holds
            something other than saved examples is not replaced.
    """
    _check_request(batch_size, save_adversarial)
    dataset = load_data(data, split=split, n=n, seed=seed, events=events)
    channels, height, width = dataset.input_shape
    budget = parse_budget(norm, eps, channels * height * width)
    spec = spec_of(model)
    suite = parse_suite(attack, budget.norm, spec.access or "gradients", len(dataset), dataset.classes)
    _check_surrogate(suite.plans, surrogate)
    files = dict.fromkeys(example_files(suite.plans))  # refused before any code of the user's runs
    borrowed: list[Borrowed] = [SavedExamples(file, read_examples(file, dataset)) for file in files]
    configure(precision)
    loaded = load_subject(model, dataset, events)
    target = target_for(loaded, dataset, spec, batch_size=batch_size)
    if (target.access, target.num_classes) != (suite.access, suite.classes):  # only the loaded network tells
        suite = parse_suite(attack, budget.norm, target.access, len(dataset), target.num_classes)
    other = surrogate_for(surrogate, dataset, seed, batch_size, events) if surrogate else None
    judged = judge_network(
        target,
        dataset,
        budget,
        suite.plans,
        seed,
        borrowed=[*borrowed, *([other] if other else [])],
        keep_examples=save_adversarial is not None,
        progress=progress,
        attacked=lambda result: _save(save_adversarial, result, dataset, loaded, attack),
    )
    options = {"data": data, "split": split, "n": n, "norm": norm, "eps": eps, "attack": attack, "seed": seed}
    command = _command(model, surrogate, options | {"precision": precision}) if isinstance(model, ModelSpec) else ""
    return AttackReport(loaded, dataset, budget, judged, seed, other, command)


def _check_request(batch_size: int, save_adversarial: str | Path | None) -> None:
    """What can be refused before anything is read."""
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise UsageError("bad batch size", where="--batch-size", expected=f"1 to {MAX_BATCH_SIZE}", got=batch_size)
    if save_adversarial is not None:
        if Path(save_adversarial).suffix != ".npz":  # or a slip overwrites the model itself
            raise UsageError("bad output", where="--save-adversarial", expected="FILE.npz", got=str(save_adversarial))
        refuse_unwritable(Path(save_adversarial))
        refuse_replacing(Path(save_adversarial))


def _save(path: str | Path | None, result: SuiteResult, dataset: Dataset, loaded: LoadedModel, attack: str) -> None:
    """Write the examples of the samples that were finished, where they were asked for and there are any."""
    if path is None or result.x_adv is None or not result.n:
        return
    origin = Origin(
        model_digest=loaded.digest,
        data_digest=dataset.digest,
        budget=result.budget,
        attack=attack,
        seed=result.seed,
        complete=result.complete,
    )
    kept = result.evaluated
    labels, index = np.asarray(dataset.labels)[kept], np.asarray(dataset.indices)[kept]
    save_examples(Path(path), result.x_adv[kept], labels, index, origin)


def _command(model: ModelSpec, surrogate: ModelSpec | None, options: Mapping[str, object]) -> str:
    """The command line that does the same again; an option that is None was not given."""
    other = {} if surrogate is None else {"surrogate": surrogate.model, "surrogate-arch": surrogate.arch}
    given = [(name, value) for name, value in {**options, **other}.items() if value is not None]
    return shlex.join(["secure-ai", "attack", *model.words(), *(w for n, v in given for w in (f"--{n}", str(v)))])


def _check_surrogate(plans: tuple[AttackPlan, ...], surrogate: ModelSpec | None) -> None:
    """`transfer` needs a surrogate, and a surrogate that nothing uses is a mistake; both told before any work."""
    refuse_unbound(plans, surrogate=surrogate is not None, examples=True)
    if surrogate is not None and not names_transfer(plans):
        raise UsageError(
            "no attack uses the surrogate",
            where="--surrogate",
            expected="--attack with transfer in it, e.g. fast,transfer",
            got=", ".join(plan.name for plan in plans),
        )
