"""Sets limits on memory and processor time for good, then becomes Bandit. Run by `bandit`, never imported."""

from __future__ import annotations

import resource
import runpy
import sys


def main() -> None:
    """Arguments: bytes of address space, seconds of processor time, then Bandit's own."""
    memory, seconds = int(sys.argv.pop(1)), int(sys.argv.pop(1))
    limits = ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0))
    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    runpy.run_module("bandit", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
