"""The steps of the backdoor benchmark: the control networks, and the networks that are scanned, in groups.

Every group is saved when it is measured: a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from _backdoor_networks import ARCH, Drawn, control_of, drawn, success_of, training_of
from _backdoor_table import anomaly_index, margin_p
from _detected_together import detect_together
from _package import (
    NETWORKS,
    Dataset,
    Fleet,
    Found,
    Guard,
    Member,
    NetworkTarget,
    configure,
    detect,
    evaluate,
    judge_found,
    load_data,
    make_folder,
    random_order,
    rate,
    significant,
    stamp,
    strip_guard,
    to_channels_last,
    write_json,
)
from _stacked import Stack, stacked
from _trained_together import Training, train_alone, train_together

HELD_OUT, SEARCH, TRIED = 6_000, 200, 2_000
FIRST_SEED = 2_000  # of evaluation; control networks are of seed 0; a first look had seeds from 1,000
STRIP_TRIGGERED = 500
KEPT, KEPT_EACH = ("patch", "blend", "clean-label", "source-specific", "clean"), 5  # weights, to be repaired


T = TypeVar("T")


class OutOfTimeError(Exception):
    """The time that was given is over; what was saved stays."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """What all steps share.

    Attributes:
        group, part: networks trained together, and measured together.
        deadline: of `time.monotonic()`.
        largest: training images of a network, at most.
        each: data sets and networks of each kind that are filtered, and repaired.
        share: (k, n): of what is to be done, this process does every n-th from the k-th on.
    """

    device: torch.device
    work: Path
    group: int
    part: int
    deadline: float
    largest: int
    each: int
    share: tuple[int, int]
    pool: Dataset
    held_out: Dataset
    images: torch.Tensor = field(repr=False)

    def check(self) -> None:
        """Raises OutOfTimeError."""
        if time.monotonic() > self.deadline:
            raise OutOfTimeError

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share."""
        return list(items[self.share[0] :: self.share[1]])

    def say(self, text: str) -> None:
        """A line with the seconds that are left."""
        print(f"[{self.deadline - time.monotonic():5.0f} s left] {text}", flush=True)


def setting(
    device: torch.device,
    work: Path,
    *,
    group: int,
    part: int,
    seconds: float,
    largest: int,
    each: int,
    share: tuple[int, int],
) -> Setting:
    """MNIST's training images: those to train on, and the last, which are held out. Test images are not opened."""
    whole = load_data("mnist:train")
    positions = np.arange(len(whole))
    pool = whole.select(positions[:-HELD_OUT], "all but the last")
    held_out = whole.select(positions[-HELD_OUT:], "the last")
    work.mkdir(parents=True, exist_ok=True)
    images = torch.from_numpy(np.array(pool.images)).to(device)
    return Setting(
        device=device, work=work, group=1 if device.type == "cpu" else group, part=part,
        deadline=time.monotonic() + seconds,
        largest=largest, each=each, share=share, pool=pool, held_out=held_out, images=images,
    )  # fmt: skip


def fleet(own: Setting, arch: str, count: int) -> list[dict[str, Any]]:
    """The members of the fleet that there are, after those of this process's share are trained and measured."""
    folder = own.work / f"fleet-{arch}"
    trainings = {index: control_of(arch, index, own.pool, own.largest) for index in own.mine(range(count))
                 if not (folder / f"{index}.json").exists()}  # fmt: skip
    order = sorted(trainings, key=lambda index: (trainings[index].batch_size, -trainings[index].steps))
    by_size = [[i for i in order if trainings[i].batch_size == size] for size in (256, 128, 64)]
    groups = [ids[start : start + own.group] for ids in by_size for start in range(0, len(ids), own.group)]
    for group in sorted(groups) if own.group == 1 else groups:
        began = time.monotonic()
        stack = trained(own, arch, [trainings[i] for i in group])
        done = time.monotonic() - began
        search = [own.held_out.select(_order(own, "control", i)[:SEARCH], "to search on") for i in group]
        found = detected(own, stack, search, group)
        for index, accuracy, one in zip(group, accuracies(own, stack), found, strict=True):
            values = {name: significant(each.values) for name, each in one.items()}
            write_json(make_folder(folder) / f"{index}.json", asdict(Member(index, round(accuracy, 5), values)))
        own.say(f"{arch}: control networks {group}: trained in {done:.1f} s, measured in "
                f"{time.monotonic() - began - done:.1f} s")  # fmt: skip
    return sorted(saved(folder), key=lambda one: int(one["index"]))


