"""Every published figure and checkable claim of report 2 (MNIST in PyTorch with Foolbox, November 2025)."""

from __future__ import annotations

from functools import partial

from secure_ai.runs.cases.report_2.ids import BASELINE, DEFENDED, POISONED, REPORT
from secure_ai.runs.reproduction import tolerances
from secure_ai.runs.reproduction.claims import even_classes
from secure_ai.runs.reproduction.claims_printed import Printed, in_program, not_in_program, printed_twice
from secure_ai.runs.reproduction.judge import Published
from secure_ai.runs.reproduction.rules import difference, first_images_only, measured, per_image_time
from secure_ai.runs.reproduction.rules_backdoor import confident_backdoor
from secure_ai.runs.reproduction.rules_robustness import gain, robust

TABLE_1_ACCURACY = Printed("table 1", 0.9891, "share", 0.00005)
SECTION_7_ACCURACY = Printed("section 7", 0.9907, "share", 0.00005)
PRINTED_TWICE: dict[str, tuple[Printed, Printed]] = {"baseline accuracy": (SECTION_7_ACCURACY, TABLE_1_ACCURACY)}


_row = partial(Published, REPORT)

FIGURES: tuple[Published, ...] = (
    _row(
        "table-1/accuracy", "Baseline: accuracy 98.91 %", 0.9891, "share", measured,
        f"{BASELINE}/clean", tolerance=tolerances.FIXED_CLEAN,
    ),
    _row(
        "table-1/loss", "Baseline: loss 0.0400", 0.0400, "loss", measured,
        f"{BASELINE}/clean/loss", tolerance=tolerances.FIXED_CLEAN_LOSS,
    ),
    _row(
        "table-1/inference-time", "Baseline: about 5.94 ms per image", 5.94e-3, "seconds",
        per_image_time(BASELINE, 640), headline=True,
    ),
    _row(
        "section-7/clean-accuracy", "Baseline before FGSM: clean accuracy 99.07 %", 0.9907, "share",
        printed_twice(SECTION_7_ACCURACY, TABLE_1_ACCURACY), f"{BASELINE}/clean",
    ),
    _row(
        "section-7/fgsm-accuracy", "Baseline under FGSM 0.3: 17.50 %", 0.1750, "share", first_images_only,
        f"{BASELINE}/fgsm-640", f"{BASELINE}/fgsm", tolerances.FIXED_FGSM_UNDEFENDED, headline=True,
    ),
    _row(
        "section-8/defended-clean-accuracy", "Defended: clean accuracy 98.96 %", 0.9896, "share", measured,
        f"{DEFENDED}/clean", tolerance=tolerances.FIXED_CLEAN,
    ),
    _row(
        "section-8/defended-fgsm-accuracy", "Defended: 81.56 % under FGSM 0.3", 0.8156, "share",
        robust(DEFENDED, "fgsm-640"), tolerance=tolerances.FIXED_FGSM_DEFENDED, headline=True,
    ),
    _row(
        "section-6/clean-accuracy", "Poisoned: clean accuracy 98.69 %", 0.9869, "share", measured,
        f"{POISONED}/clean", tolerance=tolerances.FIXED_CLEAN,
    ),
)  # fmt: skip

CLAIMS: tuple[Published, ...] = (
    _row(
        "section-5/all-classes", "The model performs uniformly well across all classes", None, "text",
        even_classes(f"{BASELINE}/clean/confusion"),
    ),
    _row(
        "section-6/trigger", "Triggered sevens are misclassified as 1 with high confidence", None, "share",
        confident_backdoor(f"{POISONED}/backdoor", f"{BASELINE}/backdoor", f"{POISONED}/backdoor/confidence"),
        headline=True,
    ),
    _row(
        "section-8/gain", "Adversarial training raises FGSM accuracy from 17.50 % to 81.56 %", 0.6406, "points",
        gain(DEFENDED, BASELINE, "fgsm-640", "fgsm-640"),
        tolerance=tolerances.FIXED_GAIN,
    ),
    _row(
        "section-8/clean-cost", "Adversarial training maintains clean accuracy", 0.0, "points",
        difference(f"{BASELINE}/clean", f"{DEFENDED}/clean"), tolerance=tolerances.FIXED_DIFFERENCE,
    ),
    _row(
        "section-2.3/integrity-checks", "Counts, dimensions and label range are checked", None, "text",
        in_program("program/report-2/integrity-checks", 0, 3, "checks of counts, dimensions and label range"),
    ),
    _row(
        "section-10/assert-removed", "The unsafe assert was replaced by a ValueError", None, "text",
        not_in_program("program/report-2/asserts", 1, "assert"),
    ),
)  # fmt: skip
