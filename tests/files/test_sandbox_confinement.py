"""The confined child: each forbidden thing is tried in a real one, and beside it unconfined, where it works.

What a machine's kernel lacks is not skipped: the tests hold the child to what it says is enforced.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.core.errors import ChildFailedError, DigestMismatchError, SandboxError
from secure_ai.files.keras import read_keras
from secure_ai.files.open import read_file
from secure_ai.files.sandbox import ChildAnswer, run_child, sandbox_required
from secure_ai.files.sandbox.confine import LAYERS, confinement_from
from secure_ai.files.sandbox.probe import sandbox_report
from secure_ai.files.sandbox.probe_child import ATTEMPTS, NEW, SECRET, SPARE

MIB = 1024 * 1024
PYTHON = sys.executable
Child = Callable[..., ChildAnswer]

# A stand-in for Python itself: sets the real limits from the real command line, then runs a body of the test.
STAND_IN = """#!{python} -IB
import ctypes, json, os, socket, sys, threading, time
from secure_ai.files.sandbox import answer_request, confine, landlock, linux, probe_child, seccomp
from secure_ai.files.sandbox.limits import limit_self
memory, cpu, file_bytes, parent = map(int, sys.argv[-5:-1])
limit_self(max_memory_bytes=memory, cpu_seconds=cpu, max_file_bytes=file_bytes, parent=parent)
def absent(*_, **__):
    raise OSError(38, "Function not implemented")
{body}
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """`child(body, request)`: run_child with a child that runs `body` under the limits."""

    def run(body: str, request: bytes = b"", **changes: Any) -> ChildAnswer:
        script = tmp_path / "stand_in.py"
        script.write_text(STAND_IN.format(python=PYTHON, body=body), encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        options = {"timeout_s": 20.0, "max_answer_bytes": MIB, "max_memory_bytes": 1024 * MIB, **changes}
        return run_child("secure_ai.files.any", request, **options)

    return run


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """The folder that the probe must not reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in (SECRET, SPARE):
        (folder / name).write_bytes(b"outside")
    return folder


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of the same user that has done nothing."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


PROBE = "answer_request(probe_child.answer)"
WITHOUT = {
    "landlock": "confine.restrict_files = absent\n",
    "seccomp": "confine.filter_calls = absent\n",
}


def denied_among(answer: ChildAnswer) -> dict[str, bool]:
    said = json.loads(answer.content)
    assert set(said) == set(ATTEMPTS)
    return {what: bool(reason) for what, reason in said.items()}


def must_be_denied(answer: ChildAnswer) -> set[str]:
    """By what the child says of its layers."""
    enforced = {name for name in LAYERS if getattr(answer.confinement, name).enforced}
    return {what for what, (layers, _) in ATTEMPTS.items() if enforced & set(layers)}


def test_the_same_attempts_succeed_unconfined(outside: Path, bystander: int) -> None:
    """The control. A kernel that protects processes of one user from each other (Yama) may deny three."""
    code = (
        "import json, pathlib, sys; from secure_ai.files.sandbox.probe_child import try_all\n"
        "print(json.dumps(try_all(pathlib.Path(sys.argv[1]), int(sys.argv[2]))))"
    )
    command = [PYTHON, "-I", "-c", code, str(outside), str(bystander)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    by_the_kernel_itself = {"open the parent's memory", "copy the parent's memory", "trace the parent"}
    assert {what for what, reason in said.items() if reason} <= by_the_kernel_itself
    assert sorted(path.name for path in outside.iterdir()) == sorted([SECRET, NEW])


@pytest.mark.parametrize("missing", [(), ("landlock",), ("seccomp",), ("landlock", "seccomp")], ids=str)
def test_what_is_said_to_be_enforced_is_denied(
    child: Child, outside: Path, bystander: int, missing: tuple[str, ...]
) -> None:
    request = json.dumps({"folder": str(outside), "other": bystander}).encode()
    answer = child("".join(WITHOUT[name] for name in missing) + PROBE, request)
    denied = denied_among(answer)
    assert {what for what in must_be_denied(answer) if not denied[what]} == set()
    for name in missing:
        assert getattr(answer.confinement, name).state == "missing"
        assert f"{name}: {os.strerror(errno.ENOSYS)}" in answer.confinement.missing
    files_intact = (outside / SECRET).read_bytes() == b"outside" and not (outside / NEW).exists()
    assert files_intact or not answer.confinement.landlock.enforced


def test_without_any_layer_the_child_gets_out(child: Child, outside: Path, bystander: int) -> None:
    """The second control: the same child, so it is the layers that deny. Limits alone forbid no file and no socket."""
    request = json.dumps({"folder": str(outside), "other": bystander}).encode()
    answer = child("".join(WITHOUT.values()) + PROBE, request)
    denied = denied_among(answer)
    assert not any(denied[what] for what in ("read a file outside", "cut a file outside", "open a TCP connection"))


def test_every_attempt_is_denied_by_a_layer() -> None:
    assert {what for what, (layers, _) in ATTEMPTS.items() if not set(layers) & set(LAYERS)} == set()


def test_the_report_of_this_machine_agrees_with_its_layers() -> None:
    report = sandbox_report()
    enforced = {name for name in LAYERS if getattr(report.confinement, name).enforced}
    assert {what for what in report.allowed if enforced & set(ATTEMPTS[what][0])} == set()
    assert [entry["what"] for entry in report.as_json()["tried"]] == list(ATTEMPTS)
    assert confinement_from(report.as_json()["confinement"]) == report.confinement


# --- what a machine lacks -----------------------------------------------------------------------------------------

NO_LANDLOCK_IN_THE_KERNEL = f"""
from secure_ai.files.sandbox import landlock, linux, seccomp
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install([(0x20, 0, 0, 0), (0x15, 0, 1, landlock.CREATE_RULESET), (6, 0, 0, 0x50000 | {errno.ENOSYS}),
                 (6, 0, 0, 0x7fff0000)])
"""
ECHO = "answer_request(lambda request: request)"


def test_a_kernel_without_landlock_is_said(child: Child) -> None:
    answer = child(NO_LANDLOCK_IN_THE_KERNEL + ECHO, b"x")
    assert answer.content == b"x"
    assert (answer.confinement.landlock.state, answer.confinement.landlock.reason) == (
        "missing",
        os.strerror(errno.ENOSYS),
    )


@pytest.mark.parametrize("how", ["argument", "policy"])
def test_where_confinement_is_required_nothing_is_read_without_it(child: Child, tmp_path: Path, how: str) -> None:
    canary = tmp_path / "read"
    body = WITHOUT["landlock"] + f"answer_request(lambda request: open({str(canary)!r}, 'wb') and b'')"
    with sandbox_required(how == "policy"), pytest.raises(SandboxError) as caught:
        child(body, require=how == "argument")
    assert "landlock" in caught.value.got
    assert caught.value.exit_code == 3
    assert not canary.exists()
    child(body)  # the control: the policy has ended, and the body does what it must not do above
    assert canary.exists()


def test_a_policy_inside_another_does_not_loosen_it(child: Child) -> None:
    with sandbox_required(), sandbox_required(False), pytest.raises(SandboxError):
        child(WITHOUT["seccomp"] + ECHO)


def test_a_confined_child_meets_the_requirement(child: Child) -> None:
    complete = not child(ECHO, b"x").confinement.missing
    if complete:
        assert child(ECHO, b"x", require=True).content == b"x"
    else:
        with pytest.raises(SandboxError):
            child(ECHO, b"x", require=True)


def test_a_child_that_answers_without_a_word_on_its_confinement_is_refused(child: Child) -> None:
    forged = "os.write(1, b'SECURE-AI-ANSWER' + (0).to_bytes(8, 'little'))"
    with pytest.raises(ChildFailedError, match="confined"):
        child(forged)


def test_the_parent_checks_the_requirement_itself(child: Child) -> None:
    body = WITHOUT["landlock"] + "sys.argv[-1] = 'allow'\n" + ECHO
    with pytest.raises(SandboxError):
        child(body, require=True)
    assert child(body).content == b""


def test_threads_that_were_there_before_are_said(child: Child) -> None:
    """Landlock binds the calling thread; seccomp is put on all, and the thread is held to it."""
    body = """
ready, tried = threading.Event(), []
def wait():
    ready.wait()
    try:
        tried.append(socket.socket() and "allowed")
    except OSError as error:
        tried.append(os.strerror(error.errno))
thread = threading.Thread(target=wait)
thread.start()
def work(request):
    ready.set(); thread.join()
    return tried[0].encode()
answer_request(work)
"""
    answer = child(body)
    assert answer.confinement.landlock.state == "missing"
    assert "threads" in answer.confinement.landlock.reason
    expected = os.strerror(errno.EPERM) if answer.confinement.seccomp.enforced else "allowed"
    assert answer.content.decode() == expected


def test_without_seccomp_no_process_is_the_limit(child: Child) -> None:
    """It binds everyone but root, threads included."""
    limit = "answer_request(lambda r: json.dumps(__import__('resource').getrlimit(6)).encode())"  # RLIMIT_NPROC
    assert json.loads(child(WITHOUT["seccomp"] + limit).content) == [0, 0]
    assert json.loads(child(limit).content) != [0, 0]


def test_events_tell_how_a_child_was_confined(child: Child) -> None:
    told: list[tuple[str, Any]] = []
    answer = child(ECHO, events=lambda kind, data: told.append((kind, data)))
    assert told == [("child_confined", {"module": "secure_ai.files.any", "confinement": answer.confinement.as_json()})]


HALF, NUMBER = {"state": "half", "reason": ""}, {"state": "enforced", "reason": 1}


@pytest.mark.parametrize(
    "said",
    [None, [], {}, {"landlock": HALF}, *({name: part for name in LAYERS} for part in (HALF, NUMBER, "enforced"))],
)
def test_anything_else_is_no_confinement(said: Any) -> None:
    assert confinement_from(said) is None


# --- what a confined child can still do ---------------------------------------------------------------------------


def test_a_confined_child_works_in_its_own_folder(child: Child) -> None:
    body = """
def work(request):
    os.mkdir("a"); os.mkdir("b")
    with open("a/x", "wb") as stream: stream.write(request)
    os.rename("a/x", "b/y"); content = open("b/y", "rb").read()
    os.remove("b/y"); os.rmdir("b"); os.rmdir("a")
    thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
    return content + json.dumps(os.listdir()).encode()
answer_request(work)
"""
    assert child(body, b"x", max_file_bytes=10).content == b"x[]"


def test_a_confined_child_still_dies_with_its_parent(child: Child) -> None:
    body = """
def work(request):
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))
    return str(number.value).encode()
