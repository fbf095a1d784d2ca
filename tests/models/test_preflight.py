import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from secure_ai.core.errors import EmptyDataError, TargetError
from secure_ai.core.trust import CheckOutcome
from secure_ai.models.preflight.preflight import ONLY_CONTIGUOUS, Preflight, preflight
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.target.wrappers import logits_from_probabilities, recovers_exact_logits
from secure_ai.models.tensors import state_digest, to_channels_last

CLASSES = 5
N = 80
IDS = [
    "output", "input-layout", "eval-mode", "deterministic", "batch-independent", "logits", "input-gradient",
    "input-range", "image-orientation", "label-order", "clean-accuracy",
]  # fmt: skip


def images_and_labels(channels: int = 1) -> tuple[Tensor, Tensor]:
    """Class k has its brightest spot at row k."""
    generator = torch.Generator().manual_seed(4)
    x = 0.3 * torch.rand(N, channels, 6, 6, generator=generator)
    y = torch.arange(N) % CLASSES
    for i, label in enumerate(y):
        x[i, :, label] += 0.6
    return x, y


class Rows(nn.Module):
    """The sum over row k scores class k: right on every image above; a convolution and a linear layer in one."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 1)
        self.head = nn.Linear(4 * 36, CLASSES)
        nn.init.constant_(self.conv.weight, 1 / channels)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # it has a bias
        nn.init.zeros_(self.head.bias)
        weight = torch.zeros(CLASSES, 4, 6, 6)
        for label in range(CLASSES):
            weight[label, :, label] = 0.5
        self.head.weight.data = weight.flatten(1)

    def hidden(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.conv(x)
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(x).flatten(1))
        return logits


class Changed(Rows):
    """Rows with something done to the input or to the output."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Any] = lambda z: z,
        channels: int = 1,
    ) -> None:
        super().__init__(channels)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(super().forward(self.before(x)))


def examine(network: nn.Module, channels: int = 1, classes: int = CLASSES, **settings: Any) -> Preflight:
    x, y = images_and_labels(channels)
    return preflight(target_of(network, channels, classes, **settings), x, y, generator=torch.Generator())


def target_of(network: nn.Module, channels: int = 1, classes: int = CLASSES, **settings: Any) -> NetworkTarget:
    shape = (channels, 6, 6)
    return NetworkTarget(
        to_channels_last(network), name="subject", digest="", input_shape=shape, num_classes=classes, **settings
    )


def failed(found: Preflight) -> list[str]:
    return [check.id for check in found.checks if check.outcome is CheckOutcome.FAIL]


def evidence(found: Preflight, identifier: str) -> str:
    return next(check.evidence for check in found.checks if check.id == identifier)


