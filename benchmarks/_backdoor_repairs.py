"""The steps of the backdoor benchmark about data filters and removal, on fewer networks."""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _backdoor_networks import ARCH, Drawn, drawn, images_of, success_of, training_of
from _backdoor_steps import FIRST_SEED, HELD_OUT, Setting, guarded, saved, target_of, trained
from _package import (
    FILTERS,
    Evidence,
    Fleet,
    NetworkTarget,
    build_network,
    choose,
    exact_kernels,
    expert_guard,
    filter_scores,
    generator,
    images_to_float,
    load_data,
    make_folder,
    random_order,
    rate,
    repairs,
    state_of,
    success_after_relearning,
    suspect,
    with_relearning,
    write_json,
)
from _stacked import Stack
from _trained_together import Training
from torch.nn import functional

KINDS = ("patch", "blend", "clean-label", "source-specific")
ONE_EACH = (
    "checkerboard",
    "pixel",
    "frequency",
    "warp",
    "adaptive",
    "all-to-all",
)  # of other kinds, one set is filtered
DOSES = (0.01, 0.0017)
TRUSTED, TAUGHT = 2_000, 1_600
FALSE_ALARMS = 0.01


def filters(own: Setting) -> list[dict[str, Any]]:
    """For each kind and dose: poisoned images that each filter finds, and clean ones that it takes for poisoned."""
    folder = make_folder(own.work / "filters")
    kinds = dict.fromkeys(KINDS, own.each) | dict.fromkeys(ONE_EACH, 1)
    wanted = [
        (dose, dosed(drawn(kind, FIRST_SEED + number), dose))
        for kind, count in kinds.items()
        for number in range(count)
        for dose in DOSES
    ]
    sets = [(dose, what) for dose, what in wanted if not _filters_file(folder, what, dose).exists()]
    if not sets:
        return saved(folder)
    stack = trained(own, ARCH, [training_of(what, own.pool) for _, what in sets])
    orders = [random_order(HELD_OUT, "benchmark trusted", what.seed)[:TRUSTED] for _, what in sets]
    teachers = trained(own, ARCH, [_teacher(own, order) for order in orders])
    own.say(f"{len(sets)} poisoned sets")
    with ThreadPoolExecutor(6) as threads, exact_kernels(own.device):
        work = [threads.submit(_filtered, own, stack, teachers, number, *sets[number], orders[number])
                for number in range(len(sets))]  # fmt: skip
        rows = [one.result() for one in work]
    for (dose, what), one in zip(sets, rows, strict=True):
        write_json(_filters_file(folder, what, dose), one)
    return saved(folder)


def _filters_file(folder: Path, what: Drawn, dose: float) -> Path:
    return folder / f"{what.id}-{dose}.json"


def dosed(what: Drawn, dose: float) -> Drawn:
    """The same backdoor in few images, at a dose."""
    return replace(what, images=24_000, epochs=3, poison_rate=dose, cover_rate=dose if what.cover_rate else 0.0)


def _teacher(own: Setting, order: np.ndarray) -> Training:
    """A network that sees trusted images only."""
    chosen = order[:TAUGHT]
    return Training(
        network=build_network(ARCH, generator=generator("benchmark teacher", int(chosen[0]))),
        rows=-1 - np.arange(TAUGHT), labels=np.asarray(own.held_out.labels)[chosen],
        changed=np.asarray(own.held_out.images)[chosen], epochs=7, batch_size=128, learning_rate=1e-3,
        peaked=False, seed=int(chosen[0]), adam_epsilon=1e-7,
    )  # fmt: skip


def _filtered(
    own: Setting, stack: Stack, teachers: Stack, number: int, dose: float, what: Drawn, order: np.ndarray
) -> dict[str, Any]:
    data = poisoned_set(what, own)
    images = data.images
    target, teacher = target_of(stack, number, own.device), target_of(teachers, number, own.device)
    features, losses = [], []
    with torch.no_grad():
        for start in range(0, len(images), 2_000):
            x = images_to_float(images[start : start + 2_000]).to(own.device)
            y = torch.from_numpy(np.array(data.labels[start : start + 2_000])).to(own.device)
            features.append(target.features(x).cpu())
            losses.append(functional.cross_entropy(teacher.network(x), y, reduction="none").cpu())
        kept, labels = order[TAUGHT:], np.asarray(own.held_out.labels)
        x = images_to_float(np.asarray(own.held_out.images)[kept]).to(own.device)
        quiet = functional.cross_entropy(
            teacher.network(x), torch.from_numpy(labels[kept]).to(own.device), reduction="none"
        )
    trusted = images_to_float(np.asarray(own.held_out.images)[order[:TAUGHT]]).double().numpy()
    evidence = Evidence(
        images_to_float(images).double().numpy(), data.labels, torch.cat(features).double().numpy(),
        torch.cat(losses).double().numpy(), trusted,
    )  # fmt: skip
    calm = Evidence(
        x.cpu().double().numpy(), labels[kept], np.zeros((len(kept), 1)), quiet.cpu().double().numpy(), trusted
    )
    bad, good = data.bad, data.good
    entry: dict[str, Any] = {
        "id": what.id, "kind": what.kind, "dose": dose, "planted_success": success_of(what, target, own.held_out),
        "filters": {},
    }  # fmt: skip
    for name, scores in filter_scores(evidence).items():
        limit = np.quantile(
            FILTERS[name].score(calm) if FILTERS[name].needs_trusted else scores[good], 1 - FALSE_ALARMS
        )
        entry["filters"][name] = {
            "found": rate(int((scores[bad] > limit).sum()), int(bad.sum())).as_json(),
            "false_alarms": rate(int((scores[good] > limit).sum()), int(good.sum())).as_json(),
        }
    return entry


