"""`secure-ai train`."""

from __future__ import annotations

from pathlib import Path

import secure_ai
from secure_ai.cli.options import CommonOptions, DeviceOptions, Split
from secure_ai.cli.progress import watch_steps
from secure_ai.cli.render import print_json, print_lines


def train(
    *,
    arch: str,
    out: Path,
    data: str = "mnist:train",
    split: Split = "train",
    n: int | None = None,
    resize: int | None = None,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Train a built-in network on your data; the last tenth is held out for validation.

    Args:
        arch: report1-cnn or report2-cnn.
        out: The safetensors file to write.
        data: mnist:train[:N|~N], an IDX folder, FILE.npz or a folder of images.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
        epochs: Passes over the data.
        batch_size: Images per step.
        learning_rate: Adam learning rate.
    """
    with watch_steps(common.quiet or common.json, f"training {arch}") as progress:
        result = secure_ai.train(
            arch,
            data,
            out=out,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            split=split,
            n=n,
            resize=resize,
            seed=common.seed_or_zero,
            precision=common.precision,
            device=compute.device,
            progress=progress,
        )
    if common.json:
        print_json(result.as_json())
        return 0
    lines = [f"wrote {result.out}", f"digest {result.digest}"]
    if result.validation is not None:
        lines.append(f"accuracy on the last tenth of the data, which it was not trained on: {result.validation}")
    print_lines(lines)
    return 0