def test_a_sound_network_passes_every_check_unchanged() -> None:
    network = Rows().eval()
    before = state_digest(network.state_dict())
    random_state = torch.get_rng_state()
    found = examine(network)
    assert [check.id for check in found.checks] == IDS
    assert all(check.outcome is CheckOutcome.PASS for check in found.checks)
    assert found.fixes == ()
    assert found.target.network is network
    assert (found.target.passes.forward, found.target.passes.backward) == (0, 0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert state_digest(network.state_dict()) == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_training_mode_is_told_and_left() -> None:
    network = Rows()
    found = examine(network)
    assert failed(found) == []
    assert "training mode" in found.fixes[0]
    assert network.training


# --- what makes an evaluation impossible ------------------------------------------------------------------------------


def raising(x: Tensor) -> Tensor:
    raise ZeroDivisionError("no such luck")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Changed(before=raising), "ZeroDivisionError: no such luck"),
        (Changed(after=lambda z: {"a": z, "b": z}), "dict"),
        (Changed(after=lambda z: z[:, 0]), "one score a class"),
        (Changed(after=lambda z: z.argmax(dim=1, keepdim=True)), "int64"),
        (Changed(after=lambda z: z[:, :3]), "too few classes"),
        (Changed(after=lambda z: z / 0), "NaN or infinity"),
        (Rows(channels=3), "expected input"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        examine(network)
    assert caught.value.where == "subject"


class Learning(Rows):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.bias.add_(0.01)
        return super().forward(x)


def test_a_network_that_changes_itself_is_refused() -> None:
    with pytest.raises(TargetError, match=r"head\.bias"):
        examine(Learning())


def test_no_samples_are_refused() -> None:
    x, y = images_and_labels()
    with pytest.raises(EmptyDataError):
        preflight(target_of(Rows()), x[:0], y[:0], generator=torch.Generator())


def test_more_classes_than_the_data_names_are_taken_from_the_network() -> None:
    found = examine(Changed(after=lambda z: functional.pad(z, (0, 2), value=-9.0)))
    assert failed(found) == []
    assert found.target.num_classes == 7


# --- layouts ----------------------------------------------------------------------------------------------------------


class Viewing(Rows):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        logits: Tensor = self.head(hidden.view(len(hidden), -1))
        return logits


class Writing(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class ChannelsLast(Rows):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.conv.in_channels:
            raise ValueError(f"(N, H, W, C) expected, got {tuple(x.shape)}")
        return super().forward(x.permute(0, 3, 1, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "told"), [(Viewing, "view()"), (Writing, "writes"), (ChannelsLast, "(N, H, W, C)")])
def test_other_layouts_are_found_and_given(kind: type[Rows], told: str, channels: int) -> None:
    network = kind(channels)
    found = examine(network, channels)
    assert failed(found) == []
    assert any(told in fix for fix in found.fixes)
    x, y = images_and_labels(channels)
    kept = x.clone()
    assert bool((found.target.predict(x) == y).all())
    assert torch.equal(x, kept)
    pixels = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found.target.logits(pixels).sum(), pixels)
    assert gradient.shape == x.shape
    assert bool(gradient.abs().sum() > 0)


class Dense(nn.Module):
    """Rows as one dense layer on images whose axes are in `order`: it takes them in any."""

    def __init__(self, order: tuple[int, ...], before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        weight = torch.zeros(CLASSES, 3, 6, 6)
        weight[torch.arange(CLASSES), :, torch.arange(CLASSES)] = 0.5
        self.weight = nn.Parameter(weight.permute(0, *order).flatten(1))
        self.before = before

    def forward(self, x: Tensor) -> Tensor:
        return self.before(x).flatten(1) @ self.weight.T


NHWC, NCHW = (2, 3, 1), (1, 2, 3)


@pytest.mark.parametrize("access", ["gradients", "scores", "labels"])
def test_of_two_layouts_that_a_network_takes_it_gets_the_one_it_is_right_on(access: str) -> None:
    found = examine(Dense(NHWC).eval(), 3, access=access)
    assert failed(found) == []
    assert found.target.transform.channels_last
    assert found.fixes == (f"input layout: {evidence(found, 'input-layout')}",)
    assert evidence(found, "input-layout").startswith("it gets (N, H, W, C): 80 of 80 right so, ")
    x, y = images_and_labels(3)
    assert bool((found.target.predict(x) == y).all())
    back = examine(Dense(NCHW), 3, access=access, transform=InputTransform(channels_last=True))
    assert not back.target.transform.channels_last
    assert evidence(back, "input-layout").startswith("it gets (N, C, H, W): 80 of 80")


def test_a_network_that_is_right_on_the_usual_layout_or_on_none_keeps_it() -> None:
    found = examine(Dense(NCHW).eval(), 3)
    assert (failed(found), found.fixes, found.target.transform) == ([], (), InputTransform())
    shuffled = examine(Dense((3, 1, 2)).eval(), 3)
    assert (failed(shuffled), shuffled.fixes) == (["image-orientation", "clean-accuracy"], ())


def test_another_range_in_another_layout_is_told_and_then_both_are_right() -> None:
    def network() -> Dense:
        return Dense(NHWC, before=lambda x: 1 - x)

    found = examine(network(), 3)
    assert "input-range" in failed(found)
    assert "100 % with --range 1,0" in evidence(found, "input-range")
    told = examine(network(), 3, transform=InputTransform(low=1.0, high=0.0))
    assert failed(told) == []
    assert told.target.transform == InputTransform(low=1.0, high=0.0, channels_last=True)


class Centred(nn.Module):
    """It writes through `flatten` into its images or a hidden map: into a copy where the layout is another."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.conv.weight.data = torch.eye(3)[:, :, None, None]
        self.rows, self.hidden = Dense(NCHW), hidden

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x) if self.hidden else x.clone()
        flat = h.flatten(1)
        flat -= 0.3
        flat.clamp_(min=0)
        logits: Tensor = self.rows(h)
        return logits


@pytest.mark.parametrize("hidden", [False, True])
def test_a_network_that_answers_otherwise_in_the_fast_layout_gets_the_usual_one(hidden: bool) -> None:
    x, _ = images_and_labels(3)
    expected = Centred(hidden).eval()(x)
    found = examine(Centred(hidden).eval(), 3)
    assert failed(found) == []
    assert found.fixes == (f"input layout: (N, C, H, W) in any memory layout; {ONLY_CONTIGUOUS}",)
    with found.target.attacked(), torch.no_grad():
        torch.testing.assert_close(found.target.logits(x), expected)
        torch.testing.assert_close(found.target.logits(x.contiguous(memory_format=torch.channels_last)), expected)


def test_a_sound_network_keeps_the_fast_layout() -> None:
    network = Rows(3).eval()
    assert examine(network, 3).fixes == ()
    assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)


# --- what the answers are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "softmax",
    [
        lambda z: functional.softmax(z, dim=1),
        lambda z: torch.softmax(z, 1),
        lambda z: z.softmax(-1),
        nn.Softmax(dim=1),
    ],
)
def test_a_last_softmax_is_taken_off_exactly(softmax: Callable[[Tensor], Tensor]) -> None:
    found = examine(Changed(after=softmax))
    assert failed(found) == []
    assert "its input" in found.fixes[-1]
    x, _ = images_and_labels()
    torch.testing.assert_close(found.target.logits(x), Rows()(x))


def test_logits_from_a_last_softmax_keep_the_gradient_that_log_p_has_lost() -> None:
    """p is 0 or 1 in float32: cross-entropy is flat whatever is done, the margin only where log p stands for logits."""
    exact = examine(Changed(after=lambda z: torch.softmax(200 * z, 1)))
    assert failed(exact) == ["input-gradient"]
    assert evidence(exact, "input-gradient").startswith("cross-entropy: 64 of 64 all zero; margin: 0 of 64")
    hidden = examine(Changed(after=lambda z: torch.softmax(200 * z, 1) * 1.0))
    assert failed(hidden) == ["logits", "input-gradient"]
    assert "margin: 64 of 64" in evidence(hidden, "input-gradient")


def test_hidden_probabilities_become_logarithms_and_are_doubted_where_they_round() -> None:
    found = examine(Changed(after=lambda z: torch.softmax(z, 1) * 1.0))
    assert failed(found) == []
    assert "on 0 of 64 images" in evidence(found, "logits")
    x, _ = images_and_labels()
    torch.testing.assert_close(found.target.logits(x).log_softmax(1), Rows()(x).log_softmax(1))
    rounded = examine(Changed(after=lambda z: torch.softmax(20 * z, 1).half().float() * 1.0))
    assert "logits" in failed(rounded)


def corrected(z: Tensor) -> Tensor:
    """Probabilities times a prior, in place: the very tensor that the softmax gave, with other values."""
    p = z.softmax(dim=1)
    p *= torch.tensor([1.0, 1.0, 1.0, 1.0, 1e5])
    p /= p.sum(dim=1, keepdim=True)
    return p


def through_data(z: Tensor) -> Tensor:
    p = z.softmax(dim=1)
    p.data *= torch.tensor([1.0, 1.0, 1.0, 1.0, 1e5])
    p.data /= p.data.sum(dim=1, keepdim=True)
    return p


@pytest.mark.parametrize("after", [corrected, through_data])
def test_probabilities_that_were_written_to_are_not_taken_for_those_of_a_softmax(
    after: Callable[[Tensor], Tensor],
) -> None:
    network = Changed(after=after).eval()
    x, _ = images_and_labels()
    assert not recovers_exact_logits(network, x)
    with torch.no_grad():
        given = logits_from_probabilities(network, exact=False)(x)
        torch.testing.assert_close(given.softmax(dim=1), network(x))
        assert bool((given.argmax(dim=1) != Rows()(x).argmax(dim=1)).any())
        written = logits_from_probabilities(Changed(after=corrected), exact=True)(x)
    torch.testing.assert_close(written.softmax(dim=1), Changed(after=corrected)(x).detach())


def test_log_probabilities_are_logits() -> None:
    found = examine(Changed(after=lambda z: functional.log_softmax(z, dim=1)))
    assert failed(found) == []
    assert "log-probabilities" in evidence(found, "logits")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Changed(after=lambda z: z.detach()), "no gradient reaches"),
        (Changed(before=torch.round), "64 of 64 all zero"),
        (Changed(after=lambda z: 1e4 * z), "cross-entropy: 64 of 64 all zero"),
        (Changed(before=lambda x: x + (x * 0).sqrt()), "NaN"),
    ],
)
def test_gradients_that_blind_an_attack_are_found(network: nn.Module, told: str) -> None:
    found = examine(network)
    assert "input-gradient" in failed(found)
    assert told in evidence(found, "input-gradient")


def test_randomness_is_found() -> None:
    found = examine(Changed(before=functional.dropout).eval())
    assert "deterministic" in failed(found)
    assert not found.target.deterministic
    assert next(c for c in found.checks if c.id == "batch-independent").outcome is CheckOutcome.NOT_RUN


def masked(z: Tensor) -> Tensor:
    """One more class, that is never used and has a score beside which all the others are nothing."""
    return torch.cat((z, torch.full((len(z), 1), -1e9)), dim=1)


@pytest.mark.parametrize(
    ("after", "check"),
    [
        (lambda z: masked(functional.dropout(z, 0.1)), "deterministic"),
        (lambda z: masked((z - z.mean(dim=0)) / z.std(dim=0)), "batch-independent"),
    ],
)
def test_a_masked_class_hides_neither_randomness_nor_batch_statistics(
    after: Callable[[Tensor], Tensor], check: str
) -> None:
    assert failed(examine(Changed(after=masked).eval())) == []
    assert check in failed(examine(Changed(after=after).eval()))


def rarely(draw: Callable[[], float]) -> Callable[[Tensor], Tensor]:
    return lambda x: x if draw() > 1e-9 else 1 - x


@pytest.mark.parametrize("draw", [lambda: float(torch.rand(())), np.random.rand, random.random])
def test_what_is_random_once_in_many_calls_is_random(draw: Callable[[], float]) -> None:
    found = examine(Changed(before=rarely(draw)).eval())
    assert failed(found) == ["deterministic"]
    assert evidence(found, "deterministic").endswith(" numpy or Python")
    assert not found.target.deterministic


def test_the_same_generator_gives_the_same_findings() -> None:
    first, second = (examine(Changed(before=functional.dropout).eval()) for _ in range(2))
    assert first.checks == second.checks


def test_batch_statistics_are_found() -> None:
    network = Changed(after=nn.BatchNorm1d(CLASSES, track_running_stats=False))
    assert failed(examine(network)) == ["batch-independent"]


class OneByOne(Rows):
    """A choice for the whole batch: all leave at the exit if all are sure."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)
        sure = logits.softmax(dim=1).amax(dim=1) > 0.9
        return 2 * logits.flip(1) if bool(sure.all()) else logits


def test_a_choice_for_the_whole_batch_shows_on_single_images() -> None:
    x, y = images_and_labels()
    x = torch.cat((x, x * 0.3))
    y = y.repeat(2)
    found = preflight(target_of(OneByOne().eval()), x, y, generator=torch.Generator())
    assert failed(found) == ["batch-independent"]
    assert failed(preflight(target_of(Rows().eval()), x, y, generator=torch.Generator())) == []


class ByPlace(Rows):
    """Noise of a fixed seed: the same for every call, another for every place in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(len(x), CLASSES, generator=torch.Generator().manual_seed(0))
        logits: Tensor = super().forward(x) + noise
        return logits


def test_an_answer_that_depends_on_the_place_in_the_batch_is_found() -> None:
    assert failed(examine(ByPlace())) == ["batch-independent"]


class Stubborn(Rows):
    def train(self, mode: bool = True) -> "Stubborn":
        self.training = True
        return self


def test_a_network_that_ignores_eval_is_found() -> None:
    found = examine(Stubborn())
    assert failed(found) == ["eval-mode"]
    assert "Stubborn" in evidence(found, "eval-mode")


# --- preprocessing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "flag"),
    [
        (lambda x: (x > 140).float(), "--range 0,255"),
        (lambda x: 1 - x, "--range 1,0"),
        (lambda x: (x > 1.05).float(), "--mean 0.1307 --std 0.3081"),
    ],
)
def test_another_preprocessing_is_suggested(before: Callable[[Tensor], Tensor], flag: str) -> None:
    found = examine(Changed(before=before))
    assert "input-range" in failed(found)
    assert flag in evidence(found, "input-range")


def test_a_preprocessing_that_costs_some_of_the_images_is_seen_on_all_of_them() -> None:
    """Fed as they are, 7 of 8 images are right, the others with `--range 0,255` only: 64 images do not tell it."""
    x, y = images_and_labels()
    x, y = x.repeat(12, 1, 1, 1), y.repeat(12)
    dark = torch.arange(len(y)) % 8 == 0
    images = torch.where(dark[:, None, None, None], 0.05 * x, x)

    class Bright(Rows):
        def forward(self, pixels: Tensor) -> Tensor:
            bright = pixels.amax(dim=(1, 2, 3)) > 0.5
            return torch.where(bright[:, None], super().forward(pixels), -super().forward(pixels))

    found = preflight(target_of(Bright().eval()), images, y, generator=torch.Generator())
    assert failed(found) == ["input-range"]
    assert "100 % with --range 0,255 (840 and 960 of 960" in evidence(found, "input-range")
    few = preflight(target_of(Bright().eval()), images[:64], y[:64], generator=torch.Generator())
    assert failed(few) == []


@pytest.mark.parametrize("last", [False, True])
def test_channels_in_reverse_order_are_told(last: bool) -> None:
    x, y = images_and_labels(3)
    x[:, 1:] = 0.5

    def red_last(pixels: Tensor) -> Tensor:
        pixels = pixels.permute(0, 3, 1, 2) if last else pixels
        return pixels[:, 2:].expand(-1, 3, -1, -1)

    settings: dict[str, Any] = {"transform": InputTransform(channels_last=last)}
    network = Changed(before=red_last, channels=3).eval()
    found = preflight(target_of(network, 3, **settings), x, y, generator=torch.Generator())
    assert "input-range" in failed(found)
    assert "100 %" in evidence(found, "input-range")
    assert "BGR" in evidence(found, "input-range")
    right = preflight(target_of(network, 3, **settings), x.flip(1), y, generator=torch.Generator())
    assert failed(right) == []


@pytest.mark.parametrize(("always", "failing"), [(True, ["clean-accuracy"]), (False, [])])
def test_to_answer_the_commonest_class_is_no_skill(always: bool, failing: list[str]) -> None:
    x, y = images_and_labels()
    common = torch.cat((torch.zeros(64, dtype=torch.int64), y[:16]))
    x = x[[int((y == label).nonzero()[0]) for label in common]]
    network = Changed(after=lambda z: z * 1e-3 + torch.eye(CLASSES)[0]) if always else Rows()
    found = preflight(target_of(network.eval()), x, common, generator=torch.Generator())
    assert failed(found) == failing


def test_the_right_preprocessing_is_accepted() -> None:
    found = examine(Changed(before=lambda x: 1 - x), transform=InputTransform(low=1.0, high=0.0))
    assert failed(found) == []


def test_labels_in_another_order_are_found_but_no_flag_is_suggested() -> None:
    found = examine(Changed(after=lambda z: z.roll(1, dims=1)))
    assert failed(found) == ["label-order", "clean-accuracy"]
    assert "0 of 80" in evidence(found, "clean-accuracy")


def test_few_samples_decide_nothing_about_accuracy() -> None:
    x, y = images_and_labels()
    found = preflight(target_of(Rows()), x[:4], y[:4], generator=torch.Generator())
    outcomes = {check.id: check.outcome for check in found.checks}
    assert outcomes["input-range"] is outcomes["clean-accuracy"] is CheckOutcome.NOT_RUN
    assert outcomes["logits"] is CheckOutcome.PASS
