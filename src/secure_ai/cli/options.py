"""Options that several commands share, spelled once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from cyclopts import Parameter

from secure_ai.cli.choices import ANY_CASE
from secure_ai.core.errors import UsageError
from secure_ai.core.findings import FailOn
from secure_ai.runs.model_spec import ModelSpec

ModelFile = Annotated[str | None, Parameter(name="MODEL")]
"""The model file as a command's first word."""
DataName = Annotated[str | None, Parameter(name="DATA")]
"""The data as a command's next word."""
Split = Annotated[Literal["train", "test", "val"], ANY_CASE]
DATA_FORMS = "images with the labels that the model was trained for: FILE.npz, a folder of images"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model.

    Attributes:
        model: Model file: safetensors, torch state dict, .keras or .pt2, detected by content.
        arch: Built-in name, FILE.py:FACTORY or pkg.mod:FACTORY. The factory is your code and runs in this process.
            Without --model, what it returns is the model: a network, or a callable from images to scores.
        weights_key: Which entry of a torch checkpoint holds the weights, where several could.
        access: What attacks may use: gradients, scores or labels. Default: gradients; scores for a callable.
        mean: Mean that the model expects to be subtracted, one or per channel, e.g. 0.1307 or 0.48,0.45,0.40.
        std: Standard deviation that the model expects to be divided by.
        value_range: The values of black and white that the model expects, e.g. 0,255; 1,0 inverts.
        require_sandbox: Exit 3 instead of reading a model file without a working sandbox. See docs/sandbox.md.
    """

    model: str | None = None
    arch: str | None = None
    weights_key: str = ""
    access: Annotated[Literal["gradients", "scores", "labels"] | None, ANY_CASE] = None
    mean: str = ""
    std: str = ""
    value_range: Annotated[str, Parameter(name="--range")] = "0,1"
    require_sandbox: Annotated[bool, Parameter(negative="")] = False

    def named(self, file: str | None) -> ModelOptions:
        """These options with the model file that was named without an option. Raises UsageError for two files."""
        if file is not None and self.model is not None:
            raise UsageError("two model files", where="--model", expected="one", got=f"{file} and {self.model}")
        return self if file is None else replace(self, model=file)

    def spec(self) -> ModelSpec:
        """The checked value. Raises UsageError."""
        if self.model is None and self.arch is None:
            raise UsageError("no model named", where="--model", expected="a model file, or --arch FILE.py:FACTORY")
        low_high = _numbers(self.value_range, "--range")
        if not _is_range(low_high):
            expected = "LO,HI from 1e-6 to 1e6 apart, and by 1e-4 of the larger at least"
            raise UsageError("not a range", where="--range", expected=expected, got=self.value_range)
        std = _numbers(self.std, "--std")
        if any(value <= 0 for value in std):
            raise UsageError("not a standard deviation", where="--std", expected="> 0", got=self.std)
        return ModelSpec(
            model=self.model,
            arch=self.arch,
            weights_key=self.weights_key,
            access=self.access,
            mean=_numbers(self.mean, "--mean"),
            std=std,
            value_range=(low_high[0], low_high[1]),
        )

    def like(self, model: str | None, arch: str | None) -> ModelSpec | None:
        """Another model file that is fed as this one is, its gradients used; None without a file. Raises UsageError."""
        if model is None and arch is not None:
            raise UsageError("an architecture without a file", where="--surrogate-arch", expected="--surrogate FILE")
        return None if model is None else replace(self, model=model, arch=arch, weights_key="", access=None).spec()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data.

    Attributes:
        data: mnist:train|test[:N|~N], an IDX folder, FILE.npz or a folder of images.
        split: train, val or test, where the data have several.
        n: The first N images in file order.
        resize: Every image to N x N pixels; the report says so.
    """

    data: str | None = None
    split: Split = "test"
    n: int | None = None
    resize: int | None = None

    @property
    def source(self) -> str:
        """What to load. Raises UsageError where nothing was named: no data set is the user's unless they say so."""
        return named_data(self.data)


def either_data(word: str | None, option: str | None) -> str | None:
    """The data, named without an option or with one. Raises UsageError for both."""
    if word is not None and option is not None:
        raise UsageError("two data sets", where="--data", expected="one", got=f"{word} and {option}")
    return option if word is None else word


def named_data(data: str | None, example: str = "mnist:test~1000") -> str:
    """`data`. Raises UsageError, which gives the example, where nothing was named."""
    if data is None:
        raise UsageError("no data named", where="--data", expected=f"{DATA_FORMS}, {example}")
    return data


def training_source(model: ModelOptions, data: str | None) -> str:
    """What to train on; MNIST only for a built-in network that is trained from nothing. Raises UsageError."""
    built_in = model.model is None and not any(mark in (model.arch or "") for mark in ".:")
    return "mnist:train" if data is None and built_in else named_data(data, "mnist:train")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FailOptions:
    """When findings make the exit code 1, and a number not to be trusted makes it 3.

    Attributes:
        fail_on: Exit 1 when a finding (not planted by the tool) is at or above this severity; 3 when none is but the
            robust accuracy of your network is not `reliable`.
    """

    fail_on: Annotated[FailOn, ANY_CASE] = "never"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every command takes.

    Attributes:
        json: Print one JSON document on stdout; everything else goes to stderr.
        seed: Seed of everything random.
        quiet: Show no progress.
        precision: auto trains in bfloat16 where that is faster; float32 never does.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    seed: int | None = None
    quiet: Annotated[bool, Parameter(negative="")] = False
    precision: Annotated[Literal["auto", "float32"], ANY_CASE] = "auto"

    @property
    def seed_or_zero(self) -> int:
        """The seed of commands without a recipe. Raises UsageError outside [0, 2**63)."""
        seed = self.seed or 0
        if not 0 <= seed < 2**63:
            raise UsageError("bad seed", where="--seed", expected="0 to 2**63 - 1", got=seed)
        return seed


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where models compute.

    Attributes:
        device: auto (a GPU where there is one), cpu or cuda. Reports that are compared with published figures use the
            CPU under auto.
    """

    device: Annotated[Literal["auto", "cpu", "cuda"], ANY_CASE] = "auto"


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError("not numbers", where=where, expected="numbers separated by commas", got=text) from None
    if any(value != value or abs(value) == float("inf") for value in values):
        raise UsageError("not finite", where=where, got=text)
    return values


def _is_range(bounds: tuple[float, ...]) -> bool:
    """Two bounds between which float32 keeps the grey levels of an image apart."""
    if len(bounds) != 2:
        return False
    apart, largest = abs(bounds[1] - bounds[0]), max(map(abs, bounds))
    return max(1e-6, 1e-4 * largest) <= apart <= 1e6
