"""The verb `attack`: a user's network under a suite of attacks, every figure with its interval and trust verdict."""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from secure_ai.core.budget import PerturbationBudget, parse_budget
from secure_ai.core.compute import configure
from secure_ai.core.errors import ArchError, UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Measurement
from secure_ai.core.seeds import generator
from secure_ai.core.trust import Check, Trust, check
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.files.write import refuse_unwritable
from secure_ai.models.load.store import LoadedModel, make_target
from secure_ai.models.preflight.preflight import Preflight, preflight, same_answers
from secure_ai.models.target.passes import PassCounter
from secure_ai.models.target.scorer import ScoreFunction
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, labels_to_tensor
from secure_ai.red.evasion.attacks.transfer import bind_borrowed, example_files, names_transfer, refuse_unbound
from secure_ai.red.evasion.contract import AttackPlan, ignore_progress
from secure_ai.red.evasion.suite.access import plans_for, read_request
from secure_ai.red.evasion.suite.catalogue import check_cost
from secure_ai.red.evasion.suite.harness import run_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.health import GradientHealth, gradient_health
from secure_ai.red.evasion.trust.judge import judge_suite
from secure_ai.red.evasion.trust.probes.diagnose import diagnose, diagnose_survivors
from secure_ai.runs.examples_file import Origin, read_examples, refuse_replacing, save_examples
from secure_ai.runs.judgements import judge_measurements
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.recipe import defaults
from secure_ai.runs.subject import load_subject, spec_of

MAX_BATCH_SIZE = 10_000
MOST_REPEATED = 0.01  # share of the images; MNIST has no two that are the same
DARKEST = 0.25  # share of full scale that some pixel reaches
PREFLIGHT_POOL = 1000


@dataclass(frozen=True, slots=True, eq=False)
class AttackReport:
    """What `attack` found.

    Attributes:
        preflight: the checks made on the target before anything was attacked.
        fixes: what preflight changed so that the network could be attacked.
        surrogate: the network that `transfer` made its examples on; its passes are counted apart from the target's.
        command: the line that does the same again; empty for a model that was handed over in Python.
    """

    model: LoadedModel
    data: Dataset
    budget: PerturbationBudget
    result: SuiteResult
    trust: Trust
    preflight: tuple[Check, ...]
    fixes: tuple[str, ...]
    seed: int
    surrogate: NetworkTarget | None = None
    command: str = ""

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the robust accuracy says, as findings."""
        names = ", ".join(plan.name for plan in self.result.plans)
        measurement = Measurement(
            id=f"{SUBJECT}/attacked",
            model=SUBJECT,
            metric="robust_accuracy",
            value=self.result.robust_accuracy,
            protocol=f"worst case over {names}",
            stage="attack",
            replay=self.command,
            budget=self.budget,
            trust=self.trust,
        )
        return [finding.as_json() for finding in judge_measurements([measurement.as_json()], frozenset())]

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
            "preflight": [check.as_json() for check in self.preflight],
            "fixes": list(self.fixes),
            "findings": self.findings,
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
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise UsageError("bad batch size", where="--batch-size", expected=f"1 to {MAX_BATCH_SIZE}", got=batch_size)
    if save_adversarial is not None:
        if Path(save_adversarial).suffix != ".npz":  # or a slip overwrites the model itself
            raise UsageError("bad output", where="--save-adversarial", expected="FILE.npz", got=str(save_adversarial))
        refuse_unwritable(Path(save_adversarial))
        refuse_replacing(Path(save_adversarial))
    dataset = load_data(data, split=split, n=n, seed=seed, events=events)
    channels, height, width = dataset.input_shape
    budget = parse_budget(norm, eps, channels * height * width)
    spec = spec_of(model)
    plans = read_request(attack, budget.norm, spec.access, len(dataset), dataset.classes)
    _check_surrogate(plans, surrogate)
    read = functools.cache(lambda file: read_examples(file, dataset))
    for file in example_files(plans):
        read(file)  # refused before any code of the user's runs
    configure(precision)
    loaded = load_subject(model, dataset, events)
    target = target_for(loaded, dataset, spec, batch_size=batch_size)
    plans = plans_for(attack, budget.norm, target.access)
    check_cost(plans, len(dataset), target.num_classes)
    checked = examine(target, dataset, seed)
    other = surrogate_for(surrogate, dataset, seed, batch_size, events) if surrogate else None
    plans = bind_borrowed(plans, network=other, read=read)
    if other is not None:
        other.passes = PassCounter()  # what preflight asked is not the attack's
    result = run_suite(
        checked.target,
        dataset.images,
        dataset.labels,
        budget=budget,
        attacks=plans,
        seed=seed,
        progress=progress,
        keep_examples=save_adversarial is not None,
    )
    if save_adversarial is not None and result.x_adv is not None and result.n:
        origin = Origin(
            model_digest=loaded.digest,
            data_digest=dataset.digest,
            budget=budget,
            attack=attack,
            seed=seed,
            complete=result.complete,
        )
        kept = result.evaluated
        labels, index = np.asarray(dataset.labels)[kept], np.asarray(dataset.indices)[kept]
        save_examples(Path(save_adversarial), result.x_adv[kept], labels, index, origin)
    more, gradients = [*checked.checks, *data_checks(dataset)], None
    if result.complete:
        try:
            more += [same_answers(checked), *probes(checked.target, dataset, budget, seed, plans, result.robust)]
            gradients = health_where_seen(checked.target, dataset)
        except KeyboardInterrupt as interruption:  # the suite is whole: its result outlives the checks on it
            more.append(check("checks-finished", False, "interrupted before every check of this verdict was made"))
            result = replace(result, interruption=interruption)
    trust = judge_suite(result, gradients=gradients, more=more)
    fixes = (*loaded.notes, *checked.fixes)
    options = {"data": data, "split": split, "n": n, "norm": norm, "eps": eps, "attack": attack, "seed": seed}
    command = _command(model, surrogate, options | {"precision": precision}) if isinstance(model, ModelSpec) else ""
    return AttackReport(loaded, dataset, budget, result, trust, checked.checks, fixes, seed, other, command)


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


def surrogate_for(spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink) -> NetworkTarget:
    """The surrogate as something to make examples on: as `examined`, errors saying which network they are about."""
    try:
        return examined(spec, dataset, seed, batch_size, events)
    except ArchError as error:
        raise ArchError(
            f"the surrogate: {error.message}", where=error.where, expected=error.expected, got=error.got,
            hint="--surrogate-arch names its architecture, as --arch does the model's",
        ) from error  # fmt: skip


def examined(spec: ModelSpec, dataset: Dataset, seed: int, batch_size: int, events: EventSink) -> NetworkTarget:
    """A network as something to make examples on: loaded, fed as said, with preflight's fixes."""
    loaded = load_subject(spec, dataset, events)
    target = target_for(loaded, dataset, spec, batch_size=batch_size)
    return examine(target, dataset, seed).target


