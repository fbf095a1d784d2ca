"""`secure-ai backdoor remove`: what its exit code and its last line say; the removal itself is in tests/runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.test_commands import call

import secure_ai
from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK
from secure_ai.core.results import rate
from secure_ai.runs.backdoors.repair import State
from secure_ai.runs.verbs.backdoor_remove import Removed


def removed(class_p: float | None) -> Removed:
    before = State(rate(98, 100), rate(95, 100), rate(5, 100), 9.0, 0.01, rate(99, 100))
    after = State(rate(97, 100), rate(1, 100), rate(95, 100), 1.0, class_p, rate(30, 100))
    return Removed("sau", 7, before, after, {"sau": after}, {}, None, "out.safetensors", None)


@pytest.mark.parametrize(
    ("class_p", "expected"), [(0.6, EXIT_OK), (0.02, EXIT_INCONCLUSIVE), (None, EXIT_INCONCLUSIVE)]
)
def test_a_backdoor_that_may_be_there_still_is_exit_code_3(
    class_p: float | None, expected: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(secure_ai, "backdoor_remove", lambda *given, **settings: removed(class_p))
    words = ["backdoor", "remove", "m.safetensors", "--data", "mnist:train", "--out", str(tmp_path / "o"), "--quiet"]
    code, out, _ = call(capsys, *words)
    assert (code, "exit 3" in out) == (expected, expected == EXIT_INCONCLUSIVE)
    code, out, _ = call(capsys, *words, "--json")
    assert (code, len(json.loads(out)["doubts"])) == (expected, int(expected == EXIT_INCONCLUSIVE))
