"""Targets that offer less than gradients, and networks that meddle with themselves or with the process."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.errors import ArchError, TargetError, UsageError
from secure_ai.core.trust import CheckOutcome
from secure_ai.models.load.store import make_target, model_of_object
from secure_ai.models.preflight.preflight import Preflight, preflight, same_answers
from secure_ai.models.target.access import LEVELS, Access, offers
from secure_ai.models.target.scorer import Scorer
from secure_ai.models.target.target import NetworkTarget

CLASSES, N = 4, 40


def images() -> tuple[Tensor, Tensor]:
    y = torch.arange(N) % CLASSES
    x = 0.2 * torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    x[torch.arange(N), 0, y] += 0.7
    return x, y


def score(x: np.ndarray) -> np.ndarray:
    """The sum over row k scores class k."""
    return np.asarray(x[:, 0].sum(axis=2), dtype=np.float32)


def probabilities(x: np.ndarray) -> np.ndarray:
    e = np.exp(score(x))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def label(x: np.ndarray) -> np.ndarray:
    return np.asarray(score(x).argmax(axis=1))


def target_of(model: Any, access: Access | None = None, **settings: Any) -> NetworkTarget:
    loaded = model_of_object(model, access, name="subject", arch="")
    return make_target(loaded, input_shape=(1, 4, 4), num_classes=CLASSES, access=access, **settings)


def examine(target: NetworkTarget) -> Preflight:
    return preflight(target, *images(), generator=torch.Generator())


def outcome(found: Preflight, identifier: str) -> CheckOutcome:
    return next(check.outcome for check in found.checks if check.id == identifier)


def test_levels_are_ordered() -> None:
    table = [[offers(have, need) for need in LEVELS] for have in LEVELS]
    assert table == [[True, False, False], [True, True, False], [True, True, True]]


# --- callables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy, lambda a: a.tolist(), lambda a: a.astype(np.float64)])
def test_a_callable_gets_numpy_pixels_and_may_answer_in_any_container(wrap: Callable[[np.ndarray], Any]) -> None:
    seen = []

    def answer(x: np.ndarray) -> Any:
        seen.append((type(x), x.dtype, x.shape, x.flags.c_contiguous, x.flags.owndata))
        return wrap(score(x))

    target = target_of(answer)
    x, y = images()
    logits = target.logits(x.requires_grad_())
    assert set(seen) == {(np.ndarray, np.dtype(np.float32), (N, 1, 4, 4), True, True)}
    torch.testing.assert_close(logits, torch.from_numpy(score(x.detach().numpy())))
    assert (target.access, logits.requires_grad) == ("scores", False)
    assert torch.equal(target.predict(x), y)


def test_preflight_of_a_callable_with_scores() -> None:
    found = examine(target_of(score))
    assert [check.id for check in found.checks if check.outcome is CheckOutcome.FAIL] == []
    assert outcome(found, "input-gradient") is CheckOutcome.NOT_RUN


def test_probabilities_of_a_callable_become_logarithms_unless_they_are_rounded_to_nothing() -> None:
    found = examine(target_of(probabilities))
    assert outcome(found, "logits") is CheckOutcome.PASS
    x, _ = images()
    torch.testing.assert_close(found.target.logits(x), torch.from_numpy(score(x.numpy())).log_softmax(1))
    hard = examine(target_of(lambda x: np.eye(CLASSES, dtype=np.float32)[label(x)]))
    assert outcome(hard, "logits") is CheckOutcome.FAIL


def test_labels_say_no_more_than_the_label() -> None:
    found = examine(target_of(label, "labels"))
    x, y = images()
    assert torch.equal(found.target.predict(x), y)
    assert set(found.target.logits(x).unique().tolist()) == {0.0, 1.0}
    assert [check.id for check in found.checks if check.outcome is CheckOutcome.FAIL] == []


def test_a_label_nobody_has_seen_counts_as_another_class() -> None:
    found = examine(target_of(lambda x: np.where(x.max(axis=(1, 2, 3)) < 0.1, 77, label(x)), "labels"))
    x, y = images()
    assert torch.equal(found.target.predict(x), y)
    assert not set(found.target.predict(torch.zeros_like(x)).tolist()) & set(range(CLASSES))


@pytest.mark.parametrize(
    ("answer", "access", "told"),
    [
        (label, "scores", "--access labels"),
        (score, "labels", "--access scores"),
        (lambda x: score(x)[:1], "scores", "one score a class"),
        (lambda x: [[1.0], [1.0, 2.0]], "scores", "one score a class"),
        (lambda x: "cat", "scores", "one score a class"),
        (lambda x: None, "labels", "one label"),
        (lambda x: 1 / 0, "scores", "ZeroDivisionError"),
        (lambda x: score(x) * np.nan, "scores", "NaN or infinity"),
        (lambda x: score(x)[:, :2], "scores", "too few classes"),
    ],
)
def test_what_a_callable_may_not_answer(answer: Any, access: Access, told: str) -> None:
    with pytest.raises(TargetError, match=told):
        examine(target_of(answer, access))


def test_gradients_of_a_callable_and_things_that_are_no_model_are_refused() -> None:
    with pytest.raises(UsageError, match="no gradients"):
        model_of_object(score, "gradients", name="subject", arch="")
    with pytest.raises(ArchError, match="no model"):
        model_of_object(3, None, name="subject", arch="")


def test_a_network_given_in_python_is_copied() -> None:
    network = Linear()
    before = network.weight.detach().clone()
    loaded = model_of_object(network, None, name="subject", arch="")
    assert loaded.network is not network
    assert not loaded.network.training
    assert network.training
    assert torch.equal(network.weight, before)
    assert len(loaded.digest) == 64


class Linear(nn.Module):
    """The network whose scores are those of `score`, with something done when it is called."""

    def __init__(self, meddle: Callable[[Linear], Any] = lambda network: None) -> None:
        super().__init__()
        rows = torch.zeros(CLASSES, 4, 4)
        rows[torch.arange(CLASSES), torch.arange(CLASSES)] = 1
        self.weight = nn.Parameter(rows.flatten(1))
        self.register_buffer("calls", torch.zeros(()))
        self.meddle = meddle
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        with torch.no_grad():
            self.meddle(self)
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("access", LEVELS)
def test_a_network_may_be_asked_for_less(access: Access) -> None:
    target = target_of(Linear(), access)
    x, y = images()
    logits = examine(target).target.logits(x.requires_grad_())
    assert logits.requires_grad is (access == "gradients")
    assert torch.equal(logits.argmax(dim=1), y)
    with pytest.raises(TargetError, match="no features"):
        target.features(x)


# --- networks that meddle ---------------------------------------------------------------------------------------------


def grow(network: Linear) -> None:
    network.weight.add_(1e-3)


def there_and_back(network: Linear) -> None:
    network.weight.add_(1e-3)
    network.weight.sub_(1e-3)


def unseen_every_other_call(network: Linear) -> None:
    network.weight.data.mul_(2.0 if network.count % 2 else 0.5)


def count_calls(network: Linear) -> None:
    network.get_buffer("calls").add_(1)


def replace_weight(network: Linear) -> None:
    network.weight = nn.Parameter(network.weight * 2)


@pytest.mark.parametrize(
    ("meddle", "named"),
    [
        (grow, "weight"), (there_and_back, "weight"), (unseen_every_other_call, "weight"), (count_calls, "calls"),
        (replace_weight, "weight"),
    ],
)  # fmt: skip
def test_a_network_that_changes_itself_is_caught_at_once(meddle: Callable[[Linear], Any], named: str) -> None:
    target = target_of(Linear(meddle))
    with pytest.raises(TargetError, match=f"own weights.*{named}"), target.attacked():
        torch.cat([target.logits(images()[0]) for _ in range(3)])
    assert isinstance(target.network, Linear)
    assert target.network.count == 1


def test_a_network_that_leaves_itself_alone_is_not_caught() -> None:
    target = target_of(Linear())
    with target.attacked():
        answers = [target.logits(images()[0]) for _ in range(20)]
    assert all(torch.equal(answer, answers[0]) for answer in answers)


@pytest.mark.parametrize(
    ("meddle", "told"),
    [
        (lambda network: torch.set_default_dtype(torch.float64), "default dtype"),
        (lambda network: torch._C._set_grad_enabled(False), "gradient mode"),
    ],
)
def test_a_network_that_changes_modes_for_everybody_is_refused_and_put_right(
    meddle: Callable[[Linear], Any], told: str
) -> None:
    class Plain(Linear):
        def forward(self, x: Tensor) -> Tensor:
            meddle(self)
            return x.flatten(1) @ self.weight.T

    target = target_of(Plain())
    with pytest.raises(TargetError, match=told):
        target.logits(images()[0])
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()


def test_random_states_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def reseed(network: Linear) -> None:
        random.seed(1)
        np.random.seed(1)  # what a careless network does
        torch.manual_seed(1)

    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]  # the legacy form
    target = target_of(Linear(reseed))
    with target.attacked():
        target.logits(images()[0])
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]  # the legacy form
    assert after == before


def test_noise_behind_a_seed_of_its_own_is_no_determinism() -> None:
    class Hidden(Linear):
        def forward(self, x: Tensor) -> Tensor:
            torch.manual_seed(3)
            return super().forward(x + 0.1 * torch.rand_like(x))

    found = examine(target_of(Hidden()))
    assert outcome(found, "deterministic") is CheckOutcome.FAIL
    assert not found.target.deterministic
    assert outcome(examine(target_of(Linear())), "deterministic") is CheckOutcome.PASS


def test_answers_that_change_behind_the_back_are_found_afterwards() -> None:
    state = {"bias": 0.0}
    found = examine(target_of(lambda x: score(x) + np.array([state["bias"], 0, 0, 0], dtype=np.float32)))
    assert same_answers(found).outcome is CheckOutcome.PASS
    state["bias"] = 5.0
    assert same_answers(found).outcome is CheckOutcome.FAIL


def test_scorer_copies_the_images() -> None:
    x, _ = images()
    kept = x.clone()

    def spoil(pixels: np.ndarray) -> np.ndarray:
        pixels *= 0
        return score(pixels)

    Scorer(spoil, "scores")(x)
    assert torch.equal(x, kept)


def test_networks_without_weights_have_no_digest_in_common() -> None:
    bare, weighted = nn.Sequential(nn.Flatten()), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert model_of_object(bare, None, name="subject", arch="").digest == ""
    assert len(model_of_object(weighted, None, name="subject", arch="").digest) == 64
