"""The weights of a file of `torch.save`, of today's format or the one before torch 1.6. torch has no part in this."""

from __future__ import annotations

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import FileBytes
from secure_ai.files.pickle_machine import TensorView
from secure_ai.files.pickles import HINT
from secure_ai.files.sniff import Format, sniff
from secure_ai.files.torch_legacy import MAGIC_PICKLE, judge_torch_legacy
from secure_ai.files.torch_tensors import Array, tensor_of
from secure_ai.files.torch_zip import judge_torch_zip


@refuses_with(PickleRefusedError)
def read_torch_state(file: FileBytes, weights_key: str = "") -> dict[str, Array]:
    """The tensors of a state dict by name, read-only, C order; bfloat16 becomes float32.

    A checkpoint gives the tensors that stand under one of its keys and nothing else. Tensors that are the same view of
    the same storage share one array.

    Args:
        weights_key: which entry of a checkpoint holds the weights, where several could; empty: the only one.

    Raises:
        FormatError: another format, TorchScript or an exported program.
        ZipError: the archive is malformed or ambiguous.
        PickleRefusedError: a pickle asks for more than named tensors, or the storages are not as it says.
        NonFiniteError: NaN or infinity among the weights.
        SizeLimitError: the tensors are far larger than the file.
    """
    old = file.content.startswith(MAGIC_PICKLE)
    if not old and sniff(file.content) is Format.PICKLE:
        raise PickleRefusedError("a bare pickle", where=file.name, expected="a file of torch.save", hint=HINT)
    judged, storages = (judge_torch_legacy if old else judge_torch_zip)(file, weights_key)
    views: dict[TensorView, Array] = {}
    for view in judged.tensors.values():
        if view not in views:
            views[view] = tensor_of(view, storages[view.storage.key])
    return {name: views[view] for name, view in judged.tensors.items()}
