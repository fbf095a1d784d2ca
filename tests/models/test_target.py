import traceback
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.errors import TargetError
from secure_ai.models.target.target import NetworkTarget, Target, as_target
from secure_ai.models.target.transform import InputTransform
from secure_ai.red.evasion.contract import Attack, AttackPlan
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.shard import SuiteTask, cut_shard, run_shard

CLASSES = 4


def linear() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(18, CLASSES))
    for parameter in network.parameters():
        parameter.data = torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape)
    return network


def target_of(network: nn.Module, batch_size: int = 8, **settings: object) -> NetworkTarget:
    return NetworkTarget(
        network,
        name="subject",
        digest="0" * 64,
        input_shape=(2, 3, 3),
        num_classes=CLASSES,
        batch_size=batch_size,
        **settings,  # type: ignore[arg-type]  # each test gives what the constructor takes
    )


@pytest.fixture
def x() -> Tensor:
    return torch.rand(20, 2, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_size", [1, 8, 20, 64])
def test_forward_and_backward_passes_are_counted_by_sample(x: Tensor, batch_size: int) -> None:
    target = target_of(linear(), batch_size)
    target.logits(x)
    assert (target.passes.forward, target.passes.backward) == (20, 0)
    pixels = x.clone().requires_grad_()
    with target.attacked():
        torch.autograd.grad(target.logits(pixels).sum(), pixels)
    assert (target.passes.forward, target.passes.backward) == (40, 20)
    target.predict(x[:3])
    target.logits(x[:0])
    assert (target.passes.forward, target.passes.backward) == (43, 20)


def test_every_gradient_of_one_forward_pass_counts(x: Tensor) -> None:
    target = target_of(linear())
    pixels = x.clone().requires_grad_()
    with target.attacked():
        logits = target.logits(pixels)
        for label in range(CLASSES):
            torch.autograd.grad(logits[:, label].sum(), pixels, retain_graph=True)
    assert (target.passes.forward, target.passes.backward) == (20, 20 * CLASSES)


def test_batches_do_not_change_the_answer(x: Tensor) -> None:
    answers = [target_of(linear(), batch_size).logits(x) for batch_size in (1, 7, 20)]
    for answer in answers:
        torch.testing.assert_close(answer, linear()(x))


def test_attacked_leaves_modes_and_parameters_as_they_were() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(18, CLASSES), nn.Dropout(), nn.BatchNorm1d(CLASSES))
    network[1].bias.requires_grad_(False)
    network[3].eval()
    before = [module.training for module in network.modules()]
    target = target_of(network)
    with target.attacked():
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [module.training for module in network.modules()] == before
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True]
    with pytest.raises(KeyError), target.attacked():
        raise KeyError
    assert [module.training for module in network.modules()] == before


