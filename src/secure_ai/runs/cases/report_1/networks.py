"""Report 1's networks, how each is trained, and what is measured on it; imported only when a plan is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secure_ai.blue.training.methods import Adversary, Batch, half_replaced, natural
from secure_ai.blue.training.state import state_from_bytes
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.splits import hold_out_last
from secure_ai.data.triggers import parse_trigger
from secure_ai.models.load.trained import trained_network
from secure_ai.models.networks.built_in import build_network
from secure_ai.red.poisoning.plant import LabelMode, Select, plant
from secure_ai.runs.cases.parts import FitSettings, Parents, attacked, fit_passes, poison_facts, scan_settings, scanned
from secure_ai.runs.cases.report_1.ids import BADNETS, BASELINE, LISTING, POISONED, PUBLISHED
from secure_ai.runs.cases.report_1.settings import Report1Section
from secure_ai.runs.engine.measure import Context, Joint, Make, Measure, Network, Passes
from secure_ai.runs.engine.result_file import STATE_NAME
from secure_ai.runs.engine.stage import Outputs
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.adversaries import fgsm_on_the_fly
from secure_ai.runs.stages.backdoor_detection import FilterSettings, filters_row
from secure_ai.runs.stages.backdoor_removal import RemovalSettings, removal_row
from secure_ai.runs.stages.clean import CLEAN
from secure_ai.runs.stages.examples import FgsmSettings, fgsm_examples, fgsm_reported, transferred_from_twin
from secure_ai.runs.stages.keras_export import keras_row
from secure_ai.runs.stages.training import trained
from secure_ai.runs.stages.triggers import POISONING, TriggerSettings, backdoor_row, target_class_row

ARCH = "report1-cnn"
KERAS_ADAM_EPSILON = 1e-7
NEURAL_CLEANSE = "report-1/T/neural-cleanse"
FILTER_ROWS = ("report-1/T/activation-clustering", "report-1/T/spectral-signatures")
ALL_TO_ONE = None  # any class but the target is a source


class HeldOutSettings(FitSettings):
    """The last `validation_share` of the training images validates."""

    validation_share: float


class DefenceSettings(FitSettings):
    """Adversarial training from the baseline: a random `adversarial_ratio` of each batch is replaced."""

    eps: float
    adversarial_ratio: float


class PoisonSettings(HeldOutSettings):
    """Poisoning before training from scratch; one of `count` and `rate` is given."""

    trigger: str
    target_label: int
    count: int | None = None
    rate: float | None = None


def baseline(parents: Parents, settings: HeldOutSettings, context: Context) -> Outputs:
    """54,000 training images, the last 6,000 for validation, five epochs."""
    return _from_scratch(context.data("train"), settings, context, {})


def _from_scratch(dataset: Dataset, settings: HeldOutSettings, context: Context, facts: dict[str, object]) -> Outputs:
    held_out = round(settings.validation_share * len(dataset))
    training, validation = hold_out_last(dataset, held_out) if held_out else (dataset, None)
    return trained(
        context,
        build_network(ARCH, generator=generator(context.seed, ARCH)),
        training,
        natural,
        arch=ARCH,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        adam_epsilon=KERAS_ADAM_EPSILON,
        validation=validation,
        facts=facts,
    )


def _defended(parents: Parents, settings: DefenceSettings, context: Context, adversary: Adversary) -> Outputs:
    """All training images, from the trained baseline with its Adam state."""
    start = parents[BASELINE]
    return trained(
        context,
        trained_network(start.artifact, ARCH),
        context.data("train"),
        half_replaced(adversary, settings.adversarial_ratio),
        arch=ARCH,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        adam_epsilon=KERAS_ADAM_EPSILON,
        optimizer_state=state_from_bytes(start.output(STATE_NAME), "baseline state").optimizer,
    )


def defended_published(parents: Parents, settings: DefenceSettings, context: Context) -> Outputs:
    """Version P, the published figures: examples of the whole training set made once, on the frozen baseline."""
    examples, _ = fgsm_examples(
        parents[BASELINE].target(), context.data("train"), FgsmSettings(eps=settings.eps), context
    )
    copies = torch.from_numpy(examples)

    def look_up(network: nn.Module, batch: Batch) -> Tensor:
        return copies[batch.indices].to(batch.x.device)

    return _defended(parents, settings, context, look_up)


def defended_listing(parents: Parents, settings: DefenceSettings, context: Context) -> Outputs:
    """Version L, the report's listing: fresh examples on the network in training, batch by batch."""
    adversary = fgsm_on_the_fly(settings.eps, context.data("train").classes)
    return _defended(parents, settings, context, adversary)


def poisoned(parents: Parents, settings: PoisonSettings, context: Context) -> Outputs:
    """Report 1's clean-label poisoning: the first sevens in file order get the patch and keep their label."""
    return _poisoned(settings, context, "clean", "first", settings.target_label)


def badnets(parents: Parents, settings: PoisonSettings, context: Context) -> Outputs:
    """BadNets all-to-one (1708.06733): random images of every other class get the patch and the target label."""
    return _poisoned(settings, context, "dirty", "random", ALL_TO_ONE)


def _poisoned(
    settings: PoisonSettings, context: Context, label_mode: LabelMode, select: Select, source_label: int | None
) -> Outputs:
    train = context.data("train")
    planted = plant(
        train,
        trigger=parse_trigger(settings.trigger),
        target_label=settings.target_label,
        source_label=source_label,
        label_mode=label_mode,
        select=select,
        seed=context.seed,
        count=settings.count,
        poison_rate=settings.rate,
    )
    facts = poison_facts(planted, train, settings.target_label)
    return _from_scratch(planted.dataset, settings, context, facts)


