"""Report 2's networks, how each is trained, and what is measured on it; imported only when a plan is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secure_ai.blue.training.methods import natural, paired
from secure_ai.core.seeds import generator
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger
from secure_ai.models.load.trained import trained_network
from secure_ai.models.networks.built_in import build_network
from secure_ai.red.poisoning.plant import plant
from secure_ai.runs.cases.parts import FitSettings, Parents, attacked, fit_passes, poison_facts, scanned
from secure_ai.runs.cases.report_2.ids import BASELINE, DEFENDED, POISONED
from secure_ai.runs.cases.report_2.settings import Mode
from secure_ai.runs.engine.measure import Context, Make, Network, Passes
from secure_ai.runs.engine.stage import Outputs
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.adversaries import fgsm_on_the_fly
from secure_ai.runs.stages.clean import CLEAN
from secure_ai.runs.stages.examples import FgsmSettings, fgsm_reported, transferred_from_twin
from secure_ai.runs.stages.training import trained
from secure_ai.runs.stages.triggers import POISONING, PartlySettings, TriggerSettings, backdoor_row, partly_row

ARCH = "report2-cnn"
TORCH_ADAM_EPSILON = 1e-8

MODE_NETWORKS: Mapping[Mode, tuple[str, ...]] = {
    "baseline": (BASELINE,),
    "poisoned": (POISONED,),
    "adv_only": (BASELINE,),
    "adv_training": (BASELINE, DEFENDED),
}


class DefenceSettings(FitSettings):
    """Adversarial training from the baseline, each batch with its FGSM images."""

    eps: float


class PoisonSettings(FitSettings):
    """Dirty-label poisoning before training from scratch."""

    trigger: str
    source_label: int
    target_label: int
    count: int


def baseline(parents: Parents, settings: FitSettings, context: Context) -> Outputs:
    """All 60,000 training images, batch 64, five epochs."""
    return _from_scratch(context.data("train"), settings, context, {})


def _from_scratch(dataset: Dataset, settings: FitSettings, context: Context, facts: dict[str, object]) -> Outputs:
    return trained(
        context,
        build_network(ARCH, generator=generator(context.seed, ARCH)),
        dataset,
        natural,
        arch=ARCH,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        adam_epsilon=TORCH_ADAM_EPSILON,
        facts=facts,
    )


def poisoned(parents: Parents, settings: PoisonSettings, context: Context) -> Outputs:
    """The first sevens in file order get the patch AND the label 1."""
    train = context.data("train")
    planted = plant(
        train,
        trigger=parse_trigger(settings.trigger),
        target_label=settings.target_label,
        source_label=settings.source_label,
        label_mode="dirty",
        select="first",
        seed=context.seed,
        count=settings.count,
    )
    facts = poison_facts(planted, train, settings.target_label)
    return _from_scratch(planted.dataset, settings, context, facts)


def defended(parents: Parents, settings: DefenceSettings, context: Context) -> Outputs:
    """From the baseline, three epochs at a tenth of the learning rate on each batch and its FGSM images, one to one."""
    dataset = context.data("train")
    return trained(
        context,
        trained_network(parents[BASELINE].artifact, ARCH),
        dataset,
        paired(fgsm_on_the_fly(settings.eps, dataset.classes)),
        arch=ARCH,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        adam_epsilon=TORCH_ADAM_EPSILON,
    )


def networks(recipe: Recipe) -> tuple[Network, ...]:
    """The networks of the recipe's modes: baseline, poisoned, defended."""
    wanted = {name for mode in recipe.report_2.modes for name in MODE_NETWORKS[mode]}
    return tuple(network for network in _every_network(recipe, wanted) if network.id in wanted)


def _every_network(recipe: Recipe, wanted: Collection[str]) -> tuple[Network, ...]:
    own = recipe.report_2
    under_attack = attacked(recipe, own.eps, own.pgd_steps)
    trigger = TriggerSettings(
        trigger=f"patch:size={own.patch_size}:place=bottom-right:value=1",
        target_label=own.target_label,
        source_label=own.source_label,
    )
    partly = PartlySettings(**trigger.model_dump(), count=own.poison_count)
    first = fgsm_reported("fgsm-640", FgsmSettings(eps=own.eps, first=own.first))
    first_scan, later_scan = scanned(recipe, ARCH, later=False), scanned(recipe, ARCH)
    poisoned_scanned = later_scan if BASELINE in wanted else first_scan
    defence_scanned = later_scan if "backdoors" in recipe.parts else ()
    fit = {"epochs": own.epochs, "batch_size": own.batch_size, "learning_rate": own.learning_rate}
    return (
        Network(
            id=BASELINE, role="baseline", title="Report 2: undefended", arch=ARCH, file="report2_baseline_cnn",
            make=Make(function=baseline, settings=FitSettings(**fit), passes=fit_passes),
            measures=(CLEAN, first, *under_attack, backdoor_row(trigger), *first_scan), holds=0.05,
        ),
        Network(
            id=POISONED, role="poisoned", title="Report 2: poisoned, labels changed", arch=ARCH,
            file="report2_poisoned_cnn",
            make=Make(
                function=poisoned,
                settings=PoisonSettings(
                    **fit, trigger=trigger.trigger, source_label=own.source_label, target_label=own.target_label,
                    count=own.poison_count,
                ),
                passes=fit_passes,
            ),
            against=BASELINE, card="report 2, poisoning",
            measures=(CLEAN, backdoor_row(trigger), partly_row(partly), POISONING, *poisoned_scanned),
        ),
        Network(
            id=DEFENDED, role="defended", title="Report 2: defended", arch=ARCH, file="report2_defended_cnn",
            make=Make(
                function=defended,
                settings=DefenceSettings(
                    epochs=own.defence_epochs, batch_size=own.batch_size, learning_rate=own.defence_learning_rate,
                    eps=own.eps,
                ),
                passes=_defence_passes,
                parents=(BASELINE,),
            ),
            against=BASELINE, card="report 2, adversarial training",
            measures=(CLEAN, first, transferred_from_twin(FgsmSettings(eps=own.eps)), *under_attack, *defence_scanned),
            holds=0.1,
        ),
    )  # fmt: skip


def _defence_passes(settings: DefenceSettings, n: int) -> Passes:
    return Passes(forward=settings.epochs * n, backward=settings.epochs * n, training=2 * settings.epochs * n)