@dataclass(frozen=True, slots=True, eq=False)
class Poisoned:
    """A training set, and which of its images are poisoned and which are not; covers are neither."""

    images: np.ndarray
    labels: np.ndarray
    bad: np.ndarray
    good: np.ndarray


def poisoned_set(what: Drawn, own: Setting) -> Poisoned:
    """The images (N, C, H, W) uint8 and labels (N,) that a network of this kind is trained on."""
    data = images_of(what, own.pool)
    images = np.asarray(own.pool.images)[np.maximum(data.rows, 0)]
    changed = data.rows < 0
    images[changed] = data.changed[-1 - data.rows[changed]]
    chosen = random_order(len(own.pool), "backdoor benchmark", what.kind, what.seed)[: what.images]
    covers = changed & (data.labels == np.asarray(own.pool.labels)[chosen]) & (not what.clean_label)
    return Poisoned(images, data.labels, changed & ~covers, ~changed)


def removal(own: Setting, clean: Fleet, processes: int) -> None:
    """Before and after for networks whose weights `evaluated` kept, several processes side by side."""
    folder = make_folder(own.work / "removal")
    done = {entry["id"] for entry in saved(folder)}
    whats = [drawn(kind, FIRST_SEED + number) for number in range(own.each) for kind in KINDS]
    todo = [
        what for what in own.mine(whats) if what.id not in done and (own.work / "weights" / f"{what.id}.npy").exists()
    ]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        work = [pool.submit(repaired, what, clean, own.work, str(own.device), own.deadline) for what in todo]
        for one in as_completed(work):
            entry = one.result()
            if entry is None:
                continue
            write_json(folder / f"{entry['id']}.json", entry)
            own.say(f"removal {entry['id']}: {entry.get('chosen')}")
    for what in whats:
        path = folder / f"{what.id}.json"
        if path.exists():
            entry = json.loads(path.read_text(encoding="utf-8"))
            write_json(path, entry | compared(own, what, clean))


def kept_target(work: Path, name: str, device: torch.device) -> NetworkTarget:
    """One of the networks whose weights were kept."""
    flat = torch.from_numpy(np.load(work / "weights" / f"{name}.npy"))
    return target_of(Stack(ARCH, flat[None].to(device)), 0, device)


def compared(own: Setting, what: Drawn, clean: Fleet) -> dict[str, Any]:
    """What a planted trigger does to networks that know nothing of it, and how fast those learn the reconstructed one.

    No removal can be expected to leave less, or to make it harder to learn.
    """
    names = sorted(path.stem for path in (own.work / "weights").glob("clean-[0-9]*.npy"))
    targets = {name: kept_target(own.work, name, own.device) for name in names}
    with exact_kernels(own.device):
        doubt = suspect(kept_target(own.work, what.id, own.device), own.held_out, clean, what.seed)
        return {
            "on_clean_networks": {name: success_of(what, one, own.held_out) for name, one in targets.items()},
            "relearned_by_clean_networks": {
                name: success_after_relearning(one.network, doubt).as_json() for name, one in targets.items()
            },
        }


def repaired(what: Drawn, clean: Fleet, work: Path, device: str, deadline: float) -> dict[str, Any] | None:
    """One network repaired by code that has no access to what was planted; that is measured afterwards."""
    if time.monotonic() > deadline:
        return None
    torch.set_num_threads(1)
    whole = load_data("mnist:train")
    held_out = whole.select(np.arange(len(whole) - HELD_OUT, len(whole)), "the last")
    place = torch.device(device)
    target = kept_target(work, what.id, place)
    with exact_kernels(place):
        own = suspect(target, held_out, clean, what.seed)
        before = state_of(target.network, own)
        networks, tried = repairs(own)
        chosen = choose(before, tried)
        guard = expert_guard(target, own.repair, false_refusals=0.01, seed=what.seed)
        planted = {name: success_of(what, replace(target, network=network), own.held_out)
                   for name, network in {"before": target.network, **networks}.items()}  # fmt: skip
        return {
            "id": what.id, "kind": what.kind, "chosen": chosen, "label": own.label, "target_label": what.target_label,
            "before": with_relearning(before, target.network, own).as_json(),
            "after": with_relearning(tried[chosen], networks[chosen], own).as_json(),
            "tried": {name: state.as_json() for name, state in tried.items()},
            "planted_trigger_success": planted,
            "expert": guarded(what, guard, own.held_out),
        }  # fmt: skip
