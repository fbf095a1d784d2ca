"""The verb `backdoor scan`: is this model backdoored, and how often does such a scan raise a false alarm?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from secure_ai.core.compute import Device, choose_device, configure
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.findings import Finding
from secure_ai.core.labels import class_text
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.data.dataset import Dataset
from secure_ai.data.source import load_data
from secure_ai.data.splits import random_order
from secure_ai.files.write import make_folder, write_bytes, write_json
from secure_ai.models.load.store import LoadedModel, load_model, make_target
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.runs.backdoors.build import SHARED_CODE
from secure_ai.runs.backdoors.controls import (
    DEFAULT_FLEET,
    FLEET_SIZE,
    LEAST_DATA,
    LEAST_FLEET,
    MAX_FLEET,
    Controls,
    deadline_in,
    refuse_other_images,
    with_controls,
)
from secure_ai.runs.backdoors.findings import scan_findings
from secure_ai.runs.backdoors.fleet import known_fleet
from secure_ai.runs.backdoors.scan import Scan, scan_target, split_images
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import is_object, load_subject, spec_of, target_for

SCAN_NAME, PICTURE_NAME = "scan.json", "trigger.png"


@dataclass(frozen=True, slots=True, eq=False)
class ScanReport:
    """What `backdoor scan` found, where it was written, and the command that does it again (empty: an object)."""

    model: LoadedModel
    data: Dataset | None
    scan: Scan
    notes: tuple[str, ...]
    folder: Path | None
    again: str

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What `--fail-on` looks at."""
        drawn = self.folder is not None and self.scan.trigger is not None
        picture = PICTURE_NAME if drawn else ""
        return scan_findings(self.model.name, self.scan, self.data, again=self.again, picture=picture)

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai backdoor scan --json`."""
        data = self.data
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"name": self.model.name, "digest": self.model.digest, "arch": self.model.arch},
            "data": data and {"name": data.name, "digest": data.digest, "n": len(data), "note": data.note},
            "scan": self.scan.as_json(),
            "findings": [finding.as_json() for finding in self.findings],
            "notes": list(self.notes),
        }


def backdoor_scan(
    model: ModelSpec | nn.Module,
    data: str | None = None,
    *,
    train_data: str | None = None,
    fleet: int | None = None,
    time_budget: float | None = None,
    split: str = "test",
    n: int | None = None,
    resize: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScanReport:
    """Scan a model for a backdoor, against clean control networks of the same architecture.

    Args:
        data: clean images like those it was trained on; None: the verdict is at most `suspicious`.
        train_data: what control networks are trained on; default: half of `data`.
        fleet: how many control networks to train. Default: the committed ones where the architecture is built in and
            the data are MNIST, else 40.
        time_budget: seconds for training them; the fleet is smaller where it does not suffice.
        out: folder for `scan.json` and the reconstructed trigger's picture.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: a model, data or request that cannot be used.
    """
    asked = {"data": data, "train-data": train_data, "fleet": fleet, "time-budget": time_budget, "n": n,
             "resize": resize, "split": None if split == "test" else split}  # fmt: skip
    if data is None and any(value is not None for value in asked.values()):
        given = ", ".join(f"--{name}" for name, value in asked.items() if value is not None)
        raise UsageError("without images nothing can be trained", where=given, expected="--data as well", got="none")
    again = "" if is_object(model) else spec_of(model).command("backdoor scan", {**asked, "seed": seed})
    if fleet is not None and not LEAST_FLEET <= fleet <= MAX_FLEET:
        raise UsageError("bad number of control networks", where="--fleet", expected=FLEET_SIZE, got=fleet)
    compute = configure(precision, device)
    if data is None:
        return _without_data(model, seed, device, out, events, again)
    whole = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    if len(whole) < LEAST_DATA:
        raise UsageError("too few images to scan with", where="--data", expected=f">= {LEAST_DATA}", got=len(whole))
    shuffled = whole.select(random_order(len(whole), seed, "scan-split"), whole.note)
    loaded = load_subject(spec_of(model), whole, events, given=model if is_object(model) else None)
    checked = examine(target_for(loaded, whole, spec_of(model), device=compute.device), whole, seed)
    target = checked.target
    _refuse_black_box(target)
    known = known_fleet(loaded.arch, target.transform, whole) if fleet is None and train_data is None else None
    if known is not None:
        using = Controls(known, *split_images(shuffled))
    else:
        training = None
        if train_data is not None:
            training = load_data(train_data, split="train", resize=resize, seed=seed, events=events)
            refuse_other_images(training, whole)
        using = with_controls(
            target, loaded.arch, shuffled, training, count=fleet or DEFAULT_FLEET, seed=seed,
            dtype=compute.training_dtype, device=compute.device, deadline=deadline_in(time_budget),
            events=events, progress=progress,
        )  # fmt: skip
    notes = (using.why,) if using.why else ()
    if using.fleet is not None and using.fleet.note:
        notes = (f"not reused: {using.fleet.note}",)
    if using.fleet is not None and loaded.arch not in NETWORKS:
        notes = (*notes, SHARED_CODE)
    scan = scan_target(target, using.search, using.held_out, using.fleet, seed, checked.checks)
    report = ScanReport(loaded, whole, scan, notes, None if out is None else Path(out), again)
    _write(report)
    events("backdoor_scanned", {"verdict": scan.verdict.value, "digest": loaded.digest})
    return report


def _without_data(
    model: ModelSpec | nn.Module, seed: int, device: Device, out: str | Path | None, events: EventSink, again: str
) -> ScanReport:
    """The data-free statistic, which needs a network whose input is known."""
    spec = spec_of(model)
    if not isinstance(model, ModelSpec) or model.model is None:
        raise UsageError("no data: the images' size is unknown", where="--data", expected="clean images")
    loaded = load_model(model.model, arch=model.arch, events=events)
    if loaded.input_shape is None or loaded.num_classes is None:
        raise UsageError("the file does not say what its network takes", where="--data", expected="clean images")
    target = make_target(
        loaded, input_shape=loaded.input_shape, num_classes=loaded.num_classes, mean=spec.mean, std=spec.std,
        value_range=spec.value_range, access=spec.access, device=choose_device(device),
    )  # fmt: skip
    _refuse_black_box(target)
    found = known_fleet(loaded.arch, target.transform)
    notes: tuple[str, ...] = ("no data: the data-free statistic alone, at most `suspicious`",)
    if found is not None:
        notes = (*notes, "compared with networks trained on MNIST: a network trained on other data is no match")
    scan = scan_target(target, None, None, found, seed, ())
    report = ScanReport(loaded, None, scan, notes, Path(out) if out else None, again)
    _write(report)
    return report


def _refuse_black_box(target: NetworkTarget) -> None:
    if target.access != "gradients":
        raise UsageError("a scan needs gradients", where="--access", expected="gradients", got=target.access)


def _write(report: ScanReport) -> None:
    if report.folder is None:
        return
    from secure_ai.report.render.png import image_grid_png  # loads matplotlib

    folder, trigger = make_folder(report.folder), report.scan.trigger
    write_json(folder / SCAN_NAME, report.as_json())
    if trigger is not None:
        change = trigger.stamped - trigger.clean
        rows = [("clean", trigger.clean), ("change", change), ("with trigger", trigger.stamped)]
        label = class_text(trigger.label, () if report.data is None else report.data.class_names)
        title = f"Reconstructed trigger for class {label} ({report.scan.verdict.value})"
        write_bytes(folder / PICTURE_NAME, image_grid_png(rows, title))
