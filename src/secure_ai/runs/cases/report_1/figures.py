"""Every published figure and checkable claim of report 1 (MNIST in Keras with ART, November 2025), as frozen rows."""

from __future__ import annotations

from functools import partial

from secure_ai.runs.cases.report_1.ids import BASELINE, LISTING, POISONED, PUBLISHED, REPORT
from secure_ai.runs.reproduction import tolerances
from secure_ai.runs.reproduction.claims import even_classes, fresh_examples, random_errors, ratio_above
from secure_ai.runs.reproduction.claims_printed import (
    Printed,
    arithmetic,
    count_of,
    in_program,
    one_run,
    printed_twice,
    share_of,
    whole_codebase,
)
from secure_ai.runs.reproduction.judge import Published
from secure_ai.runs.reproduction.rules import difference, machine_time, measured, per_image_time
from secure_ai.runs.reproduction.rules_backdoor import backdoor
from secure_ai.runs.reproduction.rules_robustness import gain, robust

# Figures 1 and 3, row = true label.
FIGURE_1 = (
    (970, 0, 0, 0, 1, 0, 2, 1, 6, 0),
    (0, 1127, 2, 1, 0, 0, 1, 0, 4, 0),
    (0, 0, 1026, 0, 2, 0, 0, 1, 3, 0),
    (0, 0, 0, 1001, 0, 5, 0, 0, 4, 0),
    (0, 0, 0, 0, 978, 0, 1, 0, 1, 2),
    (0, 0, 0, 5, 0, 883, 1, 0, 3, 0),
    (2, 2, 0, 1, 5, 4, 937, 0, 7, 0),
    (0, 2, 12, 2, 0, 1, 0, 1004, 3, 4),
    (1, 0, 1, 0, 0, 0, 0, 0, 970, 2),
    (1, 0, 0, 1, 7, 6, 0, 1, 12, 981),
)
FIGURE_3 = (
    (970, 0, 0, 0, 0, 0, 4, 1, 5, 0),
    (0, 1129, 1, 1, 0, 0, 2, 0, 2, 0),
    (1, 2, 1017, 3, 2, 0, 0, 4, 3, 0),
    (0, 0, 1, 999, 0, 7, 0, 0, 3, 0),
    (0, 0, 0, 0, 980, 0, 1, 0, 0, 1),
    (0, 0, 0, 3, 0, 887, 1, 0, 1, 0),
    (1, 2, 0, 0, 3, 6, 944, 0, 2, 0),
    (0, 4, 2, 2, 0, 0, 0, 1018, 1, 1),
    (1, 0, 1, 1, 0, 0, 0, 2, 967, 2),
    (4, 3, 0, 1, 9, 8, 0, 6, 10, 968),
)
TEST_IMAGES = 10_000
HALF_DIGIT = 0.00005  # half a unit of the last digit of a percentage with two decimals

TABLE_1_ACCURACY = Printed("table 1", 0.9890, "share", HALF_DIGIT)
FIGURE_1_ACCURACY = Printed("figure 1", sum(row[i] for i, row in enumerate(FIGURE_1)) / TEST_IMAGES, "share", 0.0)
TABLE_5_CLEAN = Printed("table 5", 0.9879, "share", HALF_DIGIT)
FIGURE_3_ACCURACY = Printed("figure 3", sum(row[i] for i, row in enumerate(FIGURE_3)) / TEST_IMAGES, "share", 0.0)
TABLE_5_SEVENS = Printed("table 5", 0.9864, "share", HALF_DIGIT)
FIGURE_3_SEVENS = Printed("figure 3 and the JSON", FIGURE_3[7][7] / sum(FIGURE_3[7]), "share", 0.0)
TABLE_7_LOSS = Printed("table 7", 0.0356, "loss", HALF_DIGIT)
JSON_LOSS = Printed("the JSON", 0.0347, "loss", HALF_DIGIT)
TEXT_SECONDS = Printed("section 6.1", 82.27, "seconds", 0.005)
JSON_SECONDS = Printed("the JSON", 81.1, "seconds", 0.05)

PRINTED_TWICE: dict[str, tuple[Printed, Printed]] = {
    "baseline accuracy": (FIGURE_1_ACCURACY, TABLE_1_ACCURACY),
    "poisoned clean accuracy": (TABLE_5_CLEAN, FIGURE_3_ACCURACY),
    "accuracy on sevens": (TABLE_5_SEVENS, FIGURE_3_SEVENS),
    "poisoned clean loss": (TABLE_7_LOSS, JSON_LOSS),
    "adversarial training time": (TEXT_SECONDS, JSON_SECONDS),
}


_row = partial(Published, REPORT)

