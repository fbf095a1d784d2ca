"""Runs a command and writes what it took: _launcher.py REPORT COMMAND...

A process of its own because Linux hands a process's peak memory on to what it starts: measured from a large process, a
small one would seem as large.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
took = {
    "returncode": os.waitstatus_to_exitcode(status),
    "seconds": time.perf_counter() - began,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "peak_kib": usage.ru_maxrss,
}
Path(sys.argv[1]).write_text(json.dumps(took), encoding="utf-8")
