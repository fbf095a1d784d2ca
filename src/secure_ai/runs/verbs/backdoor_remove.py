"""The verb `backdoor remove`: a repaired network, chosen by clean accuracy and a second scan, never by the trigger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from secure_ai.blue.backdoors.fleet import control_network
from secure_ai.core.compute import Device, configure
from secure_ai.core.errors import UsageError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.core.results import SCHEMA_VERSION, Rate
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger
from secure_ai.files.write import refuse_unwritable, write_bytes
from secure_ai.models.load.store import LoadedModel, model_bytes
from secure_ai.models.networks.built_in import NETWORKS
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.runs.backdoors.build import anew
from secure_ai.runs.backdoors.controls import (
    FLEET_SIZE,
    LEAST_FLEET,
    MAX_FLEET,
    control_fleet,
    deadline_in,
    refuse_other_images,
)
from secure_ai.runs.backdoors.fleet import Fleet, known_fleet
from secure_ai.runs.backdoors.planted import measured_apart
from secure_ai.runs.backdoors.repair import (
    LEAST_IMAGES,
    MOST_IMAGES,
    State,
    Suspect,
    choose,
    doubts,
    parts_of,
    repairs,
    state_of,
    success_after_relearning,
    suspect,
    with_relearning,
)
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import is_object, load_subject, refuse_untrainable, spec_of, target_for


@dataclass(frozen=True, slots=True)
class Removed:
    """What was done, before and after, each remover's result, and the file."""

    chosen: str
    label: int
    before: State
    after: State
    tried: dict[str, State]
    planted: dict[str, Rate]
    clean_relearned: Rate | None
    out: str
    fleet: Fleet | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why a backdoor may be there still; empty: nothing says so."""
        return doubts(self.before, self.after)

    def as_json(self) -> dict[str, Any]:
        """The document of `secure-ai backdoor remove --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "chosen": self.chosen,
            "doubts": list(self.doubts),
            "label": self.label,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "tried": {name: state.as_json() for name, state in self.tried.items()},
            "planted_trigger_success": {name: one.as_json() for name, one in self.planted.items()} or None,
            "clean_network_after_relearning": self.clean_relearned and self.clean_relearned.as_json(),
            "fleet": self.fleet and self.fleet.as_json(),
            "file": self.out,
        }


def backdoor_remove(
    model: ModelSpec | nn.Module,
    data: str,
    *,
    out: str | Path,
    trigger: str | None = None,
    target_label: int | None = None,
    fleet: int = 0,
    train_data: str | None = None,
    time_budget: float | None = None,
    split: str = "train",
    n: int | None = None,
    resize: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Literal["auto", "float32"] = "auto",
    events: EventSink = ignore_event,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Removed:
    """Try every remover, keep the best.

    Of those that lose at most a point of clean accuracy the one is kept whose suspected class looks clean in a second
    scan and on which the reconstructed trigger works least. A second scan needs control networks: the committed ones
    of a built-in network on MNIST, else `fleet` that are trained.

    Args:
        data: clean images: at most 3,000 repair, the others measure.
        trigger: the planted trigger, if it is known, with its `target_label`: another process measures its success,
            after the choice.
        fleet: how many control networks to train where none are committed; 0: none, so there is no second scan.
        train_data: what they are trained on, about as many images as the model was, else the second scan calls the two
            incomparable; None: the images that repair.
        time_budget: seconds for training them; the fleet is smaller where it does not suffice.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SecureAIError: a model, data or request that cannot be used, or an output that cannot be written.
    """
    if (trigger is None) != (target_label is None):
        raise UsageError(
            "a planted trigger has a target", where="--trigger, --target-label", expected="both or neither"
        )
    if trigger is not None and is_object(model):
        raise UsageError("another process measures the planted trigger", where="model", expected="a model file")
    if fleet and not LEAST_FLEET <= fleet <= MAX_FLEET:
        raise UsageError("bad number of control networks", where="--fleet", expected=FLEET_SIZE, got=fleet)
    for option, given in (("--train-data", train_data), ("--time-budget", time_budget)):
        if given is not None and not fleet:
            raise UsageError("no control network is trained", where=option, expected="--fleet as well", got="none")
    text = "" if trigger is None else parse_trigger(trigger).text
    refuse_unwritable(Path(out))
    compute = configure(precision, device)
    whole = load_data(data, split=split, n=n, resize=resize, seed=seed, events=events)
    if len(whole) < LEAST_IMAGES:
        raise UsageError("too few images", where="--data", expected=f">= {LEAST_IMAGES}", got=len(whole))
    loaded = load_subject(spec_of(model), whole, events, given=model if is_object(model) else None)
    if loaded.arch not in NETWORKS:
        refuse_untrainable(loaded)
    target = examine(target_for(loaded, whole, spec_of(model), device=compute.device), whole, seed).target
    if target.access != "gradients":
        raise UsageError("a removal needs gradients", where="--access", expected="gradients", got=target.access)
    if target.transform != InputTransform():
        raise UsageError("a repair feeds pixels in [0, 1]", where="--mean, --std, --range", expected="none")
    place = _place(loaded, target)
    known = None if fleet else known_fleet(loaded.arch, target.transform, whole)
    if fleet:
        training, search, held_out = parts_of(whole, seed)
        if train_data is not None:
            training = load_data(train_data, split="train", resize=resize, seed=seed, events=events)
            refuse_other_images(training, whole)
        known, why = control_fleet(
            target, loaded.arch, training, search, held_out, count=fleet, seed=seed, dtype=compute.training_dtype,
            device=compute.device, deadline=deadline_in(time_budget), events=events, progress=progress,
        )  # fmt: skip
        if known is None:
            raise UsageError("no control networks", where="--fleet", expected="0 for this network", got=why)
    own = suspect(target, whole, known, seed)
    before = state_of(target.network, own)
    networks, tried = repairs(own, progress)
    chosen = choose(before, tried)
    network = networks[chosen]
    arch = loaded.arch if loaded.arch in NETWORKS else ""
    write_bytes(Path(out), model_bytes(network.get_submodule(place), arch))
    events("model_written", {"file": Path(out).name})
    clean = _clean_network(loaded, own, compute.device)
    planted: dict[str, Rate] = {}
    if text and target_label is not None:
        spec = spec_of(model)
        models = {"before": spec, "after": replace(spec, model=str(out), weights_key="")}
        asked = {"data": data, "split": split, "n": n, "resize": resize, "seed": seed}
        planted = measured_apart(models, asked, text, target_label)
    return Removed(
        chosen, own.label, with_relearning(before, target.network, own),
        with_relearning(tried[chosen], network, own), tried, planted,
        None if clean is None else success_after_relearning(clean, own), str(out), own.fleet,
    )  # fmt: skip


def _place(loaded: LoadedModel, target: NetworkTarget) -> str:
    """Where the user's network stands in the one that preflight made of it, e.g. `network`: what is to be written."""
    places = [name for name, module in target.network.named_modules() if module is loaded.network]
    if not places:
        raise UsageError("preflight had to copy the network", where=loaded.name, expected="a network fed as it is")
    return str(places[0])


def _clean_network(loaded: LoadedModel, own: Suspect, device: torch.device) -> nn.Module | None:
    """A network from scratch on the clean images, for comparison; None where the architecture cannot be built."""
    build, _ = anew(loaded.arch, own.target.network)
    return (
        None if build is None else control_network(build, own.repair, 0, own.seed, largest=MOST_IMAGES, device=device)
    )
