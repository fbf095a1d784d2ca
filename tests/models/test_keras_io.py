import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secure_ai.core.errors import ArchError, KerasFormatError
from secure_ai.files.keras import KerasLayer, KerasModel, read_keras
from secure_ai.files.open import read_file
from secure_ai.models.load.artifact import BUILT_IN
from secure_ai.models.load.keras_io import keras_files, network_from_keras, sequential_from_keras
from secure_ai.models.load.keras_modules import activation_of
from secure_ai.models.load.store import load_model, make_target
from secure_ai.models.networks.built_in import NETWORKS, Report1Cnn, build_network
from secure_ai.models.networks.keras_stacks import STACKS, built_in_of, weights_from_keras, weights_to_keras
from secure_ai.models.target.transform import InputTransform
from secure_ai.models.tensors import state_digest

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Oracle:
    """What Keras answered, and the files that it answered for."""

    folder: Path
    answers: Mapping[str, Array]
    networks: Mapping[str, nn.Module]
    home: Path

    def model(self, name: str) -> KerasModel:
        return read_keras(read_file(self.folder / f"{name}.keras", max_bytes=2**24))

    def images(self, name: str) -> Tensor:
        x = torch.from_numpy(self.answers[f"{name}.x"])
        if x.dim() == 2:
            x = x.view(-1, 6, 4, 2)  # the flat input of Keras is an image, row by row
        return x.permute(0, 3, 1, 2) if x.dim() == 4 else x[:, None]

    def scores(self, name: str) -> Tensor:
        return torch.from_numpy(self.answers[f"{name}.y"])


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = tmp_path_factory.mktemp("keras")
    networks = {name: build_network(name, generator=torch.Generator().manual_seed(3)) for name in NETWORKS}
    for network in networks.values():
        for name, parameter in network.named_parameters():
            parameter.data += 0.02 * name.endswith("bias")  # report 1's start at 0, which would hide a lost bias
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("KERAS_HOME", raising=False)
        files = keras_files({name: (name, network.state_dict()) for name, network in networks.items()})
    for name, content in files.items():
        (folder / f"{name}.keras").write_bytes(content)
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path_factory.mktemp("keras-home"))}
    script = Path(__file__).parent / "keras_oracle.py"
    subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True, timeout=240)
    with np.load(folder / "answers.npz") as answers:
        return Oracle(folder, dict(answers), networks, home)


def assert_same_up_to_a_constant(logits: Tensor, probabilities: Tensor) -> None:
    assert float(logits.std()) > 0.1, "nothing to compare"
    torch.testing.assert_close(logits.log_softmax(1), probabilities.log(), atol=1e-4, rtol=0)


