"""The networks that are trained to hold, and what is measured on each; imported only when a plan is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from secure_ai.blue.training.hardening_state import HardeningState, hardening_state
from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.compute import TRAINING_REPLICAS, configure
from secure_ai.core.errors import SecureAIError
from secure_ai.core.result import Result
from secure_ai.core.seeds import generator
from secure_ai.files.open import MIB
from secure_ai.files.seal import SealedFile
from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import build_network
from secure_ai.models.tensors import state_digest
from secure_ai.runs.cases.parts import Parents, attacked
from secure_ai.runs.cases.report_1.ids import BASELINE, REPORT
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.measure import Context, Make, Measure, Network, Passes, Settings
from secure_ai.runs.engine.result_file import FACTS_NAME, HISTORY_NAME, MODEL_NAME, RESULT_NAME, result_bytes
from secure_ai.runs.engine.stage import Outputs
from secure_ai.runs.recipe.recipe import Recipe
from secure_ai.runs.stages.certificates import CertifiedSettings, certified_row
from secure_ai.runs.stages.clean import CLEAN
from secure_ai.runs.stages.hardening import Hardening, harden_network

ARCH = "report1-cnn"
CARD = "defences that hold"
UNDEFENDED, RECOMMENDED, TRADES, CERTIFIED = "undefended", "defended-recommended", "trades", "certified"
KEY = "stage"  # the file of a stage is its own
MAX_STATE_BYTES = 256 * MIB


class HardenSettings(Settings):
    """As of `secure-ai harden`."""

    method: str
    eps: float
    epochs: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class StageCheckpoint:
    """State in the stage's partial file; one that does not hold counts as none."""

    file: SealedFile

    def load(self) -> HardeningState | None:
        """The last state saved, or None."""
        content = self.file.read(MAX_STATE_BYTES)
        try:
            return None if content is None else hardening_state(content, self.file.name)[0]
        except SecureAIError:
            return None

    def save(self, state: HardeningState) -> None:
        """Keep `state` in place of the one before."""
        self.file.write(state.to_bytes(KEY))


def hardened(parents: Parents, settings: HardenSettings, context: Context) -> Outputs:
    """From fresh weights; the last tenth of the training images chooses which are kept."""
    compute = configure(context.precision, context.device)
    network = build_network(ARCH, generator=generator(context.seed, ARCH)).to(compute.device)
    asked = Hardening(
        method=settings.method, budget=PerturbationBudget("linf", settings.eps), seed=context.seed,
        batch_size=settings.batch_size, epochs=settings.epochs, replicas=TRAINING_REPLICAS,
        dtype=compute.training_dtype,
    )  # fmt: skip
    state, plan, divided = harden_network(
        network, context.data("train"), asked, checkpoint=StageCheckpoint(context.partial), progress=context.progress
    )
    network.cpu()
    facts = {
        "arch": ARCH,
        "digest": state_digest(network.state_dict()),
        "method": settings.method,
        "source": asked.row.source,
        "steps": plan.steps,
        "steps_done": state.step,
        "train_seconds": round(sum(state.checks.seconds), 3),
        "compute": compute.as_json(),
        **divided,
    }
    return {
        MODEL_NAME: model_bytes(network.eval(), ARCH),
        HISTORY_NAME: json_bytes(asdict(state.checks)),
        FACTS_NAME: json_bytes(facts),
        RESULT_NAME: result_bytes(Result()),
    }


def copied(parents: Parents, settings: Settings, context: Context) -> Outputs:
    """Report 1's baseline as it is, to be attacked within the defences' budget: others cannot be compared."""
    start = parents[BASELINE]
    said = {name: start.output(name) for name in (HISTORY_NAME, FACTS_NAME)}
    return {MODEL_NAME: start.artifact, RESULT_NAME: result_bytes(Result()), **said}


def networks(recipe: Recipe) -> tuple[Network, ...]:
    """The recommended defence, TRADES and the certified network, each against report 1's baseline where it is there."""
    own = recipe.defences
    twin = f"defences/{UNDEFENDED}" if REPORT in recipe.parts else ""
    baseline = Network(
        id=twin, role="baseline", title="Report 1: undefended, within the defences' budget", arch=ARCH,
        file=f"{UNDEFENDED}_cnn", measures=_measures(recipe, UNDEFENDED), holds=0.02, copy=True,
        make=Make(function=copied, settings=Settings(), passes=lambda settings, n: Passes(), parents=(BASELINE,)),
    )  # fmt: skip
    rows = (
        (RECOMMENDED, "Recommended: PGD training, averaged weights", "pgd", own.eps, own.epochs, 0.9),
        (TRADES, "TRADES", "trades", own.eps, own.trades_epochs, 0.9),
        (CERTIFIED, f"Certified at {own.certified_eps:g}: interval bounds", "ibp", own.certified_eps,
         own.certified_epochs, 0.9),
    )  # fmt: skip
    defended = tuple(
        Network(
            id=f"defences/{name}", role="defended", title=title, arch=ARCH, file=name.replace("-", "_") + "_cnn",
            make=Make(
                function=hardened,
                settings=HardenSettings(method=method, eps=eps, epochs=epochs, batch_size=own.batch_size),
                passes=_passes,
            ),
            against=twin, card=CARD,
            measures=_measures(recipe, name), holds=holds,
        )
        for name, title, method, eps, epochs, holds in rows
    )  # fmt: skip
    return (baseline, *defended) if twin else defended


def _measures(recipe: Recipe, name: str) -> tuple[Measure[Any], ...]:
    own = recipe.defences
    rows: tuple[Measure[Any], ...] = (CLEAN, *attacked(recipe, own.eps, own.pgd_steps))
    return (*rows, certified_row(CertifiedSettings(eps=own.certified_eps))) if name == CERTIFIED else rows


def _passes(settings: HardenSettings, n: int) -> Passes:
    seen = settings.epochs * n
    return Passes(training=2.2 * seen) if settings.method == "ibp" else Passes(5 * seen, 5 * seen, seen)
