"""`secure-ai run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from secure_ai.cli.choices import ANY_CASE
from secure_ai.cli.options import CommonOptions, DeviceOptions, FailOptions, ModelFile, ModelOptions
from secure_ai.cli.progress import say_user_code, watch_run
from secure_ai.cli.render import print_forecast, print_run, stdout_is_for_json
from secure_ai.core.duration import parse_duration
from secure_ai.core.errors import UsageError
from secure_ai.files.sandbox import sandbox_required
from secure_ai.report.render.verdict import why_exit
from secure_ai.runs.cases.report_2.settings import Mode
from secure_ai.runs.recipe import defaults
from secure_ai.runs.recipe.config import Change, parse_change, surroundings
from secure_ai.runs.recipe.origins import Origin
from secure_ai.runs.recipe.recipe import recipe_names
from secure_ai.runs.verbs import run as verb


def run(
    file: ModelFile = None,
    /,
    *,
    recipe: str | None = None,
    model: ModelOptions = ModelOptions(),  # noqa: B008  # frozen
    data: Annotated[str | None, Parameter(name=["--data", "--data-dir", "--data_dir"])] = None,
    split: Annotated[Literal["train", "test", "val"] | None, ANY_CASE] = None,
    n: int | None = None,
    resize: int | None = None,
    norm: str | None = None,
    eps: str | None = None,
    attack: str | None = None,
    mode: Mode | None = None,
    epochs: int | None = None,
    batch_size: Annotated[int | None, Parameter(name=["--batch-size", "--batch_size"])] = None,
    epsilon_fgsm: Annotated[float | None, Parameter(name=["--epsilon-fgsm", "--epsilon_fgsm"])] = None,
    poison_count: Annotated[int | None, Parameter(name=["--poison-count", "--poison_count"])] = None,
    poison_target_label: Annotated[
        int | None, Parameter(name=["--poison-target-label", "--poison_target_label"])
    ] = None,
    changes: Annotated[list[str] | None, Parameter(name="--set")] = None,
    out: Path | None = None,
    time_budget: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(negative="")] = False,
    fail: FailOptions = FailOptions(),  # noqa: B008  # frozen
    compute: DeviceOptions = DeviceOptions(),  # noqa: B008  # frozen
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Attack and judge a model and write the report; without a model, reproduce the two published reports on MNIST.

    Args:
        file: Model file, as --model.
        recipe: quick, standard, deep, full, report-1, report-2, assess, or a TOML file.
        data: Images and labels to judge the model on; with --mode, the folder of the MNIST files.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels; the report says so.
        norm: Norm of the perturbation: linf (default), l2, l1 or l0.
        eps: Largest perturbation, on pixels in [0, 1]: a decimal or a fraction such as 8/255; default 0.1.
        attack: Attacks or a suite, as of `attack`; default fast.
        mode: Run report 2's own program flow in this mode.
        epochs: Report 2's flag; needs --mode.
        batch_size: Report 2's flag; needs --mode.
        epsilon_fgsm: Report 2's flag; needs --mode.
        poison_count: Report 2's flag; needs --mode.
        poison_target_label: Report 2's flag; needs --mode.
        changes: A setting of the recipe, KEY=VALUE, e.g. assess.n=200; may be repeated.
        out: Folder for the outputs.
        time_budget: E.g. 10m; what does not fit is listed as not tested.
        dry_run: Show what would be done and how long it would take, and stop.
        fresh: Do everything again; reuse no stage of an earlier run.
        verbose: Print all tables too; report.html has them in any case.
    """
    if file in recipe_names():
        raise UsageError("a recipe is no model", where="MODEL", expected="a file", got=file, hint=f"--recipe {file}")
    model = model.named(file)
    flags = {
        "epochs": epochs,
        "batch_size": batch_size,
        "eps": epsilon_fgsm,
        "poison_count": poison_count,
        "target_label": poison_target_label,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if given and mode is None:
        raise UsageError("these flags belong to report 2's modes", where=", ".join(given), expected="--mode as well")
    spec = model.spec() if model.model or model.arch else None
    budget = {"assess.norm": norm, "assess.eps": eps, "assess.attack": attack}
    if spec is None and any(budget.values()):
        where = ", ".join(f"--{key.partition('.')[2]}" for key, value in budget.items() if value)
        raise UsageError("this budget is for a model of your own", where=where, expected="--model as well")
    around = surroundings(os.environ, Path())
    recipe = recipe or (None if spec or mode else around.options.get("recipe"))
    settings: dict[str, Any] = {f"report_2.{key}": value for key, value in given.items()} | budget
    settings |= {"data.n": n, "data.split": split, "data.resize": resize}
    if data is not None and spec is None:
        settings |= {"data.train": data, "data.test": data}
        data = None
    every = [
        *around.changes,
        *(Change(key, value, "a flag", Origin.FLAG) for key, value in settings.items() if value is not None),
        *(parse_change(text) for text in changes or []),
    ]
    if dry_run:
        with sandbox_required(model.require_sandbox):
            plan = verb.forecast(
                recipe,
                model=spec,
                data=data,
                mode=mode,
                changes=every,
                seed=common.seed,
                precision=common.precision,
            )
        print_forecast(plan, as_json=common.json)
        return 0
    with (
        sandbox_required(model.require_sandbox),
        stdout_is_for_json(common.json),
        watch_run(common.quiet or common.json) as watcher,
    ):
        result = verb.run(
            recipe,
            model=spec,
            data=data,
            mode=mode,
            changes=every,
            seed=common.seed,
            precision=common.precision,
            device=compute.device,
            out=out or around.options.get("out", defaults.OUT),
            time_budget=parse_duration(time_budget) if time_budget else None,
            fresh=fresh,
            fail_on=fail.fail_on,
            watcher=watcher,
            events=say_user_code(),
        )
    why = why_exit(result.report, fail.fail_on, result.exit_code)
    print_run(result, as_json=common.json, verbose=verbose, why=why)
    return result.exit_code