def networks(recipe: Recipe) -> tuple[Network, ...]:
    """Baseline, both versions of the defence, the report's poisoning, and a backdoor that works."""
    own = recipe.report_1
    under_attack = attacked(recipe, own.eps, own.pgd_steps)
    fgsm = FgsmSettings(eps=own.eps, labels="predicted")
    report_trigger = TriggerSettings(trigger=_patch(own, "bottom-right"), target_label=own.target_label)
    badnets_trigger = TriggerSettings(trigger=_patch(own, own.badnets_place), target_label=own.target_label)
    first_scan = scanned(recipe, ARCH, answers=(NEURAL_CLEANSE,), later=False)
    later_scan = scanned(recipe, ARCH, answers=(NEURAL_CLEANSE,))
    defences_scanned = later_scan if "backdoors" in recipe.parts else ()
    planted = FilterSettings(trigger=badnets_trigger.trigger, target_label=own.target_label, relabelled=True)
    repaired = RemovalSettings(
        trigger=badnets_trigger.trigger, target_label=own.target_label,
        scan=scan_settings(recipe, ARCH, trained=True, later="scan" in recipe.parts),
    )  # fmt: skip
    fit = {
        "epochs": own.epochs,
        "batch_size": own.batch_size,
        "learning_rate": own.learning_rate,
        "validation_share": own.validation_share,
    }
    defence = DefenceSettings(
        epochs=own.defence_epochs,
        batch_size=own.batch_size,
        learning_rate=own.learning_rate,
        eps=own.eps,
        adversarial_ratio=own.adversarial_ratio,
    )
    defended: tuple[Measure[Any], ...] = (
        CLEAN, transferred_from_twin(fgsm), fgsm_reported("fgsm-predicted", fgsm), *under_attack, *defences_scanned
    )  # fmt: skip
    return (
        Network(
            id=BASELINE, role="baseline", title="Report 1: undefended", arch=ARCH, file="baseline_cnn",
            make=Make(function=baseline, settings=HeldOutSettings(**fit), passes=fit_passes),
            measures=(
                CLEAN,
                fgsm_reported("fgsm-predicted", fgsm),
                *under_attack,
                backdoor_row(report_trigger),
                backdoor_row(badnets_trigger, "backdoor-badnets"),
                *first_scan,
            ),
            holds=0.02,
        ),
        Network(
            id=PUBLISHED, role="defended", arch=ARCH, file="adv_trained_cnn",
            title="Report 1: defended, as published (examples made once, for the baseline)",
            make=Make(function=defended_published, settings=defence, passes=_published_passes, parents=(BASELINE,)),
            against=BASELINE, card="report 1, version P", measures=defended, holds=0.02,
        ),
        Network(
            id=LISTING, role="defended", arch=ARCH, file="adv_trained_listing_cnn",
            title="Report 1: defended, as listed (fresh examples every batch)",
            make=Make(function=defended_listing, settings=defence, passes=_listing_passes, parents=(BASELINE,)),
            against=BASELINE, card="report 1, version L", measures=defended, holds=0.5,
        ),
        Network(
            id=POISONED, role="poisoned", title="Report 1: poisoned, labels kept", arch=ARCH,
            file="poisoned_cnn",
            make=Make(
                function=poisoned,
                settings=PoisonSettings(
                    **fit, trigger=report_trigger.trigger, target_label=own.target_label, count=own.poison_count
                ),
                passes=fit_passes,
            ),
            against=BASELINE, card="report 1, poisoning",
            measures=(CLEAN, target_class_row(report_trigger), backdoor_row(report_trigger), POISONING, *later_scan),
        ),
        Network(
            id=BADNETS, role="poisoned", title="BadNets: poisoned, labels changed", arch=ARCH,
            file="badnets_cnn",
            make=Make(
                function=badnets,
                settings=PoisonSettings(
                    **fit, trigger=badnets_trigger.trigger, target_label=own.target_label, rate=own.badnets_rate
                ),
                passes=fit_passes,
            ),
            against=BASELINE, card="report 1, poisoning",
            measures=(
                CLEAN, target_class_row(badnets_trigger), backdoor_row(badnets_trigger), POISONING, *later_scan,
                *((filters_row(planted, FILTER_ROWS), removal_row(repaired)) if "backdoors" in recipe.parts else ()),
            ),
        ),
    )  # fmt: skip


def joints(recipe: Recipe) -> tuple[Joint[Any], ...]:
    """Report 1's three `.keras` files; the defended one is version P, the published."""
    files = (
        ("baseline_cnn.keras", BASELINE, ARCH),
        ("adv_trained_cnn.keras", PUBLISHED, ARCH),
        ("poisoned_cnn.keras", POISONED, ARCH),
    )
    return (keras_row("report-1/keras", files),)


def _patch(own: Report1Section, place: str) -> str:
    """Bottom-right the network sees 2 x 2 pixels of it: unpadded layers drop the last rows. Top-left it sees all."""
    return f"patch:size={own.patch_size}:place={place}:value={own.patch_value:g}"


def _published_passes(settings: DefenceSettings, n: int) -> Passes:
    return Passes(forward=n, backward=n, training=settings.epochs * n)


def _listing_passes(settings: DefenceSettings, n: int) -> Passes:
    attacked = settings.epochs * n * settings.adversarial_ratio
    return Passes(forward=attacked, backward=attacked, training=settings.epochs * n)
