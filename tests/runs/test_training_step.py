from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from secure_ai.core.errors import BudgetError, NonFiniteError
from secure_ai.training import pgd_examples, pgd_step

EXAMPLE = Path(__file__).parents[2] / "examples" / "robust_training_loop.py"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)).train()


def random_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    draws = torch.Generator().manual_seed(0)
    return torch.rand((8, 1, 4, 4), generator=draws), torch.arange(8) % 2, draws


def test_examples_stay_in_the_ball_and_leave_the_network_alone() -> None:
    x, y, draws = random_batch()
    here = network()
    mean = here.get_buffer("1.running_mean").clone()
    x_adv = pgd_examples(here, x, y, norm="linf", eps=0.1, steps=5, generator=draws)
    assert float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert torch.equal(here.get_buffer("1.running_mean"), mean)
    assert here.training


def test_a_step_is_a_step_on_the_examples() -> None:
    x, y, draws = random_batch()
    mine, theirs = network(), network()
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (mine, theirs)]
    loss = pgd_step(mine, optimizers[0], x, y, norm="linf", eps=0.1, steps=3, generator=draws)
    _, _, again = random_batch()
    x_adv = pgd_examples(theirs, x, y, norm="linf", eps=0.1, steps=3, generator=again)
    expected = nn.functional.cross_entropy(theirs(x_adv), y)
    expected.backward()
    optimizers[1].step()
    assert loss == pytest.approx(float(expected.detach()))
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


def test_bad_budgets_and_losses_are_errors() -> None:
    x, y, draws = random_batch()
    here = network()
    optimizer = torch.optim.SGD(here.parameters(), lr=0.1)
    with pytest.raises(BudgetError):
        pgd_step(here, optimizer, x, y, norm="linf", eps=2.0, steps=3, generator=draws)
    with torch.no_grad():
        here.get_parameter("2.weight").fill_(math.nan)
    with pytest.raises(NonFiniteError):
        pgd_step(here, optimizer, x, y, norm="linf", eps=0.1, steps=3, generator=draws)


def test_the_example_runs_and_its_network_holds(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert float(last.split(":")[1].split("%")[0]) > 90
