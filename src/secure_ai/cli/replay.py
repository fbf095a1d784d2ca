"""`secure-ai replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import secure_ai
from secure_ai.cli.options import CommonOptions, ModelOptions
from secure_ai.cli.progress import say_user_code, watch_steps
from secure_ai.cli.render import print_json, print_replay, stdout_is_for_json
from secure_ai.files.sandbox import sandbox_required


def replay(
    run: Path,
    finding: str,
    *,
    index: int | None = None,
    every: Annotated[bool, Parameter(negative="", name=["--every", "--all"])] = False,
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    surrogate: str | None = None,
    surrogate_arch: str | None = None,
    data: str | None = None,
    out: Path | None = None,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Rebuild an adversarial example of a run and compare it bit for bit: exit 0 if it is the same, 4 if not.

    Args:
        run: The run's folder; nothing in it is changed.
        finding: Id of a finding (SAI-EV-001, or SAI-EV-001@subject) or of a measurement.
        index: Position of the image in the data's file; default: the first that was misclassified.
        every: Rebuild all examples of the measurement, not only the 256 around the image.
        surrogate: The surrogate's file, if it was moved since the run.
        surrogate_arch: The surrogate's architecture, as --arch.
        data: The images, if they were moved since the run.
        out: Save the example as .npz, or a picture of it as .png.
    """
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_steps(common.quiet or common.json, "replaying") as progress,
    ):
        found = secure_ai.replay(
            run,
            finding,
            index=index,
            every=every,
            model=model.spec() if model.model or model.arch else None,
            surrogate=model.like(surrogate, surrogate_arch),
            data=data,
            out=out,
            progress=progress,
            events=say_user_code(),
        )
    if common.json:
        print_json(found.as_json())
    else:
        print_replay(found)
    code: int = found.exit_code
    return code
