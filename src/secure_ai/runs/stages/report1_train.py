"""Report 1's trainings: baseline, both versions of its adversarial training, its poisoning, and an honest BadNets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Adversary, Batch, half_replaced, natural
from secure_ai.blue.training.state import state_from_bytes
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import hold_out_last
from secure_ai.data.triggers import Trigger, parse_trigger
from secure_ai.models.networks.built_in import build_network
from secure_ai.red.evasion.attacks.pgd import fgsm
from secure_ai.red.poisoning.plant import Planted, plant
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.adversaries import fgsm_on_the_fly
from secure_ai.runs.stages.steps import (
    KERAS_ADAM_EPSILON,
    attack_every_image,
    network_from,
    target_of,
    train_stage,
)

ARCH = "report1-cnn"
BASELINE = "report-1/baseline"


def report_trigger(work: Work) -> Trigger:
    """Report 1's square patch, of which its network sees 2 x 2 pixels: unpadded layers drop the last rows."""
    return _patch(work, "bottom-right")


def badnets_trigger(work: Work) -> Trigger:
    """The same patch where the network sees all of it (chosen on the validation images)."""
    return _patch(work, work.settings["badnets_place"])


def _patch(work: Work, place: str) -> Trigger:
    size, value = work.settings["patch_size"], work.settings["patch_value"]
    return parse_trigger(f"patch:size={size}:place={place}:value={value:g}")


def _split(work: Work, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    held_out = round(work.settings["validation_share"] * len(dataset))
    return hold_out_last(dataset, held_out) if held_out else (dataset, None)


def _from_scratch(work: Work, dataset: Dataset) -> Outputs:
    training, validation = _split(work, dataset)
    network = build_network(ARCH, generator=generator(work.settings["seed"], ARCH))
    return train_stage(
        work,
        network,
        training,
        natural,
        arch=ARCH,
        epochs=work.settings["epochs"],
        learning_rate=work.settings["learning_rate"],
        adam_epsilon=KERAS_ADAM_EPSILON,
        validation=validation,
    )


def baseline(work: Work) -> Outputs:
    """54,000 training images, the last 6,000 for validation, five epochs."""
    return _from_scratch(work, work.data("train"))


def _defend(work: Work, adversary: Adversary) -> Outputs:
    network = network_from(work.inputs[BASELINE]["model.safetensors"], ARCH)
    state = state_from_bytes(work.inputs[BASELINE]["state.safetensors"], "baseline state")
    return train_stage(
        work,
        network,
        work.data("train"),
        half_replaced(adversary, work.settings["adversarial_ratio"]),
        arch=ARCH,
        epochs=work.settings["defence_epochs"],
        learning_rate=work.settings["learning_rate"],
        adam_epsilon=KERAS_ADAM_EPSILON,
        optimizer_state=state.optimizer,
    )


def defended_published(work: Work) -> Outputs:
    """Version P, the published figures: examples of the whole training set made once, on the frozen baseline."""
    dataset = work.data("train")
    frozen = target_of(work, BASELINE, ARCH, dataset.classes)
    budget = PerturbationBudget("linf", work.settings["eps"])
    examples, _ = attack_every_image(fgsm, frozen, dataset, budget, work.settings["seed"], work.progress)
    copies = torch.from_numpy(examples)

    def look_up(network: nn.Module, batch: Batch) -> Tensor:
        return copies[batch.indices]

    return _defend(work, look_up)


def defended_listing(work: Work) -> Outputs:
    """Version L, the report's listing: fresh examples on the network in training, batch by batch."""
    return _defend(work, fgsm_on_the_fly(work.settings["eps"], work.data("train").classes))


def plant_report_1(work: Work) -> Planted:
    """The first sevens in file order get the patch and keep their label."""
    return plant(
        work.data("train"),
        trigger=report_trigger(work),
        target_label=work.settings["target_label"],
        source_label=work.settings["target_label"],
        label_mode="clean",
        select="first",
        seed=work.settings["seed"],
        count=work.settings["poison_count"],
    )


def plant_badnets(work: Work) -> Planted:
    """Random images of every other class get the patch and the target label: a backdoor that works."""
    return plant(
        work.data("train"),
        trigger=badnets_trigger(work),
        target_label=work.settings["target_label"],
        source_label=None,
        label_mode="dirty",
        select="random",
        seed=work.settings["seed"],
        poison_rate=work.settings["badnets_rate"],
    )


def _poisoned(work: Work, planted: Planted) -> Outputs:
    facts = {
        "indices": [int(index) for index in planted.indices],
        "poison_rate": planted.poison_rate,
        "of_target_class": int(np.count_nonzero(work.data("train").labels == work.settings["target_label"])),
    }
    return {**_from_scratch(work, planted.dataset), "poison.json": json_bytes(facts)}


def poisoned(work: Work) -> Outputs:
    """Report 1's clean-label poisoning, trained like the baseline."""
    return _poisoned(work, plant_report_1(work))


def badnets(work: Work) -> Outputs:
    """BadNets all-to-one (1708.06733), trained like the baseline."""
    return _poisoned(work, plant_badnets(work))
