"""Removers on a small network with a backdoor that works: it must be gone after, and clean accuracy must stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from secure_ai.blue.backdoors import flat_minimum, removal, shared_adversarial, unlearning
from secure_ai.blue.backdoors.inversion import EVERY, FORMS, Inverted, invert, one_class
from secure_ai.blue.backdoors.removal import REMOVERS, relearned
from secure_ai.blue.backdoors.repair import Reconstructed, Repair, tuned
from secure_ai.blue.training.methods import natural
from secure_ai.core.errors import ArchError
from secure_ai.data.dataset import Dataset
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.tensors import images_to_float, state_digest
from secure_ai.red.poisoning.plant import plant

TRIGGER, LABEL = parse_trigger("patch:size=5:place=0x0:value=1"), 3


def stamped(images: np.ndarray) -> np.ndarray:
    return images_to_float(stamp(images, TRIGGER)).numpy()


def small() -> nn.Sequential:
    torch_state = torch.random.get_rng_state()
    torch.random.set_rng_state(torch.Generator().manual_seed(3).get_state())
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10))
    torch.random.set_rng_state(torch_state)
    return network


def repair_of(network: nn.Module, clean: Dataset, trigger: Reconstructed | None = None) -> Repair:
    target = NetworkTarget(network, name="suspected", digest="", input_shape=(1, 28, 28), num_classes=10)
    return Repair(target, clean, trigger, 0)


def part_of_the_trigger(size: int) -> Reconstructed:
    """A mask that covers a corner of the planted patch; of 5 x 5 pixels it is the patch."""
    mask, pattern = np.full((1, 1, 28, 28), -9, np.float32), np.zeros((1, 1, 28, 28), np.float32)
    mask[..., :size, :size], pattern[..., :size, :size] = 9, 9
    inverted = Inverted(FORMS["mask"], np.array([float(size**2)]), (mask, pattern), np.array([True]))
    return Reconstructed(inverted, 0, EVERY, LABEL)


@pytest.fixture(scope="module")
def backdoored(digits: Dataset) -> nn.Module:
    poisoned = plant(
        digits, trigger=TRIGGER, target_label=LABEL, source_label=None, label_mode="dirty", select="random", seed=0,
        poison_rate=0.3,
    )  # fmt: skip
    return tuned(small(), poisoned.dataset, natural, 0, epochs=60)


def measured(network: nn.Module, data: Dataset) -> tuple[float, float]:
    """Clean accuracy, and success of the trigger on other classes."""
    others = data.select(np.flatnonzero(data.labels != LABEL), "others")
    with torch.no_grad():
        clean = network(images_to_float(data.images)).argmax(dim=1).numpy()
        hit = network(torch.from_numpy(stamped(others.images))).argmax(dim=1).numpy()
    return float((clean == data.labels).mean()), float((hit == LABEL).mean())


def test_unlearning_removes_what_fine_tuning_leaves(
    backdoored: nn.Module, digits: Dataset, digits_test: Dataset
) -> None:
    before = state_digest(backdoored.state_dict())
    accuracy, success = measured(backdoored, digits_test)
    assert (accuracy > 0.95, success > 0.9) == (True, True)
    repaired = REMOVERS["unlearning"](repair_of(backdoored, digits, part_of_the_trigger(5)))
    after, left = measured(repaired, digits_test)
    assert after > accuracy - 0.02
    assert left < 0.1
    assert state_digest(backdoored.state_dict()) == before  # the given network stays as it is


def test_further_searches_find_what_a_partly_reconstructed_trigger_leaves(
    backdoored: nn.Module, digits: Dataset, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the same number of epochs on the given trigger alone."""
    given = repair_of(backdoored, digits, part_of_the_trigger(2))
    searched = measured(unlearning.unlearn(given), digits_test)
    nothing = [np.empty((0, 1, 28, 28), np.float32)] * 2
    monkeypatch.setattr(unlearning, "_searched", lambda *args: nothing)
    alone = measured(unlearning.unlearn(given), digits_test)
    assert searched[0] > measured(backdoored, digits_test)[0] - 0.02
    assert searched[1] < 0.1
    assert alone[1] > 0.2


@pytest.mark.parametrize("name", ["additive", "pair"])
def test_triggers_of_every_form_are_unlearned(
    name: str, backdoored: nn.Module, digits: Dataset, digits_test: Dataset
) -> None:
    """One of each form is searched for in the network itself, of one source or of all."""
    source = 7 if name == "pair" else EVERY
    target, form = repair_of(backdoored, digits).target, FORMS[name]
    searches = one_class(np.asarray(digits.labels), LABEL, source, form, 1, 0)
    found = invert(target, digits.images, searches, form, 0, scattered=True)
    before = evaluate(target, found.stamp(digits_test.images, 0), digits_test.labels).predictions == LABEL
    repaired = unlearning.unlearn(repair_of(backdoored, digits, Reconstructed(found, 0, source, LABEL)))
    after = evaluate(replace(target, network=repaired), found.stamp(digits_test.images, 0), digits_test.labels)
    own = digits_test.labels == source if name == "pair" else digits_test.labels != LABEL
    assert found.reached.all()
    assert before[own].mean() > 0.5 > 0.2 > (after.predictions == LABEL)[own].mean()


