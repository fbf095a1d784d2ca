"""`secure-ai backdoor remove` and `filter`: how they are called, and their exit codes; the rest is in tests/runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.test_commands import call

import secure_ai
from secure_ai.cli.main import run_command
from secure_ai.core.errors import EXIT_BAD_INPUT, EXIT_INCONCLUSIVE, EXIT_OK
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


MODEL_AND_DATA = [["m.bin", "d.npz"], ["m.bin", "--data", "d.npz"], ["--model", "m.bin", "--data", "d.npz"]]


@pytest.mark.parametrize("words", MODEL_AND_DATA)
def test_model_and_data_of_a_removal_are_words_or_options(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def kept(model: Any, data: str, **settings: Any) -> Removed:
        given.extend((model.model, data, settings["time_budget"]))
        return removed(0.6)

    monkeypatch.setattr(secure_ai, "backdoor_remove", kept)
    more = ["--out", "o", "--fleet", "40", "--time-budget", "10m", "--quiet"]
    assert run_command(["backdoor", "remove", *words, *more]) == EXIT_OK
    assert given == ["m.bin", "d.npz", 600.0]


@pytest.mark.parametrize(("words", "data"), [(["d.npz"], "d.npz"), (["--data", "d.npz"], "d.npz"), ([], "mnist:train")])
def test_data_of_a_filter_are_a_word_or_an_option(
    words: list[str], data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure_ai, "backdoor_filter", lambda data, **_: SimpleNamespace(record={"data": data}))
    code, out, _ = call(capsys, "backdoor", "filter", *words, "--out", "o", "--json")
    assert (code, json.loads(out)) == (0, {"data": data})


@pytest.mark.parametrize("words", [["filter", "d.npz"], ["remove", "m.bin", "d.npz"]])
def test_data_named_twice_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "backdoor", *words, "--data", "e.npz", "--out", "o", "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"], error["where"]) == (EXIT_BAD_INPUT, "E_USAGE", "--data")
