"""The sandboxed child: what it may cost, how it may fail, and that nothing of it outlives its parent or its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_ai.core.errors import ChildFailedError, EnvironmentFailedError, PickleRefusedError, SafetensorsError
from secure_ai.files.sandbox import launch, run_child

MIB = 1024 * 1024
MODULE = "secure_ai.files.any"
MISSING = "secure_ai.files.no_such_module"
Child = Callable[..., bytes]
PYTHON = sys.executable

# A stand-in for Python itself: sets the real limits from the real command line, then runs a body of the test.
STAND_IN = """#!{python} -IB
import json, os, signal, subprocess, sys, time
from secure_ai.core.errors import *
from secure_ai.files.sandbox import answer_request
from secure_ai.files.sandbox.limits import limit_self
memory, cpu, file_bytes, parent = map(int, sys.argv[-5:-1])
limit_self(max_memory_bytes=memory, cpu_seconds=cpu, max_file_bytes=file_bytes, parent=parent)
{body}
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """`child(body, request)`: run_child with a child that runs `body` under the limits."""

    def run(body: str, request: bytes = b"", **changes: Any) -> bytes:
        script = tmp_path / "stand_in.py"
        script.write_text(STAND_IN.format(python=PYTHON, body=body), encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        options = {"timeout_s": 20.0, "max_answer_bytes": MIB, "max_memory_bytes": 1024 * MIB, **changes}
        return run_child(MODULE, request, **options).content

    return run


ECHO = "answer_request(lambda request: request)"


@pytest.mark.parametrize("size", [0, 1, 100_000, MIB])
def test_bytes_go_in_and_come_out(child: Child, size: int) -> None:
    request = os.urandom(size)
    assert child(ECHO, request) == request


def test_an_answer_longer_than_the_cap_is_refused(child: Child) -> None:
    assert child(ECHO, bytes(1000), max_answer_bytes=1000) == bytes(1000)
    with pytest.raises(ChildFailedError, match="too much"):
        child(ECHO, bytes(1001), max_answer_bytes=1000)


def test_an_endless_answer_is_cut_off_at_once(child: Child) -> None:
    started = time.monotonic()
    with pytest.raises(ChildFailedError, match="too much"):
        child("while True: os.write(1, bytes(65536))")
    assert time.monotonic() - started < 10


FAILURES: dict[str, str] = {
    "exits-0-without-answer": "sys.exit(0)",
    "garbage": "os.write(1, b'garbage' * 10)",
    "half-an-answer": "os.write(1, b'SECURE-AI-ANSWER' + (100).to_bytes(8, 'little') + b'half')",
    "more-than-announced": "os.write(1, b'SECURE-AI-ANSWER' + (1).to_bytes(8, 'little') + b'more')",
    "traceback": "answer_request(lambda request: 1 / 0)",
    "status-3": "sys.exit(3)",
    "status-2-without-reason": "sys.exit(2)",
    "status-2-with-an-unknown-code": 'sys.stderr.write(\'{"code": "E_NOPE"}\\n\'); sys.exit(2)',
    "segmentation-fault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "out-of-memory": "answer_request(lambda request: bytes(4 << 30))",
    "writes-a-file": "answer_request(lambda request: open('x', 'wb', buffering=0).write(b'x') and b'')",
    "parent-is-another": "limit_self(max_memory_bytes=memory, cpu_seconds=9, max_file_bytes=0, parent=1)",
}


@pytest.mark.parametrize("body", FAILURES.values(), ids=FAILURES.keys())
def test_a_child_that_fails_is_an_error_of_its_own(child: Child, body: str) -> None:
    with pytest.raises(ChildFailedError) as caught:
        child(body)
    assert caught.value.where == MODULE


def test_a_refusal_in_the_child_is_raised_again_with_its_class_and_text(child: Child) -> None:
    body = "def refuse(request): raise PickleRefusedError('no', where='w', expected='e', got='\\x1b[2J', hint='h')\n"
    with pytest.raises(PickleRefusedError) as caught:
        child(body + "print('noise on stdout'); answer_request(refuse)")
    assert (caught.value.message, caught.value.where, caught.value.hint) == ("no", "w", "h")
    assert "\x1b" not in str(caught.value)


def test_only_text_of_a_known_code_comes_out_of_an_error() -> None:
    said = {"code": "E_SAFETENSORS", "message": "x" * 5000, "where": ["a"], "hint": None}
    error = launch._error_of(bytearray(b"noise\n" + json.dumps(said).encode() + b"\n"), MODULE)
    assert type(error) is SafetensorsError
    assert len(error.message) <= 300
    deep = launch._error_of(bytearray(b'{"code":' + b"[" * 5000 + b"\n"), MODULE)
    assert type(deep) is ChildFailedError


def test_prints_do_not_reach_the_answer(child: Child) -> None:
    body = "def work(request):\n    print('noise'); os.write(1, b'more'); return b'answer'\n"
    assert child(body + "answer_request(work)") == b"answer"


def test_a_flood_on_standard_error_is_drained_and_bounded(child: Child) -> None:
    body = "def work(request):\n    sys.stderr.write('x' * 5_000_000 + '\\nlast'); return b'answer'\n"
    assert child(body + "answer_request(work)") == b"answer"
    with pytest.raises(ChildFailedError, match="last words") as caught:
        child("sys.stderr.write('x' * 5_000_000 + '\\nlast words'); sys.exit(7)")
    assert "status 7" in caught.value.got


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


SLEEPERS = """
inner = subprocess.Popen(["/bin/sleep", "60"])
os.write(2, f"pids {os.getpid()} {inner.pid}\\n".encode())
"""


@pytest.mark.parametrize("then", ["time.sleep(60)", "os.close(1); os.close(2); time.sleep(60)", "while True: pass"])
def test_time_out_kills_the_child_and_what_it_started(child: Child, tmp_path: Path, then: str) -> None:
    pids = tmp_path / "pids"
    body = SLEEPERS.replace("os.write(2, ", f"open({str(pids)!r}, 'wb', buffering=0).write(")
    started = time.monotonic()
    with pytest.raises(ChildFailedError, match="in time"):
        child(body + then, timeout_s=1.5, max_file_bytes=100)
    assert time.monotonic() - started < 10
    numbers = [int(pid) for pid in pids.read_text(encoding="ascii").split()[1:]]
    assert len(numbers) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in numbers))


