"""`.keras` models: rebuilt as native torch networks from what `files.keras` read, and written by Keras in a child."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from secure_ai.core.errors import ArchError, ChildFailedError, KerasFormatError
from secure_ai.files.keras import KerasLayer, KerasModel
from secure_ai.files.keras_layers import IDENTITIES
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.safetensors import read_safetensors, safetensors_bytes
from secure_ai.files.sandbox import run_child
from secure_ai.models.load.keras_modules import HwcFlatten, TwoScores, activation_of, modules_of
from secure_ai.models.load.state import fit_state
from secure_ai.models.networks.built_in import network_entry
from secure_ai.models.networks.keras_stacks import STACKS, Array, built_in_of, weights_from_keras, weights_to_keras
from secure_ai.models.tensors import array_to_tensor

CHILD = "secure_ai.models.load.keras_child"
CHILD_SECONDS = 120.0  # importing Keras alone took 3 to 9 s
CHILD_MEMORY_BYTES = 16 * 1024 * MIB  # address space, not memory: a CUDA build of torch maps several GiB
MAX_KERAS_FILE_BYTES = 64 * MIB

UNSEEN = frozenset({*IDENTITIES, "Dropout"})  # what passes these stays as it is
_WITH_KERNEL = frozenset({"Dense", "Conv2D"})


class KerasNetwork(nn.Module):
    """A Keras Sequential model on (N, C, H, W), without its last softmax or sigmoid.

    Args:
        body: everything before the last layer with a kernel; its output is `features`.
        head: that layer and what follows.
        num_classes: scores that come out.
    """

    def __init__(self, body: Iterable[nn.Module], head: Iterable[nn.Module], num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.head = nn.Sequential(*head)
        self.num_classes = num_classes

    def features(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> the input of the last layer with a kernel."""
        activations: Tensor = self.body(x)
        return activations

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> logits (N, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def network_from_keras(model: KerasModel) -> nn.Module:
    """A native network with the model's weights, in evaluation mode; a last softmax or sigmoid is left out.

    Both grow with the scores, so that every image keeps its class. One number an image is the score of class 1.

    A model with exactly the layers of a built-in network becomes that network, so that its state and digest are those
    of every other format.

    Raises:
        KerasFormatError: layers that do not fit each other, or an output that is not one score a class.
    """
    name = built_in_of(model)
    if name is None:
        return sequential_from_keras(model).eval()
    network = network_entry(name).network()
    weights = [array for layer in model.layers for array in layer.weights]
    state = {key: array_to_tensor(array) for key, array in weights_from_keras(name, weights).items()}
    fit_state(network, state, where=".keras")
    return network.eval()


def sequential_from_keras(model: KerasModel) -> KerasNetwork:
    """The model layer by layer, whatever its layers are. Raises as `network_from_keras` does."""
    body: list[nn.Module] = [HwcFlatten()] if len(model.input_shape) == 1 else []
    head: list[nn.Module] = []
    shape: tuple[int, ...] = model.input_shape
    for layer, activation in zip(model.layers, _activations(model.layers), strict=True):
        if layer.kind in _WITH_KERNEL:
            body, head = body + head, []
        head += modules_of(layer, shape, activation)
        shape = layer.output_shape
    if len(shape) != 1 or (shape == (1,) and "softmax" in map(activation_of, model.layers[-1:])):
        raise KerasFormatError("the output is not one score a class", where=".keras", expected="(K,)", got=shape)
    if shape == (1,):
        return KerasNetwork(body, [*head, TwoScores()], 2)
    return KerasNetwork(body, head, shape[0])


def _activations(layers: tuple[KerasLayer, ...]) -> list[str]:
    """What each layer ends with; a softmax or sigmoid that ends the network is dropped."""
    names = [activation_of(layer) for layer in layers]
    last = max((place for place, layer in enumerate(layers) if layer.kind not in UNSEEN), default=0)
    if names[last] in ("softmax", "sigmoid"):
        names[last] = "linear"
    return names


def keras_files(models: Mapping[str, tuple[str, Mapping[str, Tensor]]]) -> dict[str, bytes]:
    """`.keras` files of built-in networks, written by Keras on its torch backend in one child process.

    Args:
        models: any name -> (name of a built-in network, its state).

    Returns:
        The same names -> the file's bytes. They hold the time of writing: equal weights do not give equal bytes.

    Raises:
        ArchError: an architecture that Keras layers are not known for.
        ChildFailedError: the child died, took too long or answered something else.
    """
    arrays: dict[str, Array] = {}
    for index, (arch, state) in enumerate(models.values()):
        if arch not in STACKS:
            raise ArchError("not an architecture that is written as .keras", expected=" or ".join(STACKS), got=arch)
        weights = weights_to_keras(arch, {name: tensor.detach().cpu().numpy() for name, tensor in state.items()})
        arrays |= {f"{index}.{position}": array for position, array in enumerate(weights)}
    request = safetensors_bytes(arrays, {"archs": json.dumps([arch for arch, _ in models.values()])})
    answer = run_child(
        CHILD,
        request,
        timeout_s=CHILD_SECONDS,
        max_answer_bytes=MAX_KERAS_FILE_BYTES * len(models),
        max_memory_bytes=CHILD_MEMORY_BYTES,
        max_file_bytes=MAX_KERAS_FILE_BYTES,
    )
    files = read_safetensors(FileBytes("answer of the Keras child", answer.content)).tensors
    if files.keys() != {str(index) for index in range(len(models))}:
        raise ChildFailedError("the Keras child answered other files", expected=len(models), got=sorted(files))
    return {name: files[str(index)].tobytes() for index, name in enumerate(models)}
