"""The child's side: limits first, then its imports, then confinement, and only then the hostile bytes."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from secure_ai.core.errors import EXIT_BAD_INPUT, SandboxError, SecureAIError
from secure_ai.files.sandbox.confine import confine
from secure_ai.files.sandbox.limits import limit_self

ANSWER_MAGIC = b"SECURE-AI-ANSWER"
REQUIRE, ALLOW = "require", "allow"  # the child's last argument: whether it reads its request unconfined


def answer_request(function: Callable[[bytes], bytes], *, imports: Sequence[str] = ()) -> None:
    """In the child: confine this process, read the request, answer `function(request)`, exit.

    A SecureAIError is reported to the parent, which raises it again; anything else ends the child with its traceback.
    What the function prints goes to standard error and never into the answer.

    Args:
        imports: modules that `function` would import later, when system libraries cannot be opened any more.
    """
    answer_descriptor = os.dup(1)
    os.dup2(2, 1)
    for name in imports:
        importlib.import_module(name)
    confinement = confine(Path.cwd())
    # Said before the first hostile byte is read: whatever that byte does, it cannot take this back.
    said = json.dumps(confinement.as_json()).encode()
    os.write(answer_descriptor, len(said).to_bytes(4, "little") + said)
    try:
        if sys.argv[-1] == REQUIRE and confinement.missing:
            raise SandboxError(
                "this machine cannot confine the child", where="sandbox", got="; ".join(confinement.missing)
            )
        answer = function(sys.stdin.buffer.read())
    except SecureAIError as error:
        sys.stdout.flush()  # to standard error, so that the error is the last line there
        sys.stderr.write("\n" + json.dumps(error.as_json()) + "\n")
        sys.stderr.flush()
        os._exit(EXIT_BAD_INPUT)
    with os.fdopen(answer_descriptor, "wb") as stream:
        stream.write(ANSWER_MAGIC + len(answer).to_bytes(8, "little"))
        stream.write(answer)


def main() -> None:
    """`python -m secure_ai.files.sandbox MODULE MEMORY CPU FILE_BYTES PARENT require|allow`."""
    module, memory, cpu, file_bytes, parent, _ = sys.argv[1:]
    limit_self(max_memory_bytes=int(memory), cpu_seconds=int(cpu), max_file_bytes=int(file_bytes), parent=int(parent))
    runpy.run_module(module, run_name="__main__")
