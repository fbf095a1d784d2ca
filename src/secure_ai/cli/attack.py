"""`secure-ai attack`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import secure_ai
from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.main import Terminated
from secure_ai.cli.options import CommonOptions, DataOptions, DeviceOptions, FailOptions, ModelFile, ModelOptions
from secure_ai.cli.progress import say_user_code, watch_steps
from secure_ai.cli.render import print_attack, print_json, stdout_is_for_json
from secure_ai.core.budget import Norm
from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, printable
from secure_ai.core.findings import gate
from secure_ai.core.trust import fed_wrongly
from secure_ai.files.sandbox import sandbox_required
from secure_ai.report.render.verdict import exit_reason
from secure_ai.runs.recipe import defaults


def attack(
    file: ModelFile = None,
    /,
    *,
    norm: Annotated[Norm, ANY_CASE],
    eps: str,
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: DataOptions = DataOptions(),  # noqa: B008  # frozen
    attack: str = defaults.ATTACK,
    batch_size: int = 256,
    save_adversarial: Path | None = None,
    surrogate: str | None = None,
    surrogate_arch: str | None = None,
    fail: FailOptions = FailOptions(),  # noqa: B008  # frozen
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Attack a model. Every figure has an interval, and the result a trust verdict.

    Args:
        file: Model file, as --model.
        norm: linf, l2, l1 or l0.
        eps: Perturbation budget on pixels in [0, 1]: a decimal or a fraction such as 8/255.
        attack: Attacks separated by commas, each NAME[:key=value...], e.g. fgsm,pgd:steps=100:restarts=5. Suites:
            fast, autoattack, rand, plus. Attacks: fgsm, pgd, apgd-ce, apgd-dlr, apgd-t, odi-pgd, fab, fab-t, square,
            ddn, fmn, cw, deepfool, sigma-zero, hopskipjump, noise; transfer with --surrogate, examples:FILE.npz,
            art:NAME. Their settings: docs/attacks.md.
        batch_size: Most images in one pass (64 where shards run side by side); it does not change results.
        save_adversarial: Write the adversarial examples to this .npz file; an older such file is replaced.
        surrogate: Model file of another network; makes the attack `transfer` available, e.g. --attack fast,transfer.
            It gets the images prepared as the model does.
        surrogate_arch: The surrogate's architecture, as --arch.
    """
    model = model.named(file)
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_steps(common.quiet or common.json, "preflight") as progress,
    ):
        report = secure_ai.attack(
            model.spec(),
            data.source,
            norm=norm,
            eps=eps,
            attack=attack,
            split=data.split,
            n=data.n,
            resize=data.resize,
            batch_size=batch_size,
            save_adversarial=save_adversarial,
            surrogate=model.like(surrogate, surrogate_arch),
            seed=common.seed_or_zero,
            precision=common.precision,
            device=compute.device,
            keep_examples=False,
            progress=progress,
            phase=progress.phase,
            events=say_user_code(),
        )
    if common.json:
        print_json(report.as_json())
    else:
        print_attack(report)
        if save_adversarial is not None and report.result.n:
            print(f"examples: {printable(str(save_adversarial))}")
    if report.result.interruption is not None:  # the partial result is out, and stays the only document
        terminated = isinstance(report.result.interruption, Terminated)
        print("stopped: what was finished is kept, and marked incomplete", file=sys.stderr)
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    code = gate(report.findings, fail.fail_on, [report.trust])
    wrong = bool(fed_wrongly(report.judged.checked.checks))
    code = EXIT_INCONCLUSIVE if wrong and code == EXIT_OK else code
    if code != EXIT_OK and not common.json:
        print(exit_reason(code, fail.fail_on, misfed=wrong, complete=report.complete))
    return code
