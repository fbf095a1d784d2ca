"""The verb `attack`: a user's network under a suite of attacks, every figure with its interval and trust verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from secure_ai.core.budget import Norm, PerturbationBudget, parse_budget
from secure_ai.core.compute import Device, Precision, configure
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding
from secure_ai.core.result import Model
from secure_ai.core.results import SCHEMA_VERSION, Measurement, Rate
from secure_ai.core.trust import Trust, input_warning
from secure_ai.data.dataset import Dataset
from secure_ai.files.write import refuse_unwritable, write_json
from secure_ai.models.load.store import LoadedModel
from secure_ai.models.target.access import Access
from secure_ai.models.target.scorer import ScoreFunction
from secure_ai.models.target.target import NetworkTarget
from secure_ai.red.evasion.contract import AttackPlan, ignore_progress
from secure_ai.red.evasion.suite.borrowed import example_files, names_transfer, refuse_unbound
from secure_ai.red.evasion.suite.parse import parse_suite
from secure_ai.red.evasion.suite.result import SuiteResult
from secure_ai.red.evasion.trust.judged import Borrowed, Judged, SavedExamples, ignore_phase, judge_network
from secure_ai.report.render.notebook import attack_html
from secure_ai.runs.examples_file import Origin, read_examples, refuse_replacing, save_examples
from secure_ai.runs.given_data import Data, dataset_of
from secure_ai.runs.judgements import judge_measurements
from secure_ai.runs.model_spec import SUBJECT, ModelSpec
from secure_ai.runs.recipe import defaults
from secure_ai.runs.stages.folder_code import judge_code
from secure_ai.runs.user_model import is_object, load_subject, spec_of, surrogate_for, target_for

MAX_BATCH_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class AttackExamples:
    """The worst case that the attacks found for every image that went through all of them.

    Attributes:
        x_adv: (N, C, H, W) float32 in [0, 1], inside the budget; the clean image where it is misclassified already.
        y: (N,) int64 true labels.
        index: (N,) int64 positions in the data.
        predictions: (N,) int64, what the model takes `x_adv` for.
    """

    x_adv: np.ndarray
    y: np.ndarray
    index: np.ndarray
    predictions: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttackReport:
    """What `attack` found.

    Attributes:
        judged: the suite's result with its verdict, and what preflight found.
        attack: the list of attacks, as it was given.
        surrogate: the network that `transfer` made its examples on; its passes are counted apart from the target's.
        command: the line that does the same again; empty for a model or data that was handed over in Python.
    """

    model: LoadedModel
    data: Dataset
    budget: PerturbationBudget
    judged: Judged
    seed: int
    attack: str
    surrogate: NetworkTarget | None = None
    command: str = ""

    def __repr__(self) -> str:
        """One line, e.g. `AttackReport(robust accuracy 5.90 % [...], n = 1000 (reliable), linf 8/255)`."""
        return f"AttackReport(robust accuracy {self.robust_accuracy} ({self.trust.verdict.value}), {self.budget})"

    def _repr_html_(self) -> str:
        """For a notebook: the numbers, the attacks, and the checks that speak against the robust accuracy."""
        return attack_html(
            clean=self.clean_accuracy,
            robust=self.robust_accuracy,
            budget=self.budget,
            trust=self.trust,
            warning=input_warning(self.judged.checked.checks),
            attacks=[(row.plan.short_text, row.robust_accuracy) for row in self.result.rows],
        )

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
        """The robust accuracy, what preflight found, and code that lies beside the weights, as findings."""
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
        loaded, checks = self.model, self.judged.checked.checks
        entry = Model(
            id=SUBJECT, role=SUBJECT, digest=loaded.digest, format=loaded.format, arch=loaded.arch, title=loaded.name,
            preflight=checks,
        )  # fmt: skip
        return (*judge_measurements([measurement], [entry]), *judge_code(loaded.code, SUBJECT, loaded.name))

    @property
    def complete(self) -> bool:
        """Every image was attacked, and every check of the verdict made."""
        return self.result.complete and self.result.interruption is None

    @property
    def examples(self) -> AttackExamples:
        """The adversarial examples. Raises UsageError where they were not kept."""
        return _examples(self.result, self.data)

    def save(self, path: str | Path) -> None:
        """Write what `as_json` returns to `path`, a `.json` file; an earlier one is replaced."""
        if Path(path).suffix != ".json":
            raise UsageError("bad output", where="save", expected="FILE.json", got=str(path))
        write_json(Path(path), self.as_json())

    def save_examples(self, path: str | Path) -> None:
        """Write the examples to `path`, an `.npz` file that `attack="examples:FILE.npz"` reads.

        Raises:
            UsageError: another ending, a file that holds something else, or examples that were not kept.
        """
        _check_examples_file(path)
        _save_examples(path, self.result, self.data, self.model.digest, self.attack)

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
            "data": {
                "name": self.data.name,
                "digest": self.data.digest,
                "n": len(self.data),
                "note": self.data.note,
                "class_names": list(self.data.class_names or self.model.known.class_names),
            },
            "seed": self.seed,
            **self.result.as_json(),
            "complete": self.complete,
            "trust": self.trust.as_json(),
            "probe_seconds": round(self.judged.probe_seconds, 3),
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
    model: ModelSpec | str | Path | torch.nn.Module | ScoreFunction,
    data: Data,
    *,
    norm: Norm,
    eps: float | str,
    attack: str = defaults.ATTACK,
    arch: str | None = None,
    access: Access | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    value_range: tuple[float, float] = (0.0, 1.0),
    split: Literal["train", "test", "val"] = "test",
    n: int | None = None,
    resize: int | None = None,
    batch_size: int = 256,
    keep_examples: bool = True,
    save_adversarial: str | Path | None = None,
    surrogate: ModelSpec | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = ignore_progress,
    phase: Callable[[str], None] = ignore_phase,
) -> AttackReport:
    """Attack a model: its robust accuracy, and whether that number can be trusted.

    Args:
        model: a `torch.nn.Module` from images (N, C, H, W) to logits (N, K); a model file; or any function from images
            (N, C, H, W), a float32 NumPy array in [0, 1], to scores (N, K), or to labels (N,) with `access="labels"`.
            A `ModelSpec` says all about a model in one value.
        data: `(x, y)`, tensors or arrays: x (N, C, H, W), (N, H, W) or (N, H, W, C), uint8 or floating point in
            [0, 1]; y (N,) integers. Or a torch `Dataset` or `DataLoader` in a fixed order. Or a text of `--data`, e.g.
            `mnist:test~1000`.
        norm: linf, l2, l1 or l0.
        eps: the largest distance allowed, on pixels in [0, 1]: a number or a text such as `8/255`; l0 in values.
        attack: comma list, e.g. `fgsm,pgd:steps=100:restarts=5`, `fast,transfer`, `examples:FILE.npz`.
        arch: of a model file: a built-in name or `FILE.py:FACTORY`.
        access: what attacks may use: gradients, scores or labels; None: gradients of a module, scores of a function.
        mean, std: per channel, of the normalisation that the model expects; empty: none.
        value_range: what pixels 0 and 1 are scaled to before that.
        n: the first n images.
        resize: every image to so many rows and columns; the report says so.
        batch_size: most images in one pass; it does not change results.
        keep_examples: for `report.examples`; 4 bytes a pixel.
        save_adversarial: an `.npz` file for the examples, written before the checks of the verdict.
        surrogate: the model that the attack `transfer` makes its examples on.
        progress: told how much of the whole is done, attacks and checks; `phase` names the part.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: anything in the request, the files or the model that cannot be used; an `.npz` file that holds
            something other than saved examples is not replaced.
    """
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise UsageError("bad batch size", where="--batch-size", expected=f"1 to {MAX_BATCH_SIZE}", got=batch_size)
    if save_adversarial is not None:
        _check_examples_file(save_adversarial)
    spec = spec_of(model, arch=arch, access=access, mean=tuple(mean), std=tuple(std), value_range=value_range)
    dataset = dataset_of(data, split=split, n=n, resize=resize, seed=seed, events=events)
    channels, height, width = dataset.input_shape
    budget = parse_budget(norm, eps, channels * height * width)
    suite = parse_suite(attack, budget.norm, spec.access or "gradients", len(dataset), dataset.classes)
    _check_surrogate(suite.plans, surrogate)
    files = dict.fromkeys(example_files(suite.plans))  # refused before any code of the user's runs
    borrowed: list[Borrowed] = [SavedExamples(file, read_examples(file, dataset)) for file in files]
    compute = configure(precision, device)
    loaded = load_subject(spec, dataset, events, given=model if is_object(model) else None)
    target = target_for(loaded, dataset, spec, batch_size=batch_size, device=compute.device)
    if (target.access, target.num_classes) != (suite.access, suite.classes):  # only the loaded network tells
        suite = parse_suite(attack, budget.norm, target.access, len(dataset), target.num_classes)
    other = surrogate_for(surrogate, dataset, seed, batch_size, events, compute.device) if surrogate else None
    options = {"data": data, "split": split, "n": n, "resize": resize, "norm": norm, "eps": eps, "attack": attack}
    options |= {"seed": seed, "device": compute.device.type, "precision": precision}
    named = not is_object(model) and isinstance(data, str | Path)
    options |= {} if surrogate is None else {"surrogate": surrogate.model, "surrogate-arch": surrogate.arch}
    command = spec.command("attack", options) if named else ""

    def save(result: SuiteResult) -> None:
        if save_adversarial is not None and result.n:
            _save_examples(save_adversarial, result, dataset, loaded.digest, attack)

    judged = judge_network(
        target,
        dataset,
        budget,
        suite.plans,
        seed,
        borrowed=[*borrowed, *([other] if other else [])],
        keep_examples=keep_examples or save_adversarial is not None,
        progress=progress,
        phase=phase,
        attacked=save,
    )
    return AttackReport(loaded, dataset, budget, judged, seed, attack, other, command)


def _examples(result: SuiteResult, dataset: Dataset) -> AttackExamples:
    """Of the samples that were finished. Raises UsageError where they were not kept."""
    if result.x_adv is None:
        raise UsageError("the examples were not kept", where="attack", expected="keep_examples=True")
    kept = result.evaluated
    labels, index = np.asarray(dataset.labels)[kept], np.asarray(dataset.indices)[kept]
    return AttackExamples(result.x_adv[kept], labels, index, result.predictions[kept])


def _save_examples(path: str | Path, result: SuiteResult, dataset: Dataset, model_digest: str, attack: str) -> None:
    examples = _examples(result, dataset)
    origin = Origin(
        model_digest=model_digest,
        data_digest=dataset.digest,
        budget=result.budget,
        attack=attack,
        seed=result.seed,
        complete=result.complete,
    )
    save_examples(Path(path), examples.x_adv, examples.y, examples.index, origin)


def _check_examples_file(path: str | Path) -> None:
    """Refuse a file of examples that could not be written, before any work. Raises SecureAIError."""
    if Path(path).suffix != ".npz":  # or a slip overwrites the model itself
        raise UsageError("bad output", where="--save-adversarial", expected="FILE.npz", got=str(path))
    refuse_unwritable(Path(path))
    refuse_replacing(Path(path))


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
