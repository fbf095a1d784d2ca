"""A `.pt2` program is tried in a confined child before torch sees it in this process.

The closed list of operations leaves what torch itself does with a graph of them: a crash, a hang, or more memory than
its shapes tell. The child holds the program to its budget on shapes alone, then runs it once on black images, forward
and backward. Only a program that it survives is built here.
"""

from __future__ import annotations

from secure_ai.core.errors import ChildFailedError, FormatError
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.files.open import MIB, FileBytes
from secure_ai.files.pt2 import ExportedProgram
from secure_ai.files.sandbox import Confinement, run_child

CHILD = "secure_ai.models.load.exported_child"
TRIED_IMAGES = 2  # by a program that takes any number: torch.export treats 1 as a special case
_START_SECONDS, _IMAGE_SECONDS, _MOST_SECONDS = 60.0, 60.0, 600.0  # 200 G multiply-adds, three times, on one core
TORCH_BYTES = 32 * 1024 * MIB  # of address space; the child gives back what torch does not map
_IMAGE_BYTES, _MOST_IMAGES = 4 * 1024 * MIB, 16  # the budget allows results of 1 GiB an image
MAX_CLASSES = 1 << 26
_ANSWER_BYTES = 8
_FILE_BYTES = 4096  # torch asks for a folder that it could write temporary files to, and tries it
_survived: dict[str, tuple[int, Confinement]] = {}
"""By digest of the file: what this process tried, with nothing missing of the sandbox."""


def try_exported(file: FileBytes, program: ExportedProgram, events: EventSink = ignore_event) -> int:
    """Run a program in a child; once for every file, where nothing is missing of the sandbox.

    Args:
        program: what `read_pt2` found in `file`; it is read again in the child.
        events: told `child_confined`.

    Returns:
        The number of classes.

    Raises:
        FormatError: the child crashes, hangs, takes too much memory, or the graph does not run.
        SandboxError: the machine cannot confine the child, and that is required.
    """
    if file.sha256 in _survived:
        classes, confinement = _survived[file.sha256]
        events("child_confined", {"module": CHILD, "confinement": confinement.as_json()})
        return classes
    images = program.graph.batch or TRIED_IMAGES
    name = file.name.encode("utf-8", "surrogateescape")
    try:
        answer = run_child(
            CHILD,
            len(name).to_bytes(8, "little") + name + file.content,
            timeout_s=min(_START_SECONDS + _IMAGE_SECONDS * images, _MOST_SECONDS),
            max_answer_bytes=_ANSWER_BYTES,
            max_memory_bytes=TORCH_BYTES + 4 * len(file.content) + min(images, _MOST_IMAGES) * _IMAGE_BYTES,
            max_file_bytes=_FILE_BYTES,
            events=events,
        )
    except ChildFailedError as error:
        got = error.got or error.message
        raise FormatError(
            "the program does not survive a trial run", where=file.name, expected="one pass on black images", got=got
        ) from None
    classes = int.from_bytes(answer.content, "little")
    if len(answer.content) != _ANSWER_BYTES or not 0 < classes <= MAX_CLASSES:
        raise FormatError("the trial run answers out of form", where=file.name, got=answer.content)
    if not answer.confinement.missing:
        _survived[file.sha256] = classes, answer.confinement
    return classes
