"""What the stages of training networks share."""

from __future__ import annotations

import torch

from secure_ai.models.load.store import model_bytes
from secure_ai.models.networks.built_in import build_network
from secure_ai.runs.stages.steps import built_in_target


def test_the_target_of_a_stage_computes_in_the_fast_layout() -> None:
    draw = torch.Generator().manual_seed(0)
    content = model_bytes(build_network("report1-cnn", generator=draw), "report1-cnn")
    target = built_in_target(content, "report1-cnn", "a stage", 10)
    images = torch.rand((8, 1, 28, 28), generator=draw).contiguous(memory_format=torch.channels_last)
    assert target.network.get_submodule("conv1")(images).is_contiguous(memory_format=torch.channels_last)
