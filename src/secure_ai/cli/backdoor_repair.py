"""`secure-ai backdoor filter` and `secure-ai backdoor remove`."""

from __future__ import annotations

from pathlib import Path

import secure_ai
from secure_ai.cli.options import (
    CommonOptions,
    DataName,
    DeviceOptions,
    ModelFile,
    ModelOptions,
    Split,
    either_data,
    named_data,
)
from secure_ai.cli.progress import say_plans, watch_steps
from secure_ai.cli.render import print_json, print_lines, print_table, stdout_is_for_json
from secure_ai.core.duration import parse_duration
from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.files.sandbox import sandbox_required


def filter_data(
    name: DataName = None,
    /,
    *,
    out: Path,
    data: str | None = None,
    trusted: str | None = None,
    fraction: float | None = None,
    arch: str = "report1-cnn",
    split: Split = "train",
    n: int | None = None,
    resize: int | None = None,
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Find poisoned training images: writes scores, a picture of the worst and the data set without them.

    Args:
        name: The data, as --data.
        out: Folder for filter.json, scores.npz, suspicious.png and cleaned.npz.
        data: mnist:train[:N|~N], an IDX folder, FILE.npz or a folder of images; default: mnist:train.
        trusted: Images known to be clean, at least 200: they decide far better than any filter without them.
        fraction: How much to remove where there are no trusted images; default: 0.015.
        arch: The network that is trained and whose features are looked at: report1-cnn, report2-cnn or FILE.py:FACTORY.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
    """
    named = either_data(name, data)
    with watch_steps(common.quiet or common.json, "training on the data") as progress:
        found = secure_ai.backdoor_filter(
            "mnist:train" if named is None else named, out=out, trusted=trusted, fraction=fraction, arch=arch,
            split=split, n=n, resize=resize, seed=common.seed_or_zero, device=compute.device,
            precision=common.precision, progress=progress,
        )  # fmt: skip
    if common.json:
        print_json(found.record)
        return 0
    record = found.record
    alarms, by = record["expected_false_alarms"], " and ".join(f"{k} above {v:g}" for k, v in record["limits"].items())
    lines = [f"{record['suspicious']} of {record['source']['n']} images are suspicious, by {by}"]
    if alarms:
        lines.append(
            f"expected false alarms: at most {100 * alarms['at_most']:.1f} % of clean images "
            f"({alarms['limits']} limits, each exceeded by 1 % of the {alarms['n']} trusted images that set it)"
        )
    print_lines([*lines, f"scores, picture and cleaned data in {found.folder}"])
    return 0


def remove(
    file: ModelFile = None,
    name: DataName = None,
    /,
    *,
    out: Path,
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: str | None = None,
    trigger: str | None = None,
    target_label: int | None = None,
    fleet: int = 0,
    train_data: str | None = None,
    time_budget: str | None = None,
    split: Split = "train",
    n: int | None = None,
    resize: int | None = None,
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Repair a model: several removers, the best by clean accuracy and a second scan; what it did, before and after.

    Args:
        file: Model file, as --model.
        name: The data, as --data.
        out: The safetensors file to write.
        data: Clean images: at most 3,000 repair, others measure.
        trigger: The planted trigger, if you know it: measured with after the choice, never used for it.
        target_label: The planted trigger's class.
        fleet: Control networks to train for the second scan where none are committed, e.g. 40. 0: no second scan.
        train_data: What they are trained on: about as many images as the model was. Default: the images that repair.
        time_budget: E.g. 10m: for training control networks. The fleet is smaller where it does not suffice.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
    """
    model, named = model.named(file), named_data(either_data(name, data))
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_steps(common.quiet or common.json, "networks") as progress,
    ):
        done = secure_ai.backdoor_remove(
            model.spec(), named, out=out, trigger=trigger, target_label=target_label, fleet=fleet,
            train_data=train_data, time_budget=parse_duration(time_budget) if time_budget else None, split=split, n=n,
            resize=resize, seed=common.seed_or_zero, device=compute.device, precision=common.precision,
            events=say_plans(common.quiet or common.json), progress=progress,
        )  # fmt: skip
    code = EXIT_INCONCLUSIVE if done.doubts else EXIT_OK
    if common.json:
        print_json(done.as_json())
        return code
    states = {"before": done.before, **{f"after {name}": state for name, state in done.tried.items()}}
    rows = [
        (name, *(str(found).partition(", n")[0] for found in (one.accuracy, one.success, one.recovered)),
         "-" if one.class_p is None else f"{one.class_p:.2g}")
        for name, one in states.items()
    ]  # fmt: skip
    columns = ("network", f"clean, n = {done.before.accuracy.n}", f"trigger works, n = {done.before.success.n}",
               "triggered, true class", "class, p")  # fmt: skip
    print_table(f"removal: class {done.label} and its reconstructed trigger", columns, rows)
    planted = ", ".join(f"{name} {one}" for name, one in done.planted.items())
    print_lines(
        [
            f"kept: {done.chosen}, in {done.out}",
            *([f"p of the class: {done.fleet.source}"] if done.fleet else []),
            *([f"success of the planted trigger: {planted}"] if planted else []),
            f"the trigger learned again from 50 images: before {done.before.relearned}, after {done.after.relearned}, "
            f"a clean network {done.clean_relearned or 'cannot be made'}",
            *([f"exit 3: a backdoor may be there still: {'; '.join(done.doubts)}"] if done.doubts else []),
        ]
    )
    return code
