"""What the child may use of the machine, and that it dies with its parent."""

from __future__ import annotations

import os
import resource
import signal

from secure_ai.core.errors import ChildFailedError
from secure_ai.files.sandbox.linux import PR_SET_PDEATHSIG, prctl

MAX_OPEN_FILES = 256


def limit_self(*, max_memory_bytes: int, cpu_seconds: int, max_file_bytes: int, parent: int) -> None:
    """In the child: set every limit for good, and die with the parent.

    Raises:
        ChildFailedError: the parent is dead already.
    """
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, max_file_bytes),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except OSError as error:
        raise ChildFailedError("prctl(PR_SET_PDEATHSIG) is refused", where="sandbox", got=error.strerror) from None
    if os.getppid() != parent:
        raise ChildFailedError("the parent is gone", where="sandbox", expected=parent, got=os.getppid())


def forbid_processes() -> None:
    """No further process or thread. Does not bind root. For kernels where seccomp cannot tell the two apart."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
