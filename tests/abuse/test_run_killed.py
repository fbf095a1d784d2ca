"""A run that dies at any write leaves old or new files, never halves, and the next run completes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secure_ai.core.events import ignore_event, verify_log
from secure_ai.files.seal import Seal, user_seal
from secure_ai.runs.engine.store import Store

# Dies by SIGKILL at the Nth fsync of a run whose stages are the small audit ones.
PROGRAM = """
import os, signal, sys
left = int(sys.argv[2])
real = os.fsync
def fsync(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
from secure_ai.core.events import EventLog
from secure_ai.files.seal import Seal
from secure_ai.files.write import lock_folder, remove_stale
from pathlib import Path
from secure_ai.runs.engine.execute import Execution, Finished, execute
from secure_ai.runs.engine.stage import Stage, watch_nothing
from secure_ai.runs.engine.store import Store
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
with lock_folder(folder):
    remove_stale(folder)
    events = EventLog(folder / "events.jsonl")
    store = Store(folder / ".store", events, Seal(bytes(32)))
    stages = [
        Stage(id="a", function=lambda work: {"out": b"a" * 5000}),
        Stage(id="b", function=lambda work: {"out": work.inputs["a"]["out"] + b"b", "more": b"x"}, needs=("a",)),
    ]
    execution = Execution(
        store=store, data=None, data_digest=None, precision="auto", events=events, watcher=watch_nothing
    )
    progress = Finished()
    execute(stages, execution, progress)
    assert progress.outputs(store, "b")["out"] == b"a" * 5000 + b"b"
"""


def attempt(folder: Path, fsyncs: int) -> int:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(fsyncs)]
    return subprocess.run(command, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("fsyncs", range(0, 20, 2))
def test_killed_at_any_write_the_next_run_completes(tmp_path: Path, fsyncs: int) -> None:
    folder = tmp_path / "out"
    killed = attempt(folder, fsyncs)
    assert killed in (-signal.SIGKILL, 0)
    store = Store(folder / ".store", ignore_event, Seal(bytes(32)))
    for record in (folder / ".store" / "stages").glob("*.json"):
        assert store.find(record.stem) is not None
    if (folder / "events.jsonl").exists():
        verify_log(folder / "events.jsonl")
    assert attempt(folder, 10**6) == 0
    assert list(folder.rglob(".secure-ai-tmp-*")) == []
    verify_log(folder / "events.jsonl")


def test_the_kill_really_kills(tmp_path: Path) -> None:
    assert attempt(tmp_path / "out", 0) == -signal.SIGKILL


def test_a_run_killed_in_training_resumes_from_its_last_epoch(tmp_path: Path, digit_files: dict[str, Path]) -> None:
    from secure_ai.runs.verbs.run import run

    changes = [f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()]
    changes += ["report_1.epochs=20", 'parts=["report-1"]']
    words = ["run", "--recipe", "quick", "--out", str(tmp_path / "killed")]
    for change in changes:
        words += ["--set", change]
    with subprocess.Popen(
        [sys.executable, "-m", "secure_ai", *words],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        partial = tmp_path / "killed" / ".store" / "partial"
        while not [path for path in partial.glob("*") if len(path.name) == 64] and process.poll() is None:
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    from secure_ai.blue.training.state import state_from_bytes

    key = next(path.name for path in partial.glob("*") if len(path.name) == 64)
    kept = Store(tmp_path / "killed" / ".store", ignore_event, user_seal()).partial(key).read(10**9)
    assert kept is not None
    assert 1 <= state_from_bytes(kept, "kept").epochs_done < 20

    def stop(notice: object) -> None:
        if getattr(notice, "kind", "") == "end":
            raise KeyboardInterrupt

    digests = []
    for name in ("killed", "whole"):
        with pytest.raises(KeyboardInterrupt):
            run("quick", changes=changes, out=tmp_path / name, watcher=stop)
        digests.append((tmp_path / name / "models" / "baseline_cnn.safetensors").read_bytes())
    assert digests[0] == digests[1]