answer_request(work)
"""
    assert int(child(body).content) == signal.SIGKILL


ESCAPE = """
def escape():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3): os.close(number)
            time.sleep(60)
        os._exit(0)
    os.wait()
"""


def processes_named(mark: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def test_no_process_outlives_the_time_limit(child: Child, tmp_path: Path) -> None:
    mark = str(tmp_path)  # the stand-in's path is in its command line, and in those of what it forks
    with pytest.raises(ChildFailedError, match="in time"):  # the control: before it is confined, the child escapes
        child(ESCAPE + "escape(); time.sleep(60)", timeout_s=1.5)
    escaped = processes_named(mark)
    for pid in escaped:
        os.kill(pid, signal.SIGKILL)
    assert len(escaped) == 1
    body = "def work(request):\n    try: escape()\n    except OSError: pass\n    time.sleep(60)\nanswer_request(work)"
    enforced = child(ECHO).confinement.seccomp.enforced
    with pytest.raises(ChildFailedError, match="in time"):
        child(ESCAPE + body, timeout_s=1.5)
    left = processes_named(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (not left) or not enforced


# --- the children that read real files ----------------------------------------------------------------------------


def test_the_reader_of_keras_files_loses_no_layer() -> None:
    told: list[Any] = []
    file = read_file(Path(__file__).parent / "fixtures" / "keras_3_15_torch.keras", max_bytes=MIB)
    read_keras(file, events=lambda kind, data: told.append(data["confinement"]))
    assert told == [sandbox_report().confinement.as_json()]


def test_a_child_that_refuses_says_how_it_was_confined() -> None:
    told: list[Any] = []
    with pytest.raises(DigestMismatchError):
        run_child(
            "secure_ai.audit.cache_demo_child",
            b"0" * 64 + b"anything",
            timeout_s=20,
            max_answer_bytes=MIB,
            max_memory_bytes=1024 * MIB,
            events=lambda kind, data: told.append(data["confinement"]),
        )
    assert told == [sandbox_report().confinement.as_json()]


# --- the command line ---------------------------------------------------------------------------------------------


def test_only_the_command_line_closes_its_own_memory() -> None:
    """PR_GET_DUMPABLE is 3: importing and using the library leaves the caller's process as it was."""
    ask = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    use = "from secure_ai.files.sandbox.probe import sandbox_report; sandbox_report()\n"
    run = "import atexit; atexit.register(lambda: exec(%r))\nfrom secure_ai.cli.main import main; main(['--version'])"
    outputs = [
        subprocess.run([PYTHON, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for code in (use + ask, run % ask)
    ]
    assert [output[-1] for output in outputs] == ["1", "0"]


@pytest.mark.parametrize(("words", "status"), [([], 0), (["--require-sandbox"], 3)], ids=str)
def test_the_command_refuses_to_read_a_model_unconfined(tmp_path: Path, words: list[str], status: int) -> None:
    """On a kernel without Landlock; the first row is the control: there the file is read."""
    model, data = Path(__file__).parent / "fixtures" / "keras_3_15_torch.keras", tmp_path / "d.npz"
    np.savez(data, x=np.zeros((20, 12, 12), np.uint8), y=np.arange(20) % 4)
    line = ["run", "--dry-run", "--json", "--model", str(model), "--data", str(data), *words]
    script = NO_LANDLOCK_IN_THE_KERNEL + f"from secure_ai.cli.main import main\nmain({line!r})"
    done = subprocess.run([PYTHON, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert json.loads(done.stdout).get("error", {}).get("code") == ("E_SANDBOX" if status else None)