class Forgetful(nn.Module):
    """A network that changes a weight or a buffer when it is called."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.inner = linear()
        self.register_buffer("calls", torch.zeros(()))
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            if self.what == "weight":
                self.inner[1].weight.add_(1e-3)  # type: ignore[index]  # a Sequential
            if self.what == "buffer":
                self.get_buffer("calls").add_(1)
        result: Tensor = self.inner(x)
        return result


@pytest.mark.parametrize(("what", "named"), [("weight", "inner.1.weight"), ("buffer", "calls"), ("nothing", "")])
def test_a_network_that_changes_itself_is_caught(x: Tensor, what: str, named: str) -> None:
    target = target_of(Forgetful(what))
    if not named:
        with target.attacked():
            target.logits(x)
        return
    with pytest.raises(TargetError, match=named), target.attacked():
        target.logits(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_from_nan_is_refused(x: Tensor, value: float) -> None:
    network = linear()
    assert target_of(network).predict(x).shape == (20,)
    network[1].bias.data[2] = value  # type: ignore[index]  # a Sequential
    with pytest.raises(TargetError) as refused:
        target_of(network).predict(x)
    assert refused.value.expected == "finite logits"


class Answering(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        return self.answer


@pytest.mark.parametrize(
    "answer", [torch.zeros(2, 5), torch.zeros(2), torch.zeros(2, 4, 1), torch.zeros(2, 4).long(), (1, 2), None]
)
def test_anything_but_one_score_a_class_is_refused(answer: object) -> None:
    images = torch.zeros(2, 2, 3, 3)
    assert target_of(Answering(torch.zeros(2, 4))).logits(images).shape == (2, 4)
    with pytest.raises(TargetError) as refused:
        target_of(Answering(answer)).logits(images)
    assert refused.value.expected.startswith("float tensor")


def test_input_transform(x: Tensor) -> None:
    transform = InputTransform(low=-1, high=3, mean=(0.5, 1.0), std=(2.0, 4.0))
    expected = (4 * x - 1 - torch.tensor([0.5, 1.0]).view(1, 2, 1, 1)) / torch.tensor([2.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(transform(x), expected)
    assert torch.equal(InputTransform()(x), x)
    assert torch.equal(InputTransform(channels_last=True)(x), x.permute(0, 2, 3, 1))
    torch.testing.assert_close(target_of(linear(), transform=transform).logits(x), linear()(expected))


def test_gradients_are_those_of_pixels_in_0_to_1(x: Tensor) -> None:
    """The chain rule goes through the transform: a range of 255 makes the gradient 255 times as large."""
    pixels = x.clone().requires_grad_()
    plain, wide = target_of(linear()), target_of(linear(), transform=InputTransform(high=255.0))
    (small,) = torch.autograd.grad(plain.logits(pixels)[:, 0].sum(), pixels)
    (large,) = torch.autograd.grad(wide.logits(pixels)[:, 0].sum(), pixels)
    torch.testing.assert_close(large, 255 * small)


class WithFeatures(nn.Module):
    def features(self, x: Tensor) -> Tensor:
        return x.amax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).flatten(1)[:, :CLASSES]


def test_features(x: Tensor) -> None:
    target = target_of(WithFeatures())
    assert torch.equal(target.features(x), x.amax(dim=1).flatten(1))
    assert target.passes.forward == 20
    with pytest.raises(TargetError, match="no features"):
        target_of(linear()).features(x)


def test_an_attack_computes_in_float32_whatever_surrounds_it(x: Tensor) -> None:
    target = target_of(linear())
    exact = target.logits(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(target.logits(x), exact)  # a network in training is called in the training's precision
        with target.attacked():
            assert torch.equal(target.logits(x), exact)


def test_features_that_raise_when_looked_up_are_an_error_of_the_target() -> None:
    class Raising(nn.Module):
        @property
        def features(self) -> None:
            raise RuntimeError("not yet")

    target = NetworkTarget(Raising(), name="raising", digest="", input_shape=(1, 4, 4), num_classes=2)
    with pytest.raises(TargetError, match="features"):
        target.features_method()


class Raising(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [GeneratorExit, SystemExit, RuntimeError, BaseException])
def test_whatever_a_network_raises_is_the_cause_of_an_error_of_the_target(error: type[BaseException]) -> None:
    raised = error("enough")
    with pytest.raises(TargetError, match="enough") as caught:
        target_of(Raising(raised)).logits(torch.zeros(1, 2, 3, 3))
    assert caught.value.__cause__ is raised
    where = traceback.extract_tb(raised.__traceback__)[-1]  # the line of the user's own
    assert (where.filename, where.name, where.line) == (__file__, "forward", "raise self.error")


class Bare(nn.Module):
    """No weights: a function of the pixels that records its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return x.flatten(1)[:, :CLASSES]


def test_a_plain_module_or_function_is_wrapped_once(x: Tensor) -> None:
    bare = Bare()
    target = as_target(bare, x)
    assert (target.input_shape, target.num_classes, target.access) == ((2, 3, 3), CLASSES, "gradients")
    assert torch.equal(target.logits(x), x.flatten(1)[:, :CLASSES])
    assert bare.modes[0] is False
    assert bare.training
    function = as_target(lambda images: images.reshape(len(images), -1)[:, :CLASSES], x)
    assert torch.equal(function.logits(x), target.logits(x))
    assert function.logits(x.clone().requires_grad_()).requires_grad
    assert as_target(bare, x, num_classes=3).num_classes == 3
    for answer in (torch.zeros(1), None):
        with pytest.raises(TargetError):
            as_target(Answering(answer), x)


def test_every_tensor_is_made_on_the_targets_device(x: Tensor) -> None:
    """Without a second device: no tensor may be made by a call that does not name one."""
    target = target_of(linear(), transform=InputTransform(high=2.0, mean=(0.5,), std=(2.0,)))
    y = target.predict(x)

    def brighter(target: Target, x: Tensor, y: Tensor, **others: object) -> Tensor:
        target.logits(x, rows=torch.arange(len(x), device=x.device))
        return (x + 0.1).clamp(0, 1)

    entry = replace(next(entry for entry in ATTACKS if entry.name == "fgsm"), attack=cast(Attack, brighter))
    suite = SuiteTask(
        budget=PerturbationBudget("linf", 0.2), attacks=(AttackPlan("bright", entry, {}),), seed=0, target_label=1
    )
    with target.attacked(), NamedDevices() as seen:
        run_shard(target, cut_shard(suite, x, y, 0, device=target.device))
    assert seen.made > 5
    with pytest.raises(AssertionError), NamedDevices():
        torch.zeros(3)


MAKERS = frozenset(
    getattr(torch, name)
    for name in ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor",
                 "zeros")
)  # fmt: skip


class NamedDevices(TorchFunctionMode):
    """Inside, calls that make a tensor from nothing name its device, or draw on the CPU by a generator."""

    made = 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in MAKERS:
            self.made += 1
            assert {"device", "generator"} & set(kwargs or {}), function
        return function(*args, **(kwargs or {}))