def test_a_grandchild_that_holds_the_pipes_does_not_hold_the_parent(child: Child) -> None:
    with pytest.raises(ChildFailedError, match="in time"):
        child("subprocess.Popen(['/bin/sleep', '60'])\n" + ECHO, timeout_s=1.5)


def test_processor_time_is_limited(child: Child) -> None:
    with pytest.raises(ChildFailedError, match=f"signal {signal.SIGKILL}|signal {signal.SIGXCPU}"):
        child("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", timeout_s=60)


def test_the_child_sees_nothing_of_the_parent(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LD_PRELOAD_TEST", "secret")
    body = """
def work(request):
    import resource
    names = ("AS", "CPU", "FSIZE", "CORE", "NOFILE")
    limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}
    return json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "files": os.listdir(), "limits": limits,
                       "group": os.getpgid(0) == os.getpid(), "path": sys.path, "args": sys.argv[1:]}).encode()
answer_request(work)
"""
    said = json.loads(child(body, timeout_s=7.0, max_memory_bytes=777 * MIB))
    assert set(said["env"]) <= {"PATH", "LANG", "HOME", "TMPDIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "LC_CTYPE"}
    assert said["cwd"] == said["env"]["HOME"] == said["env"]["TMPDIR"] != os.getcwd()
    assert said["files"] == []
    assert not Path(said["cwd"]).exists(), "the folder is gone afterwards"
    expected = {"AS": 777 * MIB, "CPU": 8, "FSIZE": 0, "CORE": 0, "NOFILE": 256}
    assert said["limits"] == {name: [value, value] for name, value in expected.items()}
    assert said["group"]
    assert os.getcwd() not in said["path"]
    assert said["args"][:7] == ["-I", "-B", "-X", "utf8", "-m", "secure_ai.files.sandbox", MODULE]


def test_a_file_within_the_limit_may_be_written(child: Child) -> None:
    body = "answer_request(lambda request: str(open('x', 'wb', buffering=0).write(bytes(100))).encode())"
    assert child(body, max_file_bytes=100) == b"100"


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = tmp_path / "stand_in.py"
    body = f"open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script.write_text(STAND_IN.format(python=PYTHON, body=body), encoding="utf-8")
    script.chmod(0o755)
    code = (
        "import sys; from secure_ai.files.sandbox import run_child; sys.executable = sys.argv[1]\n"
        "limits = dict(timeout_s=60, max_answer_bytes=1, max_memory_bytes=1 << 30, max_file_bytes=99)\n"
        "run_child('secure_ai.files.x', b'', **limits)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(script)], env={**os.environ, "TMPDIR": str(tmp_path)})
    assert wait_until(lambda: pids.exists() and pids.read_text(encoding="ascii") != "")
    pid = int(pids.read_text(encoding="ascii"))
    assert alive(pid)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(pid), seconds=1.0)


def test_the_real_bootstrap_runs_a_module_of_the_package_and_no_other() -> None:
    options: dict[str, Any] = {"timeout_s": 20.0, "max_answer_bytes": 1000, "max_memory_bytes": 1024 * MIB}
    with pytest.raises(ChildFailedError, match="no_such_module"):
        run_child(MISSING, b"", **options)
    with pytest.raises(ChildFailedError) as foreign:
        run_child("os", b"", **options)
    assert foreign.value.where == "os"
    with pytest.raises(ChildFailedError) as silent:
        run_child("secure_ai.core.errors", b"", **options)
    assert silent.value.got == "0 bytes"


def test_a_child_that_cannot_be_started_is_an_environment_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EnvironmentFailedError):
        run_child(MODULE, b"", timeout_s=1, max_answer_bytes=1, max_memory_bytes=MIB)


def test_no_descriptor_is_left_open(child: Child) -> None:
    child(ECHO)
    before = len(os.listdir("/proc/self/fd"))
    child(ECHO)
    with pytest.raises(ChildFailedError):
        child("sys.exit(3)")
    assert len(os.listdir("/proc/self/fd")) == before
