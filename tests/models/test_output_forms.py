"""Networks as people write them: each is attacked as the plain network that it is, or refused before any work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.errors import ArchError, TargetError, UsageError
from secure_ai.models.load.store import make_target, model_of_factory, model_of_object
from secure_ai.models.preflight.preflight import preflight
from secure_ai.models.target.access import Access
from secure_ai.models.target.target import NetworkTarget


def plain(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))


@dataclass
class Output:
    logits: Tensor
    loss: None = None


class Around(nn.Module):
    """The plain network, its answer in another form."""

    def __init__(self, after: Callable[[Tensor], Any], classes: int = 3) -> None:
        super().__init__()
        self.inner, self.after = plain(classes), after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.inner(x))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.clamp_(0, 1))
        return answer


def images(classes: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = plain(classes)(x).argmax(dim=1) if classes > 1 else (plain(1)(x)[:, 0] > 0).long()
    return x, y


def target_of(network: nn.Module, classes: int = 3, batch_size: int = 256) -> tuple[NetworkTarget, tuple[str, ...]]:
    target = NetworkTarget(
        network.eval(), name="mine", digest="", input_shape=(1, 4, 4), num_classes=classes, batch_size=batch_size
    )
    found = preflight(target, *images(classes if classes > 2 else 1), generator=torch.Generator().manual_seed(0))
    return found.target, found.fixes


FORMS: dict[str, Callable[[], nn.Module]] = {
    "tuple": lambda: Around(lambda z: (z, z.sum())),
    "list": lambda: Around(lambda z: [z]),
    "dict": lambda: Around(lambda z: {"loss": None, "logits": z}),
    "dict-with-one-tensor": lambda: Around(lambda z: {"prediction": z, "epoch": 3}),
    "object": lambda: Around(Output),
    "squeezed": lambda: Around(torch.squeeze),
    "in-place": InPlace,
    "double": lambda: plain().double(),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_attacked_as_the_plain_network_and_said(form: str) -> None:
    target, fixes = target_of(FORMS[form]())
    assert fixes
    x = images()[0][:1].requires_grad_()
    with target.attacked():
        logits = target.logits(x)
    expected = plain()(x)
    assert (logits.shape, logits.dtype) == (expected.shape, torch.float32)
    torch.testing.assert_close(logits, expected)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])


def test_a_plain_network_is_left_as_it_is() -> None:
    network = plain().eval()
    target, fixes = target_of(network)
    assert (target.network, fixes) == (network, ())


def test_a_half_precision_network_is_called_with_its_own_type() -> None:
    target, fixes = target_of(plain().half())
    assert any("float16" in fix for fix in fixes)
    torch.testing.assert_close(target.logits(images()[0]), plain()(images()[0]), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("flat", [False, True], ids=["(N, 1)", "(N,)"])
@pytest.mark.parametrize("probability", [False, True])
def test_one_number_an_image_is_two_classes(probability: bool, flat: bool) -> None:
    last = torch.sigmoid if probability else torch.clone
    target, fixes = target_of(Around(lambda z: last(z[:, 0] if flat else z), classes=1), classes=2)
    x = images(1)[0]
    with torch.no_grad():
        logits, score = target.logits(x), plain(1)(x)[:, 0]
    assert any("one number" in fix for fix in fixes)
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], score.sigmoid(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "after",
    [lambda z: {"a": z, "b": z}, lambda z: None, lambda z: (), lambda z: z[:, 0], lambda z: z.argmax(dim=1)],
    ids=["two-tensors", "none", "empty", "one-of-three", "labels"],
)
def test_what_leaves_a_choice_is_refused(after: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TargetError):
        target_of(Around(after))


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 8:
            raise ValueError("at most 8 images")
        answer: Tensor = self.inner(x)
        return answer


def test_preflight_asks_in_batches_of_the_size_that_was_named() -> None:
    target, _ = target_of(FixedBatch(), batch_size=8)
    assert target.logits(images()[0]).shape == (40, 3)
    with pytest.raises(TargetError):
        target_of(FixedBatch())


class ExactBatch(nn.Module):
    """Written for batches of 8, the answer depends on each image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.reshape(8, 1, 4, 4))
        return answer


def test_a_network_for_one_size_of_batch_gets_black_images_behind_fewer() -> None:
    target, fixes = target_of(ExactBatch(), batch_size=8)
    assert any("exactly 8" in fix for fix in fixes)
    x = images()[0][:11]
    torch.testing.assert_close(target.logits(x), plain()(x))
    with pytest.raises(TargetError) as caught:
        target_of(ExactBatch())
    assert "--batch-size" in caught.value.hint
    assert not any("exactly" in fix for fix in target_of(plain(), batch_size=8)[1])


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_old_reparametrisations_need_no_copy(tmp_path: Path, norm: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\n"
        "def build():\n"
        "    layer = torch.nn.Linear(16, 3)\n"
        f"    torch.nn.utils.{norm}(layer)\n"
        "    net = torch.nn.Sequential(torch.nn.Flatten(), layer)\n"
        "    net(torch.ones(1, 1, 4, 4))  # the weight is no leaf from here on\n"
        "    return net\n"
    )
    loaded = model_of_factory(f"{path}:build", None)
    assert loaded.digest
    assert target_of(loaded.network)[0].logits(images()[0]).shape == (40, 3)


@pytest.mark.filterwarnings("ignore")  # torch is about to move quantisation elsewhere
def test_a_quantised_module_is_refused_with_the_line_that_works() -> None:
    """Its layers pass no gradient on; by scores it is a target like any other, and its weights have a digest."""
    quantised = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UsageError) as caught:
        model_of_object(quantised, None, name="mine", arch="")
    access: Access = "scores"
    assert caught.value.hint.startswith(f"--access {access}")
    loaded = model_of_object(quantised, access, name="mine", arch="")
    other = torch.ao.quantization.quantize_dynamic(plain(4), {nn.Linear}, dtype=torch.qint8)
    assert loaded.digest != model_of_object(other, access, name="mine", arch="").digest
    x, y = images()
    target = make_target(loaded, input_shape=(1, 4, 4), num_classes=3, access=access)
    found = preflight(target, x, y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.target.logits(x), plain()(x), atol=0.1, rtol=0.1)
    assert model_of_object(plain(), None, name="mine", arch="").digest


class NoCopy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lock = plain(), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x)
        return answer


def test_a_module_that_cannot_be_copied_is_refused_with_the_line_that_works(tmp_path: Path) -> None:
    with pytest.raises(ArchError) as caught:
        model_of_object(NoCopy(), None, name="mine", arch="")
    assert "--arch FILE.py:FACTORY" in caught.value.hint
    assert model_of_object(NoCopy(), None, name="mine", arch="", own=True).digest