def test_keras_reads_what_is_written_for_it(oracle: Oracle) -> None:
    """Our network and Keras on the file that was written for it agree; report 1's file ends in a softmax."""
    with torch.no_grad():
        ours = {name: network(oracle.images(name)) for name, network in oracle.networks.items()}
    assert_same_up_to_a_constant(ours["report1-cnn"], oracle.scores("report1-cnn"))
    torch.testing.assert_close(ours["report2-cnn"], oracle.scores("report2-cnn"), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_written_file_comes_back_bit_for_bit(oracle: Oracle, name: str) -> None:
    network = network_from_keras(oracle.model(name))
    assert type(network) is type(oracle.networks[name])
    assert state_digest(network.state_dict()) == state_digest(oracle.networks[name].state_dict())


ANSWER: dict[str, Callable[[Tensor], Tensor]] = {
    "own-flat": lambda logits: logits.softmax(1),
    "own-pooled": lambda logits: logits.softmax(1),
    "own-report1": lambda logits: logits.softmax(1),
    "own-prepared": lambda logits: logits,
    "own-activations": torch.sigmoid,
    "own-flat-input": lambda logits: logits.softmax(1),
    "own-no-channel": lambda logits: logits,
    "own-binary": lambda logits: logits.softmax(1)[:, 1:],
}
"""What Keras makes of the scores that our network answers, by model of the oracle."""


@pytest.mark.parametrize("name", ANSWER)
def test_we_read_what_keras_writes(oracle: Oracle, name: str) -> None:
    network = sequential_from_keras(oracle.model(name))
    network.eval()
    with torch.no_grad():
        logits = network(oracle.images(name))
        fast = network(oracle.images(name).contiguous(memory_format=torch.channels_last))
    assert float(oracle.scores(name).std(dim=0).max()) > 0.002, "nothing to compare"
    torch.testing.assert_close(ANSWER[name](logits), oracle.scores(name), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast, logits)
    assert network.num_classes == logits.shape[1]
    torch.testing.assert_close(network.head(network.features(oracle.images(name))), logits)


def test_the_oracle_models_hold_every_layer(oracle: Oracle) -> None:
    from secure_ai.files.keras_layers import ACTIVATIONS, LAYERS

    layers = [layer for name in ANSWER for layer in oracle.model(name).layers]
    assert {layer.kind for layer in layers} == set(LAYERS)
    assert {activation_of(layer) for layer in layers} == set(ACTIVATIONS)


def test_keras_s_own_report_1_becomes_the_built_in_network(oracle: Oracle) -> None:
    model = oracle.model("own-report1")
    assert built_in_of(model) == "report1-cnn"
    network = network_from_keras(model)
    assert isinstance(network, Report1Cnn)
    with torch.no_grad():
        assert_same_up_to_a_constant(network(oracle.images("own-report1")), oracle.scores("own-report1"))


def test_nothing_is_written_into_the_users_home(oracle: Oracle) -> None:
    assert (oracle.folder / "report1-cnn.keras").read_bytes().startswith(b"PK")
    assert list(oracle.home.iterdir()) == []


def test_a_keras_file_is_a_model_like_any_other(oracle: Oracle) -> None:
    loaded = load_model(oracle.folder / "report1-cnn.keras", classes=10, input_shape=(1, 28, 28))
    assert (loaded.arch, loaded.format, loaded.user_code) == ("report1-cnn", "keras", False)
    assert loaded.digest == state_digest(oracle.networks["report1-cnn"].state_dict())
    assert load_model(oracle.folder / "report1-cnn.keras", arch="report1-cnn").digest == loaded.digest
    other = load_model(oracle.folder / "own-flat.keras")
    assert (other.arch, other.input_shape, other.num_classes) == ("keras", (3, 21, 17), 6)
    with pytest.raises(ArchError) as refused:
        load_model(oracle.folder / "own-flat.keras", arch="report1-cnn")
    assert (refused.value.expected, refused.value.got) == ("none", "report1-cnn")


def test_another_architecture_is_not_written() -> None:
    with pytest.raises(ArchError, match="report1-cnn or report2-cnn"):
        keras_files({"a": ("net.py:build", {})})


def test_a_network_that_divides_by_255_gets_pixels_from_0_to_255(oracle: Oracle) -> None:
    """In [0, 1] as every other: times 255 is what Keras was given. A flag wins."""
    loaded = load_model(oracle.folder / "own-prepared.keras")
    target = make_target(loaded, input_shape=(3, 12, 11), num_classes=4)
    with torch.no_grad():
        logits = target.logits(oracle.images("own-prepared") / 255)
    torch.testing.assert_close(logits, oracle.scores("own-prepared"), atol=1e-3, rtol=1e-3)
    own = make_target(loaded, input_shape=(3, 12, 11), num_classes=4, mean=(0.0,), std=(1.0,))
    assert own.transform == InputTransform(mean=(0.0,), std=(1.0,))
    assert load_model(oracle.folder / "own-flat.keras").known.input is None


def test_one_sigmoid_is_two_classes_and_it_is_said(oracle: Oracle) -> None:
    loaded = load_model(oracle.folder / "own-binary.keras")
    assert (loaded.num_classes, len(loaded.notes)) == (2, 1)


def test_the_hint_of_a_refused_file_works(oracle: Oracle, tmp_path: Path) -> None:
    """A functional file is refused; the factory that the refusal names gives what Keras gives."""
    with pytest.raises(KerasFormatError) as caught:
        load_model(oracle.folder / "functional.keras")
    code = caught.value.hint.partition("net.py: ")[2].replace("FILE.keras", str(oracle.folder / "functional.keras"))
    (tmp_path / "net.py").write_text(code.replace("; ", "\n"))
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(40) % 3)
    words = ["attack", "--arch", f"{tmp_path / 'net.py'}:trained", "--data", str(tmp_path / "data.npz")]
    words += ["--norm", "linf", "--eps", "0.1", "--attack", "fgsm", "--json"]
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(oracle.home.parent / "keras-home")}
    command = [sys.executable, "-m", "secure_ai", *words]
    done = subprocess.run(command, env=environment, check=False, timeout=240, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    report = json.loads(done.stdout)
    checks = {check["id"]: check["outcome"] for check in report["preflight"]}
    assert (checks["output"], checks["logits"], checks["input-gradient"]) == ("pass",) * 3


# --- without Keras ----------------------------------------------------------------------------------------------------


def test_tables_name_the_same_networks() -> None:
    assert set(STACKS) == set(NETWORKS) == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_weights_there_and_back(name: str) -> None:
    state = build_network(name, generator=torch.Generator()).state_dict()
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    back = weights_from_keras(name, weights_to_keras(name, arrays))
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[key], arrays[key]) for key in arrays)


