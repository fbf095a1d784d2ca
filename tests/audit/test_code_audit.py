"""The code audit: what it finds, what it lists as not checked, and that the audited code cannot talk it out of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import secure_ai
from secure_ai.audit import bandit, inventory
from secure_ai.audit.code import EMPTY_ID, UNCHECKED_ID, CodeAudit, audit_code
from secure_ai.audit.triage import OWN_PACKAGE, Triage, find_triage
from secure_ai.core.errors import ChildFailedError, FileMissingError, SizeLimitError
from secure_ai.core.findings import Finding, Outcome, Severity, exceeds

UNPICKLE = "import pickle\n\n\ndef load(path):\n    with open(path, 'rb') as s:\n        return pickle.load(s)\n"
CLEAN = "def double(x):\n    return 2 * x\n"


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def by_id(audit: CodeAudit, identifier: str) -> list[Finding]:
    return [finding for finding in audit.findings if finding.id == identifier]


def test_a_known_weakness_is_found_with_place_severity_and_weakness_id(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"inner/cache.py": UNPICKLE, "b.py": CLEAN}))
    assert (audit.outcome, audit.files, audit.lines, audit.skipped) == (Outcome.FINDINGS, 2, 6, ())
    (found,) = by_id(audit, "BANDIT-B301")
    assert found.severity is Severity.MEDIUM
    assert found.location == "inner/cache.py:6"
    assert found.taxonomy == ("CWE-502",)
    assert found.evidence["code"] == "return pickle.load(s)"
    assert not found.planted
    assert json.loads(audit.bandit_json)["results"]
    assert b"B301" in audit.bandit_txt


def test_clean_code_is_clean(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"a.py": CLEAN}))
    assert (audit.outcome, audit.findings, audit.files, audit.lines, audit.nosec) == (Outcome.CLEAN, (), 1, 2, 0)


def test_no_python_file_is_an_error_and_not_clean(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"readme.txt": "hello"}))
    assert audit.outcome is Outcome.ERROR
    assert [finding.id for finding in audit.findings] == [EMPTY_ID]


def test_only_unparsable_files_is_not_checked(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"bad.py": "def (:\n"}))
    assert (audit.outcome, audit.files, audit.lines) == (Outcome.NOT_CHECKED, 0, 0)
    assert [finding.id for finding in audit.findings] == [UNCHECKED_ID]


def test_what_cannot_be_checked_is_a_finding_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"good.py": CLEAN, "syntax.py": "def (:\n", "bytes.py": b"\xff\xfe\x00", "note.ipynb": "{}"})
    (tmp_path / "away.py").symlink_to("/etc/hostname")
    (tmp_path / "linked").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.py")
    os.link(tmp_path / "good.py", tmp_path / "twin.py")
    audit = audit_code(tmp_path)
    names = {"syntax.py", "bytes.py", "note.ipynb", "away.py", "linked", "pipe.py", "good.py", "twin.py"}
    assert {item.location for item in audit.skipped} == names
    assert {finding.location for finding in by_id(audit, UNCHECKED_ID)} == names
    assert audit.outcome is Outcome.NOT_CHECKED
    assert all(item.reason for item in audit.skipped)


def test_one_bad_file_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"bad.py": "def (:\n", "cache.py": UNPICKLE}))
    assert (audit.outcome, audit.files) == (Outcome.FINDINGS, 1)
    assert by_id(audit, "BANDIT-B301")
    assert by_id(audit, UNCHECKED_ID)


def test_a_nosec_comment_hides_nothing_and_is_counted(tmp_path: Path) -> None:
    hidden = UNPICKLE.replace("load(s)", "load(s)  # nosec")
    audit = audit_code(write(tmp_path, {"a.py": hidden}))
    (found,) = by_id(audit, "BANDIT-B301")
    assert found.evidence["nosec"] is True
    assert audit.nosec == 1  # the one marked line, not the import above it


def test_a_bandit_settings_file_in_the_audited_code_is_not_read(tmp_path: Path) -> None:
    settings = {".bandit": "[bandit]\nskips: B301,B403\n", "pyproject.toml": "[tool.bandit]\nskips = ['B301']\n"}
    assert by_id(audit_code(write(tmp_path, {"a.py": UNPICKLE, **settings})), "BANDIT-B301")


def test_the_audited_code_is_not_run(tmp_path: Path) -> None:
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    write(tmp_path, {"a.py": trap, "sitecustomize.py": trap, "bandit.py": trap, "json.py": trap})
    assert audit_code(tmp_path).files == 4
    assert not (tmp_path / "ran").exists()


def test_scripts_without_a_suffix_are_checked(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"tool": "#!/usr/bin/env python3\nassert 1\n", "notes": "assert 1\n"}))
    assert [finding.location for finding in audit.findings] == ["tool:2"]


def test_a_single_file_can_be_audited(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": UNPICKLE, "b.py": "assert 1\n"})
    audit = audit_code(tmp_path / "a.py")
    assert audit.files == 1
    assert {finding.location.split(":")[0] for finding in audit.findings} == {"a.py"}


def test_what_is_left_out_is_listed_and_nothing_is_left_out_unasked(tmp_path: Path) -> None:
    files = {"a.py": CLEAN, ".venv/lib/x.py": UNPICKLE, ".git/y.py": UNPICKLE, "__pycache__/z.py": UNPICKLE}
    write(tmp_path, files)
    assert set(inventory.take_inventory(tmp_path).sources) == set(files)
    audit = audit_code(tmp_path, exclude=[".venv", ".git", "__pycache__"])
    assert (audit.files, audit.outcome) == (1, Outcome.CLEAN)
    assert sorted(audit.excluded) == [".git", ".venv", "__pycache__"]


def test_no_absolute_path_gets_into_the_reports(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"a.py": UNPICKLE, "bad.py": "def (:\n"}))
    for text in (audit.bandit_txt.decode(), audit.bandit_json.decode(), *(f.location for f in audit.findings)):
        assert str(tmp_path) not in text
        assert "/tmp" not in text


def test_the_digest_follows_names_and_contents_only(tmp_path: Path) -> None:
    first = inventory.take_inventory(write(tmp_path / "one", {"a.py": CLEAN, "b.py": UNPICKLE})).digest
    same = inventory.take_inventory(write(tmp_path / "two", {"b.py": UNPICKLE, "a.py": CLEAN, "data.bin": "x"})).digest
    renamed = inventory.take_inventory(write(tmp_path / "three", {"c.py": CLEAN, "b.py": UNPICKLE})).digest
    edited = inventory.take_inventory(write(tmp_path / "four", {"a.py": CLEAN + "\n", "b.py": UNPICKLE})).digest
    assert first == same
    assert len({first, renamed, edited}) == 3


def test_the_audit_is_recorded(tmp_path: Path) -> None:
    seen: list[tuple[str, Mapping[str, Any]]] = []
    audit = audit_code(write(tmp_path, {"a.py": UNPICKLE}), events=lambda kind, data: seen.append((kind, data)))
    assert seen == [
        ("code_audit", {"files": 1, "lines": 4, "findings": 2, "outcome": "findings", "sha256": audit.digest})
    ]


def test_sources_that_break_parsers_are_listed(tmp_path: Path) -> None:
    write(tmp_path, {"deep.py": "(" * 5000 + ")" * 5000, "long.py": "x = " + "-" * 20_000 + "1\n", "null.py": "a\0b\n"})
    audit = audit_code(write(tmp_path, {"cache.py": UNPICKLE}))
    assert {item.location for item in audit.skipped} == {"deep.py", "long.py", "null.py"}
    assert by_id(audit, "BANDIT-B301")


def test_names_that_could_forge_lines_are_shown_escaped(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"a\nb.py": UNPICKLE, "café.py": UNPICKLE}))
    assert [item.location for item in audit.skipped] == ["a\\nb.py"]
    assert by_id(audit, "BANDIT-B301")[0].location == "café.py:6"


def test_a_missing_path_and_too_much_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileMissingError):
        audit_code(tmp_path / "nothing")
    write(tmp_path, {"a.py": CLEAN, "b.py": CLEAN})
    monkeypatch.setattr(inventory, "MAX_FILES", 1)
    with pytest.raises(SizeLimitError):
        audit_code(tmp_path)


def test_a_large_file_is_listed_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_FILE_BYTES", 100)
    audit = audit_code(write(tmp_path, {"a.py": CLEAN, "large.py": "x = 1\n" * 100}))
    assert [item.location for item in audit.skipped] == ["large.py"]
    assert audit.files == 1


def test_a_tool_that_does_not_finish_is_an_error() -> None:
    with pytest.raises(ChildFailedError, match="in time"):
        bandit.run_bandit({"a.py": b"x = 1\n"}, timeout_s=0.001)


def test_a_tool_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ChildFailedError, match="Bandit failed"):
        bandit.run_bandit({"a.py": b"x = 1\n"})


def test_triage_explains_a_finding_and_keeps_it(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": UNPICKLE, "b.py": UNPICKLE})
    rows = (Triage("B301", "a.py", "kept to show it", planted=True),)
    first, second = sorted(by_id(audit_code(tmp_path, triage=rows), "BANDIT-B301"), key=lambda f: f.location)
    assert (first.evidence["triage"], first.planted) == ("kept to show it", True)
    assert ("triage" in second.evidence, second.planted) == (False, False)
    assert find_triage(rows, "B403", "a.py") is None


def test_every_finding_in_this_package_has_its_reason() -> None:
    audit = audit_code(Path(secure_ai.__file__).parent, exclude=["__pycache__"], triage=OWN_PACKAGE)
    assert audit.files > 50
    assert audit.skipped == ()
    assert audit.nosec == 0
    unexplained = [(finding.id, finding.location) for finding in audit.findings if "triage" not in finding.evidence]
    assert unexplained == []
    assert by_id(audit, "BANDIT-B301")[0].planted
    assert exceeds(audit.findings, "low")
    assert not exceeds(audit.findings, "high")


FOREIGN: dict[str, bytes] = {
    "evil.pyc": b"\xa7\r\r\n", "lib/evil.so": b"\x7fELF", "evil.pth": b"import os; os.abort()\n", "run.sh": b"id\n",
    "tool": b"#!/bin/sh\nid\n", "native": b"\x7fELF\2\1\1", "PACK.WHL": b"PK", "fast.pyx": b"def f(): pass\n",
}  # fmt: skip


def test_what_can_run_and_is_no_python_source_is_named_and_not_called_clean(tmp_path: Path) -> None:
    audit = audit_code(write(tmp_path, {"ok.py": CLEAN, "readme.txt": "id", "data.bin": b"\x7fELF", **FOREIGN}))
    assert (audit.outcome, audit.files) == (Outcome.FINDINGS, 1)
    assert {item.location for item in audit.skipped} == set(FOREIGN)
    assert all(finding.id == UNCHECKED_ID for finding in audit.findings)


def test_many_files_of_one_kind_in_one_folder_are_one_entry(tmp_path: Path) -> None:
    compiled = {f"pkg/__pycache__/m{i}.cpython-311.pyc": b"x" for i in range(50)}
    (item,) = audit_code(write(tmp_path, {"a.py": CLEAN, **compiled})).skipped
    assert item.location == "pkg/__pycache__"
    assert "50 files" in item.reason


def test_only_what_can_run_but_not_be_checked_is_not_checked(tmp_path: Path) -> None:
    assert audit_code(write(tmp_path, {"evil.so": b"\x7fELF"})).outcome is Outcome.NOT_CHECKED


def test_bandit_has_a_memory_limit_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandit, "MAX_MEMORY_BYTES", 20 * 1024 * 1024)
    with pytest.raises(ChildFailedError, match="Bandit failed"):
        bandit.run_bandit({"a.py": b"x = 1\n"})
    seen: list[Any] = []

    def run(*_: Any, **options: Any) -> Any:
        seen.append(options["env"])
        return subprocess.CompletedProcess([], 2, b"", b"no")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with pytest.raises(ChildFailedError):
        bandit.run_bandit({"a.py": b"x = 1\n"})
    assert len(seen) == 2
    assert all(set(environment) == {"PATH", "LANG", "HOME", "TMPDIR"} for environment in seen)
