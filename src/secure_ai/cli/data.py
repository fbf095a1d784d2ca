"""`secure-ai data fetch|show`."""

from __future__ import annotations

from pathlib import Path

from secure_ai.cli.options import CommonOptions, Split
from secure_ai.cli.render import print_json, print_lines
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.runs.verbs import data as verb


def fetch(
    name: str = "mnist",
    *,
    data: Path | None = None,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Download MNIST into the cache and check every file against its known digest.

    Args:
        name: mnist.
        data: A folder that already has the files, under their original names, plain or .gz.
    """
    folder = verb.data_fetch(name, folder=data)
    if common.json:
        print_json({"schema_version": SCHEMA_VERSION, "name": name, "folder": str(folder)})
    else:
        print_lines([f"{name} is complete and verified in {folder}"])
    return 0


def show(
    data: str,
    *,
    split: Split = "test",
    n: int | None = None,
    resize: int | None = None,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Show what a data set holds: images, classes, sizes, digest.

    Args:
        data: mnist:train|test[:N|~N], an IDX folder, FILE.npz or a folder of images.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels.
    """
    facts = verb.data_show(data, split=split, n=n, resize=resize, seed=common.seed_or_zero)
    if common.json:
        print_json(facts)
    else:
        shown = {key: value for key, value in facts.items() if key != "schema_version" and value not in ("", [])}
        print_lines([f"{key}: {value}" for key, value in shown.items()])
    return 0