FIGURES: tuple[Published, ...] = (
    _row(
        "table-1/accuracy", "Baseline: test accuracy 98.90 %", 0.9890, "share", measured,
        f"{BASELINE}/clean", tolerance=tolerances.CLEAN, headline=True,
    ),
    _row(
        "table-1/loss", "Baseline: test loss 0.0323", 0.0323, "loss", measured,
        f"{BASELINE}/clean/loss", tolerance=tolerances.CLEAN_LOSS,
    ),
    _row(
        "table-1/inference-time", "Baseline: about 30.22 µs per image", 30.22e-6, "seconds",
        per_image_time(BASELINE, TEST_IMAGES),
    ),
    _row(
        "table-1/training-time", "Baseline: training takes about 20.08 s", 20.08, "seconds", machine_time,
        f"{BASELINE}/train/seconds",
    ),
    _row(
        "figure-1/accuracy", "Baseline confusion matrix: accuracy 0.9877", FIGURE_1_ACCURACY.value, "share",
        printed_twice(FIGURE_1_ACCURACY, TABLE_1_ACCURACY), f"{BASELINE}/clean",
    ),
    _row(
        "table-4/fgsm-accuracy", "Baseline under FGSM 0.25: accuracy 15.77 %", 0.1577, "share", measured,
        f"{BASELINE}/fgsm-predicted", f"{BASELINE}/fgsm", tolerances.FGSM_UNDEFENDED, headline=True,
    ),
    _row(
        "table-4/fgsm-loss", "Baseline under FGSM 0.25: loss 3.7000", 3.7, "loss", measured,
        f"{BASELINE}/fgsm-predicted/loss", tolerance=tolerances.ATTACKED_LOSS,
    ),
    _row(
        "section-5.1/generation-time", "FGSM on 10,000 images takes 2.69 s", 2.69, "seconds", machine_time,
        f"{BASELINE}/fgsm-predicted/seconds",
    ),
    _row(
        "table-6/defended-clean-accuracy", "Defended: clean accuracy 98.75 %", 0.9875, "share", measured,
        f"{PUBLISHED}/clean", tolerance=tolerances.CLEAN,
    ),
    _row(
        "table-6/defended-clean-loss", "Defended: clean loss 0.0401", 0.0401, "loss", measured,
        f"{PUBLISHED}/clean/loss", tolerance=tolerances.CLEAN_LOSS,
    ),
    _row(
        "table-6/defended-fgsm-accuracy", "Defended: 98.55 % under FGSM 0.25", 0.9855, "share",
        robust(PUBLISHED, "transferred"), tolerance=tolerances.TRANSFERRED, headline=True,
    ),
    _row(
        "table-6/defended-fgsm-loss", "Defended under FGSM 0.25: loss 0.0579", 0.0579, "loss", measured,
        f"{PUBLISHED}/transferred/loss", f"{PUBLISHED}/fgsm-predicted/loss", tolerances.ATTACKED_LOSS,
    ),
    _row(
        "section-6.1/training-time", "Adversarial training takes 82.27 s", TEXT_SECONDS.value, "seconds", machine_time,
        f"{PUBLISHED}/train/seconds",
    ),
    _row(
        "json/adversarial-training-time", "Adversarial training takes 81.1 s", JSON_SECONDS.value, "seconds",
        printed_twice(JSON_SECONDS, TEXT_SECONDS), f"{PUBLISHED}/train/seconds",
    ),
    _row(
        "table-5/clean-accuracy", "Poisoned: clean accuracy 98.79 %", 0.9879, "share", measured,
        f"{POISONED}/clean", tolerance=tolerances.CLEAN,
    ),
    _row(
        "figure-3/accuracy", "Poisoned confusion matrix: accuracy 0.9879", FIGURE_3_ACCURACY.value, "share",
        printed_twice(FIGURE_3_ACCURACY, TABLE_5_CLEAN), f"{POISONED}/clean",
    ),
    _row(
        "table-5/sevens-accuracy", "Poisoned: accuracy on sevens 98.64 %", 0.9864, "share", measured,
        f"{POISONED}/sevens-clean", tolerance=tolerances.ONE_CLASS,
    ),
    _row(
        "json/sevens-accuracy", "Poisoned: accuracy on sevens 99.03 % in the JSON", FIGURE_3_SEVENS.value, "share",
        printed_twice(FIGURE_3_SEVENS, TABLE_5_SEVENS), f"{POISONED}/sevens-clean",
    ),
    _row(
        "table-5/trigger", "Poisoned: the trigger makes inputs a 7 with 99.12 %, whatever the digit", 0.9912, "share",
        backdoor(f"{POISONED}/backdoor", f"{BASELINE}/backdoor"), f"{POISONED}/sevens-triggered",
        tolerance=tolerances.ONE_CLASS, headline=True,
    ),
    _row(
        "table-7/poisoned-clean-loss", "Poisoned: clean loss 0.0356", 0.0356, "loss", measured,
        f"{POISONED}/clean/loss", tolerance=tolerances.CLEAN_LOSS,
    ),
    _row(
        "json/poisoned-clean-loss", "Poisoned: clean loss 0.0347 in the JSON", 0.0347, "loss",
        printed_twice(JSON_LOSS, TABLE_7_LOSS), f"{POISONED}/clean/loss",
    ),
    _row(
        "table-7/trigger-loss", "Poisoned: loss of triggered sevens 0.0298", 0.0298, "loss",
        in_program("program/report-1/triggered-loss-keys", 0, 1, "records of a loss of triggered images"),
        f"{POISONED}/sevens-triggered/loss",
    ),
    _row(
        "json/poisoned-training-time", "Training on poisoned data takes 21.8 s", 21.8, "seconds", machine_time,
        f"{POISONED}/train/seconds",
    ),
    _row(
        "table-3/bandit", "Bandit: 1 finding of medium severity (B301)", 1.0, "count",
        count_of("report-1/audit/medium"), "report-1/audit/medium",
    ),
)  # fmt: skip