def test_the_first_dense_kernel_is_permuted() -> None:
    """Row (h, w, c) of Keras's kernel is column (c, h, w) of torch's."""
    state = build_network("report1-cnn", generator=torch.Generator()).state_dict()
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    kernel = weights_to_keras("report1-cnn", arrays)[4]
    assert kernel.shape == (1600, 128)
    h, w, c = 2, 4, 33
    assert np.array_equal(kernel[(h * 5 + w) * 64 + c], arrays["dense1.weight"][:, c * 25 + h * 5 + w])


def layer(kind: str, output_shape: tuple[int, ...], *weights: Array, **config: Any) -> KerasLayer:
    return KerasLayer(kind, kind.lower(), config, tuple(weights), output_shape)


def test_average_pooling_counts_real_pixels_only() -> None:
    """3x3 ones pooled 3x3 with "same": padded on every side, and still ones."""
    pool = layer("AveragePooling2D", (2, 2, 1), pool_size=(3, 3), strides=(2, 2), padding="same")
    model = KerasModel((3, 3, 1), (pool, layer("Flatten", (4,))), "3.15.1")
    network = sequential_from_keras(model)
    assert torch.equal(network(torch.ones(1, 1, 3, 3)), torch.ones(1, 4))
    ramp = torch.arange(9.0).view(1, 1, 3, 3)
    torch.testing.assert_close(network(ramp), torch.tensor([[2.0, 3.0, 5.0, 6.0]]))


def test_average_pooling_that_back_ends_compute_differently_is_refused() -> None:
    pool = layer("AveragePooling2D", (2, 2, 1), pool_size=(2, 2), strides=(2, 2), padding="same")
    with pytest.raises(KerasFormatError) as caught:
        sequential_from_keras(KerasModel((3, 3, 1), (pool, layer("Flatten", (4,))), "3.15.1"))
    assert "on torch" in caught.value.hint


def test_max_pooling_of_negative_values_ignores_the_padding() -> None:
    pool = layer("MaxPooling2D", (2, 2, 1), pool_size=(2, 2), strides=(2, 2), padding="same")
    network = sequential_from_keras(KerasModel((3, 3, 1), (pool, layer("Flatten", (4,))), "3.15.1"))
    ramp = -1 - torch.arange(9.0).view(1, 1, 3, 3)
    assert torch.equal(network(ramp), torch.tensor([[-1.0, -3.0, -7.0, -9.0]]))


def test_an_output_that_is_no_list_of_scores_is_refused() -> None:
    pool = layer("MaxPooling2D", (2, 2, 1), pool_size=(2, 2), strides=(2, 2), padding="valid")
    with pytest.raises(KerasFormatError, match="one score a class"):
        network_from_keras(KerasModel((4, 4, 1), (pool, layer("Softmax", (2, 2, 1))), "3.15.1"))


def test_other_layers_are_no_built_in_network() -> None:
    kinds = [layer(kind, (1,), **config) for kind, config in STACKS["report1-cnn"]]
    assert built_in_of(KerasModel((28, 28, 1), tuple(kinds), "3.15.1")) == "report1-cnn"
    kinds[2] = layer("Conv2D", (1,), **(STACKS["report1-cnn"][2][1] | {"strides": (2, 2)}))
    assert built_in_of(KerasModel((28, 28, 1), tuple(kinds), "3.15.1")) is None