def health_where_seen(target: NetworkTarget, dataset: Dataset) -> GradientHealth | None:
    """`gradient_health` of a target that offers gradients."""
    return gradient_health(target, dataset.images, dataset.labels) if target.access == "gradients" else None


def data_checks(dataset: Dataset) -> list[Check]:
    """What the data alone allow to be claimed."""
    classes = np.unique(dataset.labels)
    evidence = f"{len(classes)} classes among {len(dataset)} images"
    if len(classes) < 2:
        evidence = f"every image is of class {classes[0]}: a network that always answers {classes[0]} would be robust"
    return [
        random_sample_check(dataset),
        check("classes-in-data", len(classes) > 1, evidence),
        _distinct_images_check(dataset),
        _full_range_check(dataset),
    ]


def _distinct_images_check(dataset: Dataset) -> Check:
    """Fails where more than MOST_REPEATED of the images are copies: an interval takes all for independent."""
    n = len(dataset)
    distinct = len({hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in dataset.images})
    evidence = f"{distinct} of {n} images are distinct; at most {MOST_REPEATED:.0%} may be copies of others"
    return check("distinct-images", n - distinct <= MOST_REPEATED * n, evidence)


def _full_range_check(dataset: Dataset) -> Check:
    """Fails where no pixel reaches a quarter of full scale: images of 17 grey levels as bytes, most likely."""
    full = 255 if dataset.images.dtype == np.uint8 else 1
    brightest = float(dataset.images.max())
    evidence = f"the brightest pixel is {brightest:g} of {full}; eps is a share of full scale"
    return check("full-range", brightest >= DARKEST * full, evidence)


def random_sample_check(dataset: Dataset) -> Check:
    """Fails for the first N in file order: on one network PGD-40 gave 91 % on the first half and 96 % on the last."""
    evidence = dataset.note or "every image of the source"
    return check("random-sample", not dataset.note.startswith("first"), evidence)


def probes(
    target: NetworkTarget,
    dataset: Dataset,
    budget: PerturbationBudget,
    seed: int,
    plans: tuple[AttackPlan, ...],
    robust: np.ndarray | None = None,
) -> tuple[Check, ...]:
    """The checks that need probes of their own; none for a target that offers no gradients."""
    if target.access != "gradients":
        return ()
    return diagnose(target, dataset.images, dataset.labels, budget, seed, attacks=plans, robust=robust)


def survivor_probes(
    target: NetworkTarget, dataset: Dataset, budget: PerturbationBudget, seed: int, robust: np.ndarray
) -> tuple[Check, ...]:
    """What `probes` asks about the images that a suite left, for another budget; none without gradients."""
    if target.access != "gradients":
        return ()
    return diagnose_survivors(target, dataset.images, dataset.labels, budget, seed, robust=robust)


def examine(target: NetworkTarget, dataset: Dataset, seed: int) -> Preflight:
    """Preflight on images from all over the data set."""
    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), PREFLIGHT_POOL)).astype(np.int64)
    images = images_to_float(dataset.images[spread])
    labels = labels_to_tensor(dataset.labels[spread])
    return preflight(target, images, labels, generator=generator(seed, "preflight"))


def target_for(loaded: LoadedModel, dataset: Dataset, model: ModelSpec, **settings: Any) -> NetworkTarget:
    """The loaded network as a target that is fed as the user said."""
    return make_target(
        loaded,
        input_shape=dataset.input_shape,
        num_classes=max(dataset.classes, loaded.num_classes or 0),
        mean=model.mean,
        std=model.std,
        value_range=model.value_range,
        access=model.access,
        **settings,
    )