@pytest.mark.parametrize("name", REMOVERS)
def test_every_remover_keeps_clean_accuracy(
    name: str, backdoored: nn.Module, digits: Dataset, digits_test: Dataset
) -> None:
    repaired = REMOVERS[name](repair_of(backdoored, digits))
    assert measured(repaired, digits_test)[0] > measured(backdoored, digits_test)[0] - 0.02


def test_pruning_silences_the_units_that_clean_images_do_not_use(digits: Dataset) -> None:
    """A unit that no clean image excites is what carries the trigger here: it must go."""
    network = small().eval()
    first, last = network[1], network[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    tuned(network, digits, natural, 0, epochs=4)
    corner = np.zeros((28, 28), dtype=np.float32)
    corner[:5, :5] = 1
    with torch.no_grad():
        first.weight[5] = torch.from_numpy(50 * corner.ravel())
        first.bias[5] = -1200  # only twenty-five white pixels excite it
        last.weight[LABEL, 5] = 20
    dark = digits.images.copy()
    dark[:, :, :5, :5] = 0
    clean = Dataset(dark, digits.labels, "dark", 10)
    assert measured(network, clean)[1] > 0.9
    repaired = REMOVERS["fine-pruning"](repair_of(network, clean))
    assert measured(repaired, clean)[1] < 0.3


def test_a_network_without_such_a_layer_is_refused(digits: Dataset) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(ArchError):
        REMOVERS["fine-pruning"](repair_of(network, digits))


@pytest.mark.parametrize("name", ["ft-sam", "sau"])
def test_without_the_trigger_a_remover_weakens_the_backdoor_more_than_fine_tuning(
    name: str, backdoored: nn.Module, digits: Dataset, digits_test: Dataset
) -> None:
    before = state_digest(backdoored.state_dict())
    left = measured(REMOVERS[name](repair_of(backdoored, digits)), digits_test)[1]
    assert left < measured(REMOVERS["fine-tuning"](repair_of(backdoored, digits)), digits_test)[1]
    assert state_digest(backdoored.state_dict()) == before


def test_uphill_is_the_gradient_scaled_by_the_weights() -> None:
    """w = (3, -1), g = (1, 2): |w| g = (3, 2), norm sqrt(13), w^2 g = (9, 2)."""
    weight = torch.tensor([3.0, -1.0], requires_grad=True)
    weight.grad = torch.tensor([1.0, 2.0])
    unused = torch.tensor([5.0], requires_grad=True)
    moves = flat_minimum.uphill([weight, unused], 2.0)
    assert torch.allclose(moves[0], 2 / 13**0.5 * torch.tensor([9.0, 2.0]))
    assert moves[1].tolist() == [0]


def test_shared_examples_mislead_both_networks_within_the_budget(backdoored: nn.Module, digits: Dataset) -> None:
    x, y = images_to_float(digits.images[:64]), torch.from_numpy(digits.labels[:64].copy())
    other = tuned(copy.deepcopy(backdoored), digits, natural, 1, epochs=1)
    for network in (backdoored, other):
        for parameter in network.parameters():
            parameter.requires_grad_(False)
    change = shared_adversarial.shared_change(other, backdoored, x, y)
    assert float(change.abs().max()) <= shared_adversarial.BUDGET + 1e-6
    assert 0 <= float((x + change).min()) <= float((x + change).max()) <= 1
    first, second = backdoored(x + change).argmax(dim=1), other(x + change).argmax(dim=1)
    assert ((first == second) & (first != y)).float().mean() > 0.5
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 1e-12]])
    expected = 0.5 * (np.log(0.5 / 0.75) / 2 + np.log(0.5 / 0.25) / 2 + np.log(1 / 0.75))
    assert float(shared_adversarial.divergence(p.log(), q.log())) == pytest.approx(expected, abs=1e-6)
    assert float(shared_adversarial.divergence(p.log(), p.log())) == pytest.approx(0, abs=1e-7)


def test_relearning_is_faster_where_a_backdoor_was(
    backdoored: nn.Module, digits: Dataset, digits_test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "RELEARN_EPOCHS", 1)
    clean = tuned(small(), digits, natural, 0, epochs=60)
    again: Callable[[nn.Module], float] = lambda network: measured(  # noqa: E731  # one line, used twice
        relearned(network, digits, stamped, LABEL, 0), digits_test
    )[1]
    assert again(backdoored) > again(clean) + 0.2