def _order(own: Setting, *parts: object) -> np.ndarray:
    return random_order(len(own.held_out), "benchmark", *parts)


def saved(folder: Path) -> list[dict[str, Any]]:
    """The entries of a folder of `--work`, one a file; none where it is not there."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def trained(own: Setting, arch: str, trainings: Sequence[Training]) -> Stack:
    """The trained networks: together on a GPU, one by one on a CPU, in bfloat16 where it multiplies that natively."""
    if own.device.type != "cpu":
        return train_together(arch, trainings, own.images, own.device, own.check)
    dtype, networks = configure("auto").training_dtype, []
    for one in trainings:
        own.check()
        networks.append(train_alone(one, np.asarray(own.pool.images), dtype))
    return stacked(arch, networks, own.device)


def detected(own: Setting, stack: Stack, search: Sequence[Dataset], seeds: Sequence[int]) -> list[dict[str, Found]]:
    """What the detectors find on each network: part after part on a GPU, one by one on a CPU."""
    found: list[dict[str, Found]] = []
    if own.device.type == "cpu":
        for number, (data, seed) in enumerate(zip(search, seeds, strict=True)):
            own.check()
            found.append(detect(target_of(stack, number, own.device), data.images, np.asarray(data.labels), seed))
        return found
    for start in range(0, len(seeds), own.part):
        chosen = slice(start, start + own.part)
        own.check()
        found += detect_together(stack.part(start, start + own.part), search[chosen], seeds[chosen])
    return found


def accuracies(own: Setting, stack: Stack) -> list[float]:
    """Of each network on the held-out images."""
    targets = [target_of(stack, number, own.device) for number in range(len(stack.flat))]
    found = [evaluate(target, own.held_out.images, np.asarray(own.held_out.labels)) for target in targets]
    return [one.accuracy.bounds.value for one in found]


def evaluated(own: Setting, wanted: dict[str, int], clean: Fleet) -> None:
    """The rows of all networks that are wanted, one kind after the other in turn; of this process's share."""
    folder = make_folder(own.work / "rows")
    queue = [
        _smaller(drawn(kind, FIRST_SEED + number), own.largest)
        for number in range(max(wanted.values()))
        for kind, count in wanted.items()
        if number < count
    ]
    queue = [what for what in own.mine(queue) if not (folder / f"{what.id}.json").exists()]
    with ThreadPoolExecutor(4) as threads:
        for start in range(0, len(queue), own.group):
            group, began = queue[start : start + own.group], time.monotonic()
            stack = trained(own, ARCH, list(threads.map(lambda what: training_of(what, own.pool), group)))
            done = time.monotonic() - began
            orders = [_order(own, what.id) for what in group]
            search = [own.held_out.select(order[:SEARCH], "to search on") for order in orders]
            found = detected(own, stack, search, [what.seed for what in group])
            measured = time.monotonic() - began - done
            for number, (what, one) in enumerate(zip(group, found, strict=True)):
                rest = own.held_out.select(orders[number][SEARCH : SEARCH + TRIED], "held out")
                if what.kind in KEPT and what.seed < FIRST_SEED + KEPT_EACH:
                    _keep(own.work, what, stack.flat[number])
                write_json(
                    folder / f"{what.id}.json", row(what, target_of(stack, number, own.device), one, rest, clean)
                )
            own.say(f"{', '.join(what.id for what in group)}: prepared and trained in {done:.1f} s, measured in "
                    f"{measured:.1f} s, judged in {time.monotonic() - began - done - measured:.1f} s")  # fmt: skip


def _smaller(what: Drawn, largest: int) -> Drawn:
    return what if what.images <= largest else replace(what, images=min(24_000, largest), epochs=3)


def _keep(work: Path, what: Drawn, flat: torch.Tensor) -> None:
    folder = work / "weights"
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{what.id}.npy", flat.cpu().numpy())


def target_of(stack: Stack, number: int, device: torch.device) -> NetworkTarget:
    """One network of a stack as a scan takes it."""
    entry = NETWORKS[stack.arch]
    return NetworkTarget(
        to_channels_last(stack.network(number, device)), name=f"{stack.arch} {number}", digest="",
        input_shape=entry.input_shape, num_classes=entry.num_classes, batch_size=1_000,
    )  # fmt: skip


