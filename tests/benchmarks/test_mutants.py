"""The table of mutants fits the code, and a mutant that does not is refused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module("mutants")
    for name in set(sys.modules) - before:
        if "benchmarks" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_mutant_changes_one_place_of_the_code_and_names_a_test_that_exists(mutants: ModuleType) -> None:
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
    for mutant in mutants.MUTANTS:
        sound = (ROOT / "src" / "secure_ai" / mutant.file).read_text(encoding="utf-8")
        compile(mutants.mutated(mutant, sound), mutant.file, "exec")
        file, _, test = mutant.tests.partition("::")
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), mutant.tests


def test_a_mutant_that_stands_twice_or_nowhere_or_changes_nothing_is_refused(mutants: ModuleType) -> None:
    mutant = replace(mutants.MUTANTS[0], old="a + b", new="a - b")
    assert mutants.mutated(mutant, "c = a + b\n") == "c = a - b\n"
    for text, changed in (("a + b\na + b\n", mutant), ("c\n", mutant), ("a + b\n", replace(mutant, new="a + b"))):
        with pytest.raises(ValueError, match=mutant.name):
            mutants.mutated(changed, text)