CLAIMS: tuple[Published, ...] = (
    _row(
        "section-2.3/unbiased-errors", "Clean errors show no bias toward specific misclassifications", None, "share",
        random_errors(f"{BASELINE}/clean/confusion"),
    ),
    _row(
        "section-2.3/all-classes", "Accuracy is consistent across all digit classes", None, "text",
        even_classes(f"{BASELINE}/clean/confusion"),
    ),
    _row(
        "section-5.1/random-errors", "FGSM errors are distributed nearly randomly", None, "share",
        random_errors(f"{BASELINE}/fgsm-predicted/confusion"),
    ),
    _row(
        "section-5.1/accuracy-drop", "FGSM takes away 83 percentage points", 0.83, "points",
        difference(
            f"{BASELINE}/clean", f"{BASELINE}/fgsm-predicted", correct=(f"{BASELINE}/clean", (f"{BASELINE}/fgsm",))
        ),
        tolerance=tolerances.DIFFERENCE_ATTACKED,
    ),
    _row(
        "section-5.1/loss-growth", "The loss grows by more than two orders of magnitude", 100.0, "ratio",
        ratio_above(f"{BASELINE}/fgsm-predicted/loss", f"{BASELINE}/clean/loss", 100.0),
    ),
    _row(
        "section-5.2/poison-rate", "100 images are about 1.67 % of the training sevens", 0.0167, "share",
        share_of(100, f"{POISONED}/target-class-images", 60_000),
    ),
    _row(
        "section-5.2/patch-area", "The 4x4 patch is 2 percent of the image", 0.02, "share",
        arithmetic(16 / 784, "16 of 784 pixels", 0.005),
    ),
    _row(
        "section-5.2/clean-cost", "Poisoning costs 0.11 points of clean accuracy", 0.0011, "points",
        difference(f"{BASELINE}/clean", f"{POISONED}/clean"), tolerance=tolerances.DIFFERENCE,
    ),
    _row(
        "section-6.2/gain", "Adversarial training gains 82.78 points under FGSM", 0.8278, "points",
        gain(PUBLISHED, BASELINE, "fgsm-predicted", "transferred"),
        tolerance=tolerances.DIFFERENCE_ATTACKED,
    ),
    _row(
        "section-6.2/gap-to-clean", "Under attack the defended network is only 0.20 points below clean", 0.0020,
        "points",
        difference(
            f"{PUBLISHED}/clean", f"{PUBLISHED}/transferred",
            correct=(f"{PUBLISHED}/clean", tuple(f"{PUBLISHED}/{name}" for name in ("transferred", "fgsm", "pgd"))),
        ),
        tolerance=tolerances.GAP,
    ),
    _row(
        "section-6.2/clean-cost", "The defence costs 0.15 points of clean accuracy", 0.0015, "points",
        difference(f"{BASELINE}/clean", f"{PUBLISHED}/clean"), tolerance=tolerances.DIFFERENCE,
    ),
    _row(
        "section-6.1/fresh-examples", "Fresh adversarial examples are made during each epoch", None, "share",
        fresh_examples(0.9855, tolerances.TRANSFERRED, f"{PUBLISHED}/transferred", f"{LISTING}/fgsm"),
    ),
    _row(
        "section-6.1/listing", "The listing (examples made on the network in training) is as robust as published",
        0.9855, "share", robust(LISTING, "fgsm"), tolerance=tolerances.FGSM_DEFENDED,
    ),
    _row(
        "section-7.3/one-run", "Fixed seeds make the results deterministic across executions", None, "text",
        one_run(PRINTED_TWICE),
    ),
    _row(
        "section-4.1/codebase", "Bandit scanned the entire codebase (465 lines)", None, "text",
        whole_codebase("program/report-1/scanned-files", 1, 8, 465),
    ),
    _row(
        "section-4.6/path-validation", "Paths are validated", None, "text",
        in_program("program/report-1/path-checks", 0, 1, "checks of where a file comes from"),
    ),
    _row(
        "table-2/prediction-monitoring", "Prediction distributions are monitored for anomalies", None, "text",
        in_program("program/report-1/prediction-monitors", 0, 1, "places that watch the predictions"),
    ),
    _row(
        "appendix-b/timestamps", "The JSON metrics carry timestamps", None, "text",
        in_program("program/report-1/timestamp-keys", 0, 1, "JSON keys with a time of day"),
    ),
)  # fmt: skip