def row(what: Drawn, target: NetworkTarget, found: dict[str, Found], rest: Dataset, clean: Fleet) -> dict[str, Any]:
    """One network's scan; it sees neither trigger nor target."""
    scan = judge_found(target, found, rest, clean, ())
    source, label = scan.suspected or (None, None)
    right = what.trigger is not None and label == (what.target_label if what.target_label is not None else
                                                   None if source is None else (source + 1) % 10)  # fmt: skip
    return {
        "id": what.id,
        "kind": what.kind,
        "recipe": what.recipe,
        "images": what.images,
        "epochs": what.epochs,
        "trigger": what.trigger.text if what.trigger else "",
        "target_label": what.target_label,
        "source_label": what.source_label,
        "poison_rate": round(what.poison_rate, 4),
        "planted_success": success_of(what, target, rest),
        "scan": {name: value for name, value in scan.as_json().items() if name not in ("fleet", "seconds", "scores")},
        "right_label": right,
        "neural_cleanse_index": round(anomaly_index(scan.values["mask"]), 3),
        "mm_bd_p": round(margin_p(scan.values["margin"]), 5),
        "strip": strip(what, target, rest),
    }


def strip_again(own: Setting) -> None:
    """STRIP of every network whose weights were kept, into its row, after a change of the guard; other rows lose it."""
    for entry in saved(own.work / "rows"):
        own.check()
        kind, _, seed = entry["id"].rpartition("-")
        what, path = _smaller(drawn(kind, int(seed)), own.largest), own.work / "weights" / f"{entry['id']}.npy"
        found = None
        if path.exists():
            rest = own.held_out.select(_order(own, what.id)[SEARCH : SEARCH + TRIED], "held out")
            stack = Stack(ARCH, torch.from_numpy(np.load(path))[None].to(own.device))
            found = strip(what, target_of(stack, 0, own.device), rest)
        write_json(own.work / "rows" / f"{what.id}.json", entry | {"strip": found})
        own.say(f"STRIP {what.id}: {found}")


def strip(what: Drawn, target: NetworkTarget, rest: Dataset) -> dict[str, Any] | None:
    """Triggered inputs that STRIP refuses, and clean ones, at 1 % of the clean images that set its threshold."""
    if what.trigger is None:
        return None
    guard = strip_guard(target, rest.images[:1_000], false_refusals=0.01, seed=what.seed)
    return guarded(what, guard, rest)


def guarded(what: Drawn, guard: Guard, rest: Dataset) -> dict[str, Any] | None:
    """Triggered inputs that a guard refuses, and clean ones, of images that set no threshold."""
    if what.trigger is None:
        return None
    images, labels = rest.images[1_000:], np.asarray(rest.labels)[1_000:]
    wanted = labels != what.target_label if what.source_label is None else labels == what.source_label
    triggered = stamp(images[wanted][:STRIP_TRIGGERED], what.trigger)
    refused, clean = guard(triggered).refused, guard(images).refused
    return {
        "triggered": rate(int(refused.sum()), len(refused)).as_json(),
        "clean": rate(int(clean.sum()), len(clean)).as_json(),
    }


def both_devices(own: Setting, count: int) -> list[dict[str, Any]]:
    """The largest relative difference of each detector's values: together and alone on this device, and on the CPU."""
    whats = [drawn(kind, 1) for kind in ("clean", "patch", "blend")][:count]
    stack = train_together(ARCH, [training_of(what, own.pool) for what in whats], own.images, own.device, own.check)
    orders = [_order(own, what.id) for what in whats]
    search = [own.held_out.select(order[:SEARCH], "to search on") for order in orders]
    together = detect_together(stack, search, [what.seed for what in whats])
    found = []
    for number, what in enumerate(whats):
        data = search[number]
        entry: dict[str, Any] = {"id": what.id}
        for name, device in (("alone", own.device), ("cpu", torch.device("cpu"))):
            one = detect(target_of(stack, number, device), data.images, np.asarray(data.labels), what.seed)
            for detector, values in one.items():
                apart = np.abs(values.values / together[number][detector].values - 1)
                entry[f"{detector}: {name}"] = [float(f"{v:.2g}") for v in (np.median(apart), apart.max())]
        found.append(entry)
        own.say(json.dumps(entry))
        write_json(make_folder(own.work / "devices") / f"{what.id}.json", entry)
    return found
