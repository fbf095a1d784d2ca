"""Do the tests notice when a line goes wrong? Each mutant is applied to a copy of the package, and its tests are run.

    scripts/bench mutants [--only WORD]

The table is `_mutants_table.py`. The working tree is never written to. Results go to results/mutants.json; exit code 1
when a mutant survives that was not said to change nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from _mutants_table import MUTANTS, Mutant
from _record import ROOT, save

LIMIT_S = 120
"""Processor time for the tests of one mutant: some faults are loops without an end, and that is noticed too."""
PASSED, FAILED = 0, 1  # pytest's exit codes; any other is a mistake of the table
NOT_THE_COPY = 99
PYTEST = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--timeout=0")


def mutated(mutant: Mutant, text: str) -> str:
    """The file with the fault in it. ValueError unless the old fragment stands there exactly once, on one line."""
    count = text.count(mutant.old)
    if count != 1 or "\n" in mutant.old or mutant.old == mutant.new:
        raise ValueError(f"{mutant.name}: {mutant.file} has {mutant.old!r} {count} times, expected once")
    return text.replace(mutant.old, mutant.new)


def run_tests(package: Path, tests: str) -> int | None:
    """Exit code of the tests on the package in `package`; None: the time limit.

    In a forked child, which has torch loaded already: that is most of what a small test takes.
    """
    child = os.fork()
    if child == 0:
        os._exit(_tests_in_child(package, tests))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGXCPU:
        return None
    if code not in (PASSED, FAILED):
        raise SystemExit(f"pytest could not run {tests}: exit code {code}")
    return code


def _tests_in_child(package: Path, tests: str) -> int:
    for name in [name for name in sys.modules if name.partition(".")[0] == "secure_ai"]:
        del sys.modules[name]
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 10))
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True  # a mutant of the same size and second would be taken from the cache
    sys.path.insert(0, str(package))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    package_found = importlib.import_module("secure_ai").__file__
    if not package_found or not Path(package_found).is_relative_to(package):
        return NOT_THE_COPY
    return int(pytest.main([*PYTEST, tests]))


def judged(mutant: Mutant, package: Path) -> dict[str, object]:
    """Put the fault in, run the tests, take it out again."""
    path = package / "secure_ai" / mutant.file
    sound, started = path.read_text(encoding="utf-8"), time.perf_counter()
    path.write_text(mutated(mutant, sound), encoding="utf-8")
    try:
        code = run_tests(package, mutant.tests)
    finally:
        path.write_text(sound, encoding="utf-8")
    row: dict[str, object] = {
        "file": mutant.file,
        "old": mutant.old,
        "new": mutant.new,
        "tests": mutant.tests,
        "outcome": {PASSED: "survived", FAILED: "killed", None: "killed by the time limit"}[code],
        "seconds": round(time.perf_counter() - started, 1),
    }
    return row | ({"harmless": mutant.harmless} if mutant.harmless else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutants whose name holds this word; nothing is saved then")
    only = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        package = Path(folder)
        shutil.copytree(ROOT / "src" / "secure_ai", package / "secure_ai", ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in chosen:
            mutated(mutant, (package / "secure_ai" / mutant.file).read_text(encoding="utf-8"))
        for tests in sorted({mutant.tests for mutant in chosen}):
            if run_tests(package, tests) != PASSED:
                raise SystemExit(f"{tests} fails without a mutant")
            print(f"passes without a mutant: {tests}", flush=True)
        rows = {}
        for mutant in chosen:
            rows[mutant.name] = judged(mutant, package)
            print(f"{rows[mutant.name]['outcome']:9} {rows[mutant.name]['seconds']:6} s  {mutant.name}", flush=True)
    survivors = [m.name for m in chosen if (rows[m.name]["outcome"] == "survived") != bool(m.harmless)]
    print(f"{len(rows)} mutants, not as expected: {', '.join(survivors) or 'none'}")
    if not only:
        save("mutants", "scripts/bench mutants", {"not_as_expected": survivors, "rows": rows})
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
