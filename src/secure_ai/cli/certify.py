"""`secure-ai certify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import secure_ai
from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, DataOptions, DeviceOptions, ModelFile, ModelOptions
from secure_ai.cli.progress import say_user_code, watch_steps
from secure_ai.cli.render import print_json, print_lines, stdout_is_for_json
from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK, EXIT_VERIFICATION_FAILED
from secure_ai.core.trust import CheckOutcome, fed_wrongly, input_warning
from secure_ai.files.sandbox import sandbox_required
from secure_ai.report.render.verdict import exit_reason

if TYPE_CHECKING:
    from secure_ai.runs.verbs.certify import CertifyReport


def certify(
    file: ModelFile = None,
    /,
    *,
    eps: str,
    norm: Annotated[Literal["linf", "l2"] | None, ANY_CASE] = None,
    method: Annotated[Literal["ibp", "crown-ibp", "smoothing"], ANY_CASE] = "ibp",
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: DataOptions = DataOptions(),  # noqa: B008  # frozen
    attack: str | None = None,
    sigma: float | None = None,
    samples: int | None = None,
    alpha: float | None = None,
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Prove how many predictions no attack can change, and attack the same images.

    Args:
        file: Model file, as --model.
        norm: linf for ibp and crown-ibp, l2 for smoothing; default: the method's.
        eps: Radius of the certificate, on pixels in [0, 1].
        method: ibp (interval bounds; sequential networks of convolution, linear, ReLU, pooling, flatten and batch
            normalisation), crown-ibp (the same networks; never proves less, takes longer) or smoothing (randomised
            smoothing; any network).
        attack: For ibp and crown-ibp: as of `attack`; default: fast.
        sigma: For smoothing: standard deviation of the noise; default: a third of eps.
        samples: For smoothing: noisy samples per image; default: 10,000.
        alpha: For smoothing: chance that a certificate is wrong, per image; default: 0.001.
    """
    model = model.named(file)
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_steps(common.quiet or common.json, "certifying") as progress,
    ):
        report = secure_ai.certify(
            model.spec(),
            data.source,
            norm=norm,
            eps=eps,
            method=method,
            attack=attack,
            sigma=sigma,
            samples=samples,
            alpha=alpha,
            split=data.split,
            n=data.n,
            resize=data.resize,
            seed=common.seed_or_zero,
            device=compute.device,
            events=say_user_code(),
            progress=progress,
        )
    code = _exit_code(report)
    if common.json:
        print_json(report.as_json())
    else:
        print_lines(_lines(report))
        if code == EXIT_INCONCLUSIVE:
            print(exit_reason(code, "never", misfed=True, complete=True))
    return code


def _exit_code(report: CertifyReport) -> int:
    if report.contradictions:
        return EXIT_VERIFICATION_FAILED
    return EXIT_INCONCLUSIVE if fed_wrongly(report.trust.checks) else EXIT_OK


def _lines(report: CertifyReport) -> list[str]:
    failed = [made for made in report.trust.checks if made.outcome is CheckOutcome.FAIL]
    warning = input_warning(report.trust.checks)
    lines = [
        *([f"CHECK THE INPUT: {warning}"] if warning else []),
        f"certified {report.certified}: no attack within {report.budget} changes these predictions",
        f"attacked  {report.attacked}: what the attack left (trust: {report.trust.verdict})",
        f"clean     {report.clean}",
        *(f"{made.id}: {made.evidence}" for made in failed),
    ]
    if report.method == "smoothing":
        abstained = report.settings["abstained"]
        lines.append(f"abstained on {abstained['successes']} of {abstained['n']} images, counted as misclassified")
        lines.append(
            f"smoothed classifier: sigma {report.settings['sigma']:g}, {report.settings['samples']} samples an image, "
            f"largest radius {report.settings['largest_radius']:.3g}, alpha {report.settings['alpha']:g} an image"
        )
    if report.contradictions:
        lines.append(f"{report.contradictions} certified predictions were changed: the certificate is wrong")
    return lines
