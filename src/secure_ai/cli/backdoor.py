"""`secure-ai backdoor plant`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import secure_ai
from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, Split
from secure_ai.cli.progress import watch_steps
from secure_ai.cli.render import print_json, print_lines
from secure_ai.core.errors import UsageError


def plant(
    *,
    out: Path,
    trigger: str | None = None,
    target_label: int | None = None,
    all_to_all: Annotated[bool, Parameter(negative="")] = False,
    data: str = "mnist:train",
    poison_rate: float | None = None,
    poison_count: int | None = None,
    source_label: int | None = None,
    cover_count: int = 0,
    trigger_share: float | None = None,
    label_mode: Annotated[Literal["dirty", "clean", "flip"], ANY_CASE] = "dirty",
    train: str | None = None,
    perturb_model: Path | None = None,
    perturb_eps: float | None = None,
    split: Split = "train",
    n: int | None = None,
    resize: int | None = None,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Plant a backdoor in a training set: writes poisoned.npz and poison.json; or train a network with it.

    Args:
        out: Folder for the files.
        trigger: E.g. patch:size=4:place=bottom-right:value=1; the kinds are in docs/backdoors-repair.md.
        target_label: The class the trigger is to cause.
        all_to_all: Instead of one target, every class y is sent to y + 1.
        data: mnist:train[:N|~N], an IDX folder, FILE.npz or a folder of images.
        poison_rate: Poisoned images over all training images; this or --poison-count.
        poison_count: Poisoned images.
        source_label: Only images of this class; default: any but the target.
        cover_count: Images of other classes that get the trigger and keep their label.
        trigger_share: Each training image gets only this fraction of the trigger's 16 pieces, another choice each
            (Adap-Blend: 0.5); default: the whole trigger.
        label_mode: dirty relabels to the target, clean keeps labels, flip relabels without a trigger.
        perturb_model: With clean labels: a network file of the attacker's. PGD against it makes the images hard to
            learn before the trigger is put on them.
        perturb_eps: With --perturb-model: how far, in linf; default: 0.3.
        train: report1-cnn or report2-cnn: the attacker trains it and poisons every batch anew, as WaNet needs. Writes
            backdoored.safetensors instead of poisoned.npz.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
    """
    if (target_label is None) != all_to_all:
        raise UsageError("one target", where="--target-label", expected="a class, or --all-to-all")
    with watch_steps(common.quiet or common.json or train is None, "training with the backdoor") as progress:
        result = secure_ai.backdoor_plant(
            data,
            trigger=trigger,
            target_label=target_label,
            out=out,
            poison_rate=poison_rate,
            poison_count=poison_count,
            source_label=source_label,
            cover_count=cover_count,
            trigger_share=trigger_share,
            label_mode=label_mode,
            train=train,
            perturb_model=None if perturb_model is None else str(perturb_model),
            perturb_eps=perturb_eps,
            split=split,
            n=n,
            resize=resize,
            seed=common.seed_or_zero,
            precision=common.precision,
            progress=progress,
        )
    if common.json:
        print_json(result.record)
    elif result.trained is not None:
        made = result.trained
        print_lines(
            [
                f"trained {train} with the backdoor: {result.file}",
                f"on images it was not trained on: {made.accuracy} correct; with the trigger {made.success} of the "
                f"other classes go to {target_label}",
            ]
        )
    else:
        count, rate = result.record["poison_count"], result.record["poison_rate"]
        print_lines([f"poisoned {count} images ({100 * rate:.2f} % of all) in {result.file}"])
    return 0
