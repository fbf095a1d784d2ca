"""Report 1's three `.keras` files, written by Keras itself in a child process."""

from __future__ import annotations

from secure_ai.models.load.keras_io import keras_files
from secure_ai.runs.engine.stage import Outputs, Work
from secure_ai.runs.stages.report1_train import ARCH
from secure_ai.runs.stages.steps import network_from

KERAS_FILES = {
    "baseline_cnn.keras": "report-1/baseline",
    "adv_trained_cnn.keras": "report-1/defended-p",
    "poisoned_cnn.keras": "report-1/poisoned",
}


def report_1_keras(work: Work) -> Outputs:
    """The files by report 1's names; the defended one is version P, the published."""
    states = {
        name: (ARCH, network_from(work.inputs[stage]["model.safetensors"], ARCH).state_dict())
        for name, stage in KERAS_FILES.items()
    }
    return keras_files(states)
