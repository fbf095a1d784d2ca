"""A whole suite of attacks, with every check of the trust verdict, on a sample: the figure that may be claimed."""

from __future__ import annotations

from secure_ai.core.budget import PerturbationBudget
from secure_ai.red.evasion.suite.access import plans_for
from secure_ai.red.evasion.trust.judged import judge_network
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.collected import Collected
from secure_ai.runs.stages.robustness import add_judged, finished
from secure_ai.runs.stages.steps import target_of
from secure_ai.runs.stages.transfers import sample


def measure_suite(work: Work) -> Outputs:
    """The recipe's suite on a stratified random sample of the test images, against one network of the run."""
    network, attack, seed = work.settings["network"], work.settings["attack"], work.settings["seed"]
    test = sample(work.data("test"), work.settings["n"], seed)
    target = target_of(work, network, work.settings["arch"], test.classes)
    budget = PerturbationBudget("linf", work.settings["eps"])
    plans = plans_for(attack, budget.norm, target.access)
    judged = judge_network(target, test, budget, plans, seed, progress=work.progress)
    collected = Collected(stage=f"{network}/suite", model=network)
    protocol = f"worst case over the suite {attack}; {test.note or 'all images'}"
    add_judged(collected, "suite", finished(judged), protocol, test)
    return collected.outputs()
