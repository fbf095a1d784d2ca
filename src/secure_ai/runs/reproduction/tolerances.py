"""How far a re-trained network may lie from a published figure: one constant a kind of figure, each with its reason."""

from __future__ import annotations

from secure_ai.runs.reproduction.judge import Tolerance

CLEAN = Tolerance(0.004, 1.0, "clean accuracy on MNIST moves by up to 0.4 points between training seeds and frameworks")
ONE_CLASS = Tolerance(0.010, 1.0, "accuracy on one class of about 1,000 images moves by up to 1 point between seeds")
FGSM_UNDEFENDED = Tolerance(
    0.125, 1.0, "under FGSM an undefended network keeps 5 to 30 %, depending on the training seed"
)
TRANSFERRED = Tolerance(0.015, 1.0, "accuracy on transferred examples, once trained on, is 97 to 100 % for every seed")
FGSM_DEFENDED = Tolerance(
    0.085, 1.0, "under FGSM a network trained on FGSM keeps 80 to 97 %, depending on the training seed"
)
CLEAN_LOSS = Tolerance(0.0, 1.6, "the clean loss follows the few dozen misread images and moves by up to 60 %")
ATTACKED_LOSS = Tolerance(0.0, 2.5, "the loss under attack follows the most confident errors and moves 2.5-fold")
DIFFERENCE = Tolerance(0.008, 1.0, "two clean accuracies, each of which moves by up to 0.4 points")
DIFFERENCE_ATTACKED = Tolerance(0.129, 1.0, "an accuracy under FGSM (12.5 points) and a clean one (0.4 points)")
