"""`secure-ai certify`: what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.test_commands import call
from torch import nn

from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK

CODE = "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))\n"

pytestmark = pytest.mark.usefixtures("smaller_probes")


@pytest.fixture
def request_words(tmp_path: Path) -> list[str]:
    """Class 1 where the mean pixel is above one half, on greys from dark to bright."""
    network = nn.Linear(16, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16))
        network.bias.copy_(torch.tensor([8.0, -8.0]))
    torch.save({"1.weight": network.weight.detach(), "1.bias": network.bias.detach()}, tmp_path / "m.pt")
    (tmp_path / "net.py").write_text(CODE)
    level = np.linspace(20, 235, 60).astype(np.uint8)
    images = level[:, None, None, None].repeat(4, 2).repeat(4, 3)
    np.savez(tmp_path / "d.npz", x=images, y=(level > 127).astype(np.int64))
    model, arch, data = str(tmp_path / "m.pt"), f"{tmp_path / 'net.py'}:net", str(tmp_path / "d.npz")
    return ["certify", model, "--arch", arch, "--data", data, "--norm", "linf", "--eps", "0.05", "--attack", "fgsm"]


@pytest.mark.parametrize(("fed", "expected"), [((), EXIT_OK), (("--mean", "0.9", "--std", "0.1"), EXIT_INCONCLUSIVE)])
def test_a_network_fed_wrongly_has_no_certificate_to_show(
    capsys: pytest.CaptureFixture[str], request_words: list[str], fed: tuple[str, ...], expected: int
) -> None:
    code, out, _ = call(capsys, *request_words, *fed, "--json")
    assert code == expected
    assert json.loads(out)["contradictions"] == 0
    code, out, _ = call(capsys, *request_words, *fed)
    assert (code, "CHECK THE INPUT" in out, "exit 3" in out) == (expected, bool(fed), bool(fed))
    assert "suite-strength" in out  # a check that fails whatever is fed: one attack is no suite
