"""Report 1's protocol by this tool: the run's own stages, store and log, and none of the work that the report lacks.

python ours.py --data FOLDER --out FOLDER [--version L|P] [--seed 42] [--precision auto|float32]

Started with `benchmarks` on PYTHONPATH, for `_package`.
`secure-ai run --recipe report-1` does both versions, BadNets, PGD-40, the audit and the documents; of its stages this
program runs the baseline, one version of the defence and the poisoning, and measures what the report measured.
"""

from __future__ import annotations

import numpy as np
import protocol
from _package import (
    Dataset,
    EventLog,
    Execution,
    Finished,
    NetworkTarget,
    PerturbationBudget,
    Store,
    attack_every_image,
    configure,
    evaluate,
    execute,
    fgsm,
    first_n,
    ignore_event,
    load_mnist,
    load_recipe,
    make_folder,
    parse_trigger,
    plan,
    stamp,
    trained_target,
    user_seal,
    versions,
    watch_nothing,
)

ARCH = "report1-cnn"
STAGES = {"train": "report-1/baseline", "defend": "report-1/defended-{}", "train poisoned": "report-1/poisoned"}
TRIGGER = f"patch:size={protocol.PATCH}:place=bottom-right:value=1"


class Side:
    """The run: data, stages, and what they found."""

    def __init__(self) -> None:
        self.arguments = a = protocol.parse(__doc__)
        folder = make_folder(a.out)
        self.results = protocol.Results(a)
        self.compute = configure(a.precision)
        with self.results.stage("load"):
            self.sets = {split: self._data(split) for split in ("train", "test")}
        sevens = int(np.count_nonzero(self.sets["train"].labels == protocol.TARGET_LABEL))
        changes = (
            f"seed={a.seed}",
            f"report_1.epochs={a.epochs}",
            f"report_1.defence_epochs={a.defence_epochs}",
            f"report_1.poison_count={min(protocol.POISON_COUNT, sevens)}",
        )
        sizes = {split: len(dataset) for split, dataset in self.sets.items()}
        recipe = load_recipe("report-1", changes)
        planned = plan(recipe, sizes, a.precision, {}, lambda: self.sets["test"], ignore_event)
        self.stages = {stage.id: stage for stage in planned.stages}
        events = EventLog(folder / "events.jsonl")
        self.finished = Finished()
        self.execution = Execution(
            store=Store(folder / ".store", events, user_seal()),
            data=self.sets.__getitem__,
            data_digest=lambda split: self.sets[split].digest,
            precision=a.precision,
            events=events,
            watcher=watch_nothing,
        )

    def _data(self, split: str) -> Dataset:
        dataset, count = load_mnist(split, folder=self.arguments.data), self.arguments.images
        return first_n(dataset, min(count, len(dataset))) if count else dataset

    def train(self, name: str) -> NetworkTarget:
        """A training stage, done and stored, as a target."""
        stage = STAGES[name].format(self.arguments.version.lower())
        with self.results.stage(name):
            execute([self.stages[stage]], self.execution, self.finished)
            content = self.finished.outputs(self.execution.store, stage)["model.safetensors"]
            return trained_target(content, ARCH, stage)

    def measure(self, name: str, target: NetworkTarget, images: np.ndarray, labels: np.ndarray) -> None:
        """Predictions, accuracy and loss."""
        with self.results.stage(f"evaluate {name}"):
            found = evaluate(target, images, labels)
            self.results.share(name, found.predictions, found.labels, found.loss)

    def examples(self, target: NetworkTarget) -> np.ndarray:
        """FGSM on every test image, the network's own predictions as labels."""
        budget, seed = PerturbationBudget("linf", protocol.EPS), self.arguments.seed
        with self.results.stage("fgsm"):
            return attack_every_image(
                fgsm, target, self.sets["test"], budget, seed, lambda done, total: None, labels="predicted"
            )[0]


def main() -> None:
    """Baseline, FGSM, adversarial training, poisoning."""
    side = Side()
    test = side.sets["test"]
    baseline = side.train("train")
    side.measure("clean", baseline, test.images, test.labels)
    examples = side.examples(baseline)
    side.measure("fgsm", baseline, examples, test.labels)

    defended = side.train("defend")
    side.measure("defended clean", defended, test.images, test.labels)
    if side.arguments.version == "L":
        examples = side.examples(defended)
    side.measure("defended fgsm", defended, examples, test.labels)

    victim = side.train("train poisoned")
    side.measure("poisoned clean", victim, test.images, test.labels)
    sevens = test.select(np.flatnonzero(test.labels == protocol.TARGET_LABEL), "only class 7")
    side.measure("poisoned sevens", victim, sevens.images, sevens.labels)
    side.measure("poisoned sevens patched", victim, stamp(sevens.images, parse_trigger(TRIGGER)), sevens.labels)
    side.results.write({name: versions()[name] for name in ("torch", "numpy")}, **side.compute.as_json())


if __name__ == "__main__":
    main()
