"""`secure-ai harden`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import secure_ai
from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, DeviceOptions, ModelFile, ModelOptions, training_source
from secure_ai.cli.progress import say_user_code, watch_steps
from secure_ai.cli.render import print_json, print_lines
from secure_ai.files.sandbox import sandbox_required
from secure_ai.runs.model_spec import ModelSpec

if TYPE_CHECKING:
    from secure_ai.runs.verbs.harden import Hardened


def harden(
    file: ModelFile = None,
    /,
    *,
    norm: str,
    eps: str,
    out: Path,
    method: str = "pgd",
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: str | None = None,
    n: int | None = None,
    resize: int | None = None,
    adversary: str = "",
    awp: float = 0.0,
    epochs: int | None = None,
    time_budget: str | None = None,
    batch_size: int = 128,
    learning_rate: float | None = None,
    optimizer: Annotated[Literal["adam", "sgd"], ANY_CASE] = "adam",
    patience: int = 0,
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Train a network so that it withstands attacks. Test images are never read.

    A tenth of the training images is held out: robust accuracy on them chooses the weights (certified accuracy
    for ibp and crown-ibp, accuracy under noise for gaussian). A stopped training goes on with the same command
    from its last check, and ends with the same weights.

    Args:
        file: Model file, as --model.
        norm: linf, l2 or l1.
        eps: Largest change that the network should withstand, on pixels in [0, 1].
        out: The safetensors file to write.
        method: pgd, trades, mart, fast (one step, guarded), gaussian (for smoothing), ibp or crown-ibp (certified).
        data: mnist:train[:N|~N], an IDX folder, FILE.npz or a folder of images. A built-in network without a file
            has mnist:train where nothing is named.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
        adversary: Attack to train against, e.g. apgd-ce:steps=10, or cw:steps=10 in l2; default: PGD, every step.
        awp: Relative size of adversarial weight perturbation, e.g. 0.005; 0: none.
        epochs: Passes over the data; default: the method's own number, or as many as fit into --time-budget.
        time_budget: E.g. 5m: as many steps as fit with their checks, from the speed of the first 50 and of a check.
        batch_size: Images per step.
        learning_rate: Highest learning rate; default: the method's own.
        optimizer: adam (triangular rate) or sgd (momentum 0.9, cosine).
        patience: Stop after so many checks without a better robust accuracy.
    """
    model = model.named(file)
    spec = model.spec()
    with (
        sandbox_required(model.require_sandbox),
        watch_steps(common.quiet or common.json, f"hardening with {method}") as progress,
    ):
        result = secure_ai.hardened(
            spec,
            training_source(model, data),
            norm=norm,
            eps=eps,
            method=method,
            out=out,
            adversary=adversary,
            awp=awp,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            time_budget=time_budget,
            patience=patience,
            n=n,
            resize=resize,
            seed=common.seed_or_zero,
            device=compute.device,
            precision=common.precision,
            events=say_user_code(),
            progress=progress,
        )
    if common.json:
        print_json(result.as_json())
        return 0
    seconds = result.facts["train_seconds"] + result.facts["check_seconds"]
    lines = [f"not reused: {result.facts['not_reused']}"] if result.facts["not_reused"] else []
    lines += [
        f"wrote {result.out}",
        f"digest {result.digest}",
        f"{result.facts['steps_done']} steps ({result.facts['epochs']} epochs) in {seconds:.0f} s, "
        f"{result.facts['check_seconds']:.0f} s of them checks; weights of step {result.facts['chosen_step']}",
        f"held-out training images that chose the weights: clean {result.clean}, "
        f"{result.metric.replace('_', ' ')} {result.value}{' under PGD, not judged' if result.robust else ''}",
    ]
    if result.facts["cut_by_time"]:
        lines.append(f"no more epochs fit into {result.facts['time_budget']:g} s: the best weights of a cut training")
    lines += [f"single-step training collapsed at step {s}: rolled back, several steps from there"
              for s in result.checks.rolled_back]  # fmt: skip
    if result.facts["stopped_early"]:
        lines.append(_stopped(result))
    lines.append(f"measure it on images that it has not seen, with a trust verdict: {_measuring(result, spec, resize)}")
    print_lines(lines)
    return 0


def _stopped(result: Hardened) -> str:
    """At which step, and why."""
    facts, checks = result.facts, result.checks
    if checks.diverged:
        why = f"the loss was not finite at step {checks.diverged[0]}; the best weights so far were kept"
    else:
        why = f"no better {result.metric.replace('_', ' ')} within --patience {facts['settings']['patience']}"
    return f"stopped after step {facts['steps_done']} of {facts['steps']}: {why}"


def _measuring(result: Hardened, trained: ModelSpec, resize: int | None) -> str:
    """The command that measures what the network was trained for; TEST stands for the user's images."""
    method, budget = result.facts["method"], result.facts["budget"]
    certified = {"certified_accuracy": method, "accuracy_under_noise": "smoothing"}.get(result.metric)
    verb = ["certify", "--method", certified] if certified else ["attack"]
    words = replace(trained, model=result.out, weights_key="", access=None).words()
    words += ["--data", "TEST", *(["--resize", str(resize)] if resize else [])]
    return shlex.join(["secure-ai", *verb, *words, "--norm", budget["norm"], "--eps", budget["eps_text"]])
