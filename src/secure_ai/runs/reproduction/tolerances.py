"""How far a re-trained network may lie from a published figure: one constant a kind of figure.

Report 1's come from the measured spread of its protocol: 20 runs, which are 5 training seeds in each of 4 stacks (this
tool in bf16 and in float32, the report's own TensorFlow with ART, and PyTorch with foolbox). A figure's
variance s^2 is that of a single run, between and within stacks, with nu degrees of freedom (one-way random effects,
Satterthwaite). Two single runs of different stacks differ by less than t(0.975, nu) * s * sqrt(2) in 95 % of cases; of
losses, s is that of the logarithm, and the limit a factor. `scripts/bench spread` computes the table from
benchmarks/results/pipeline.json, and a test compares. Where one constant serves several figures it is the largest of
theirs.

Report 2's protocol was not run over enough seeds: its constants are reasoned, and the report says so of each.
"""

from __future__ import annotations

from secure_ai.runs.reproduction.judge import Tolerance

RUNS = 20

CLEAN = Tolerance(0.0039, 1.0, "clean accuracy", RUNS)
ONE_CLASS = Tolerance(0.0180, 1.0, "accuracy on the class of about 1,000 images, with and without trigger", RUNS)
FGSM_UNDEFENDED = Tolerance(0.1163, 1.0, "accuracy of the undefended network under FGSM", RUNS)
TRANSFERRED = Tolerance(0.0031, 1.0, "accuracy on transferred examples, once trained on", RUNS)
FGSM_DEFENDED = Tolerance(0.0435, 1.0, "accuracy under FGSM of a network trained on FGSM", RUNS)
CLEAN_LOSS = Tolerance(0.0, 1.466, "clean loss", RUNS)
ATTACKED_LOSS = Tolerance(0.0, 1.512, "loss under attack", RUNS)
DIFFERENCE = Tolerance(0.0041, 1.0, "difference of two clean accuracies of one run", RUNS)
DIFFERENCE_ATTACKED = Tolerance(0.1155, 1.0, "difference of an accuracy under FGSM and another of one run", RUNS)
GAP = Tolerance(0.0034, 1.0, "difference of the defended network's clean and transferred accuracy of one run", RUNS)

FIXED_CLEAN = Tolerance(0.004, 1.0, "clean accuracy on MNIST")
FIXED_FGSM_UNDEFENDED = Tolerance(0.125, 1.0, "an undefended network keeps 5 to 30 % under FGSM")
FIXED_FGSM_DEFENDED = Tolerance(0.085, 1.0, "a network trained on FGSM keeps 80 to 97 % under FGSM")
FIXED_CLEAN_LOSS = Tolerance(0.0, 1.6, "the clean loss follows the few dozen misread images")
FIXED_DIFFERENCE = Tolerance(0.008, 1.0, "two clean accuracies, 0.4 points each")
FIXED_GAIN = Tolerance(0.21, 1.0, "an undefended accuracy under FGSM (12.5 points) and a defended one (8.5)")
