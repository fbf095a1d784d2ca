"""`secure-ai backdoor scan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import secure_ai
from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, DeviceOptions, ModelFile, ModelOptions, Split
from secure_ai.cli.progress import say_plans, watch_steps
from secure_ai.cli.render import print_json, print_lines, print_table, stdout_is_for_json
from secure_ai.core.duration import parse_duration
from secure_ai.core.errors import EXIT_FINDINGS, EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.findings import FailOn, exceeds
from secure_ai.core.labels import class_text
from secure_ai.files.sandbox import sandbox_required

if TYPE_CHECKING:
    from secure_ai.runs.verbs.backdoor_scan import ScanReport


def scan(
    file: ModelFile = None,
    /,
    *,
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: str | None = None,
    train_data: str | None = None,
    fleet: int | None = None,
    time_budget: str | None = None,
    split: Split = "test",
    n: int | None = None,
    resize: int | None = None,
    out: Path | None = None,
    fail_on: Annotated[FailOn, ANY_CASE] = "never",
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Scan a model for a backdoor; the verdict comes with a p-value and a false-alarm rate.

    Args:
        file: Model file, as --model.
        data: Clean images like those the model was trained on. Without them the verdict is at most suspicious.
        train_data: What the control networks are trained on; default: half of --data.
        fleet: Control networks to train. Default: the committed ones for a built-in network on MNIST, else 40.
        time_budget: E.g. 10m: for training control networks. The fleet is smaller where it does not suffice.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
        out: Folder for scan.json and the picture of the reconstructed trigger.
        fail_on: Exit 1 at or above this severity: a suspicious model is medium, a backdoored one critical. Exit 3 when
            the scan is inconclusive, whatever this says.
    """
    model = model.named(file)
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_steps(common.quiet or common.json, "control networks") as progress,
    ):
        report = secure_ai.backdoor_scan(
            model.spec(),
            data,
            train_data=train_data,
            fleet=fleet,
            time_budget=parse_duration(time_budget) if time_budget else None,
            split=split,
            n=n,
            resize=resize,
            out=out,
            seed=common.seed_or_zero,
            device=compute.device,
            precision=common.precision,
            events=say_plans(common.quiet or common.json),
            progress=progress,
        )
    if common.json:
        print_json(report.as_json())
    else:
        _print(report)
    if report.scan.verdict.value == "inconclusive":
        return EXIT_INCONCLUSIVE
    return EXIT_FINDINGS if exceeds(report.findings, fail_on) else EXIT_OK


def _print(report: ScanReport) -> None:
    """The verdict, what it rests on, and the classes it looked at."""
    scan = report.scan
    lines = [f"{scan.verdict.value}: {'; '.join(scan.reasons)}", *report.notes]
    found, trigger = scan.calibrated, scan.trigger
    names = () if report.data is None else report.data.class_names
    if scan.false_alarms is not None and scan.fleet is not None:
        lines += [
            f"clean networks that look as extreme: {scan.false_alarms} ({scan.fleet.source})",
            scan.fleet.power_text,
        ]
    if trigger is not None:
        lines.append(
            f"reconstructed trigger for class {class_text(trigger.label, names)} ({trigger.detector}, size "
            f"{trigger.size:.1f}): sends {trigger.success} of held-out {trigger.made_for(names)} to it"
        )
    print_lines(lines)
    if found is not None:
        scores = scan.class_scores
        classes = range(len(next(iter(scores.values()))))
        rows = [(class_text(k, names), *(f"{row[k]:.1f}" for row in scores.values())) for k in classes]
        print_table("scores, in deviations of the clean networks' class", ("class", *scores), rows)
    if report.folder is not None:
        print_lines([f"written to {report.folder}"])
