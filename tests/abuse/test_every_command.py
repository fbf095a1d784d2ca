"""Every command that reads a file is given contents that are none of its own: an error of ours, and never a traceback.

Exit 1 means findings and 70 a bug, so neither is an answer to a file that cannot be read.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from secure_ai.cli.main import run_command
from secure_ai.core.errors import EXIT_BAD_INPUT, EXIT_INCONCLUSIVE, EXIT_VERIFICATION_FAILED
from secure_ai.core.events import EventLog

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "random": random.Random(0).randbytes(5000),
    "not-utf-8": b'{"a":"\xff\xfe"}',
    "nan": b'{"schema_version":NaN,"kind":NaN}',
    "400-digits": b'{"schema_version":' + b"9" * 400 + b"}",
    "deep-list": b"[" * 100_000,
    "deep-object": b'{"a":' * 50_000,
    "half-a-pair": b'{"a":"\\ud800"}',
    "null": b"null",
    "escape": b'{"a":"\x1b[31m"}\n\x1b]0;title\x07',
    "deep-key": b".".join([b"a"] * 2000) + b" = 1\n",
    "5000-digits": b"seed = " + b"9" * 5000 + b"\n",
    "endless-number": b"seed = inf\neps = nan\n",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip": b"PK\3\4" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(500),
}
BUDGET = ["--norm", "linf", "--eps", "0.1"]
# Name -> words. {file}, {toml}: the hostile content; {run}: a folder whose report, run record and log it is; {alone}:
# one with no record of the run; {data}: sound images; {out}: to be written.
COMMANDS = {
    "attack": ["attack", "{file}", "--data", "{data}", *BUDGET],
    "data": ["data", "show", "{file}"],
    "recipe": ["run", "--recipe", "{toml}"],
    "report": ["report", "{run}"],
    "report-alone": ["report", "{alone}"],
    "threats": ["threats", "show", "{run}"],
    "replay": ["replay", "{run}", "SAI-EV-001"],
    "log": ["audit", "log", "verify", "{file}"],
    "train": ["train", "--arch", "report1-cnn", "--data", "{file}", "--out", "{out}"],
    "scan": ["backdoor", "scan", "--model", "{file}", "--data", "{data}"],
    "filter": ["backdoor", "filter", "--data", "{file}", "--out", "{out}"],
    "certify": ["certify", "--model", "{file}", "--data", "{data}", *BUDGET],
    "harden": ["harden", "--model", "{file}", "--data", "{data}", "--out", "{out}", *BUDGET],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound images, so that it is the model that is refused."""
    path = tmp_path_factory.mktemp("data") / "d.npz"
    np.savez(path, x=np.zeros((400, 28, 28), np.uint8), y=np.arange(400) % 10)
    return path


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_of_another_kind_is_an_error_of_ours(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    places = {"run": tmp_path / "run", "alone": tmp_path / "alone"}
    for folder in places.values():
        folder.mkdir()
        (folder / "report.json").write_bytes(content)
    places |= {name: tmp_path / name for name in ("file", "out")} | {"toml": tmp_path / "a.toml", "data": data}
    for path in (places["file"], places["toml"], places["run"] / "run.json", places["run"] / "events.jsonl"):
        path.write_bytes(content)
    for name, words in COMMANDS.items():
        started = time.process_time()
        status = run_command([word.format(**places) for word in words])
        said = "".join(capsys.readouterr())
        assert status in (EXIT_BAD_INPUT, EXIT_INCONCLUSIVE, EXIT_VERIFICATION_FAILED), (name, said)
        assert "Traceback" not in said, name
        assert "\x1b[31m" not in said, name
        assert "\x1b]0" not in said, name
        assert not places["out"].exists(), name
        assert time.process_time() - started < 10, name


def test_a_log_of_the_tool_itself_is_verified(tmp_path: Path) -> None:
    """The control of the rows above for one command; the others have theirs where they are tested."""
    log = tmp_path / "events.jsonl"
    EventLog(log)("kind", {})
    assert run_command(["audit", "log", "verify", str(log)]) == 0
    log.write_bytes(b"")
    assert run_command(["audit", "log", "verify", str(log)]) == EXIT_VERIFICATION_FAILED
