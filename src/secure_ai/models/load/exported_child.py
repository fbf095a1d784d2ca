"""The child that tries a `.pt2` program: read, built, and run once on black images, forward and backward.

torch imports `torch._dynamo` when it first computes shapes alone, and that looks for the user's name in the system.
"""

from __future__ import annotations

import importlib
import resource
from pathlib import Path

import torch
from torch import Tensor, nn

from secure_ai.core.errors import FormatError
from secure_ai.files.open import FileBytes
from secure_ai.files.pt2 import read_pt2
from secure_ai.files.sandbox import answer_request
from secure_ai.models.load.exported import MISFITS, network_from_exported, refused_graph
from secure_ai.models.load.exported_trial import TORCH_BYTES, TRIED_IMAGES

_NO_MEMORY = "allocate memory"  # torch says so in a RuntimeError


def answer(request: bytes) -> bytes:
    """The number of classes, in 8 bytes. Raises what `read_pt2`, `network_from_exported` and `run_once` raise."""
    start = 8 + int.from_bytes(request[:8], "little")
    where = request[8:start].decode("utf-8", "surrogateescape")
    program = read_pt2(FileBytes(where, request[start:]))
    network, classes = network_from_exported(program, where=where)
    images = program.graph.batch or TRIED_IMAGES
    run_once(network, (images, *program.graph.image_shape), (images, classes), where)
    return classes.to_bytes(8, "little")


def run_once(network: nn.Module, shape: tuple[int, ...], expected: tuple[int, int], where: str) -> None:
    """A pass on black images of this shape, and one back where there is a gradient.

    Raises:
        FormatError: the graph does not run on values, answers in another shape than on shapes alone, or finds no
            memory. A gradient that torch cannot give is no reason: the model can be attacked by its scores.
    """
    x = torch.zeros(shape, requires_grad=True)
    try:
        scores = network(x)
    except MISFITS as error:
        raise refused_graph(error, where) from None
    if not isinstance(scores, Tensor) or scores.shape != expected:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise FormatError("the program's answer is not one score a class", where=where, expected=expected, got=got)
    if not scores.requires_grad:
        return
    try:
        torch.autograd.grad(scores.sum(), x, allow_unused=True)
    except MISFITS as error:
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            raise refused_graph(error, where) from None


def give_back_memory() -> None:
    """Lower the limit by what torch, now imported, does not need of the share set aside for it."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    limit, spare = resource.getrlimit(resource.RLIMIT_AS)[0], TORCH_BYTES - int(pages) * resource.getpagesize()
    if 0 < spare < limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit - spare, limit - spare))


if __name__ == "__main__":
    importlib.import_module("torch._dynamo")
    give_back_memory()
    answer_request(answer)
