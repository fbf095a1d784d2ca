"""The documents are run: their commands parse, their links and paths lead somewhere, and their names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_ai.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
PLACEHOLDERS = {"...", "LIST", "NAME"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[str]:
    """The inside of every fenced block."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> Iterator[str]:
    """The inside of every inline code span, on one line."""
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield " ".join(span.split())


def commands(text: str) -> list[list[str]]:
    """Every command line of this tool, as words after `secure-ai`; `./scripts/run X` is `run X`."""
    lines = [line for block in blocks(text) for line in block.splitlines()] + list(spans(text))
    found = []
    for line in lines:
        words = shlex.split(line, comments=True) if "`" not in line and line.count("'") % 2 == 0 else []
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # VARIABLE=value in front
            words = words[1:]
        if words[:1] == ["secure-ai"] and len(words) > 1:
            found.append(words[1:])
        elif words[:1] == ["./scripts/run"]:
            found.append(["run", *words[1:]])
    return found


def parses(words: list[str]) -> None:
    """Bind the words to the command's arguments without running it. Raises cyclopts.CycloptsError."""
    from secure_ai.cli.main import build_app

    build_app().parse_args(words, exit_on_error=False, print_error=False)


ALL_COMMANDS = sorted({(name, tuple(words)) for name in NAMES for words in commands(text_of(name))})


@pytest.mark.parametrize(("name", "words"), ALL_COMMANDS, ids=lambda value: " ".join(value) if value else "")
def test_every_command_line_parses(name: str, words: tuple[str, ...]) -> None:
    parses(list(words))


@pytest.mark.parametrize(
    "words",
    [["run", "--recipee", "quick"], ["attack", "--norm", "linf"], ["fly"], ["data", "show"], ["run", "--n", "x"]],
)
def test_a_wrong_command_line_would_be_seen(words: list[str]) -> None:
    from cyclopts import CycloptsError

    with pytest.raises(CycloptsError):
        parses(words)


def test_the_readme_has_the_two_commands() -> None:
    text = text_of("README.md")
    assert "./scripts/run --recipe quick\n" in next(blocks(text))
    assert {"./scripts/run", "./scripts/test"} <= set(spans(text))
    assert len(ALL_COMMANDS) > 10


def test_the_readme_says_of_every_command_about_a_model_what_it_does_for_the_users_own() -> None:
    others = {"doctor", "data fetch", "data show"}
    section = text_of("README.md").partition("## Your own model")[2]
    assert set(COMMANDS) - others <= set(spans(section))


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smaller_probes: None) -> None:
    """The files that README's commands name, in the working folder."""
    import numpy as np
    import torch

    code = "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(75, 3))\n"
    (tmp_path / "net.py").write_text(code)
    weight = torch.zeros(3, 3, 5, 5)
    weight[torch.arange(3), :, torch.arange(3)] = 1
    torch.save({"1.weight": weight.flatten(1), "1.bias": torch.zeros(3)}, tmp_path / "mine.pt")
    x = np.random.default_rng(0).uniform(0, 0.3, (30, 3, 5, 5)).astype(np.float32)
    y = np.arange(30) % 3
    x[np.arange(30), :, y] += 0.1
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    monkeypatch.chdir(tmp_path)


def test_every_command_of_the_readme_runs(own_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In order, all that are in blocks; those of scripts/ are tested in test_scripts and test_run_end_to_end."""
    from secure_ai.cli.main import run_command

    lines = [line for block in blocks(text_of("README.md")) for line in block.splitlines()]
    ours = [shlex.split(line)[1:] for line in lines if line.startswith("secure-ai ")]
    assert [words[0] for words in ours] == ["doctor", "attack", "run", "threats", "report", "audit", "audit"]
    for words in ours:
        small = ["--set", "assess.n=20", "--set", "assess.curve=[1]"] if words[0] == "run" else []
        code = run_command([*words, *small])
        out, err = capsys.readouterr()
        assert code == 0 or (words[0] == "doctor" and code == 3), (words, code, err)
        assert out, words
    assert (tmp_path / "mine_outputs" / "report.html").is_file()


def links(text: str) -> list[str]:
    """Relative targets of links and pictures."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.split("#")[0] for target in found if not re.match(r"[a-z]+:", target) and not target.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    assert [target for target in links(text_of(name)) if not (folder / target).exists()] == []


def test_a_dead_link_would_be_seen() -> None:
    assert links("see [a](docs/none.md#x), ![b](c.png) and [d](https://example.org)") == ["docs/none.md", "c.png"]


def missing_paths(text: str) -> list[str]:
    """Paths in code spans that end in a slash or a known suffix and exist neither here nor in the package."""
    paths = [span for span in spans(text) if re.fullmatch(r"\w[\w.-]*(/[\w.-]+)*(/|\.(py|md|toml|lock|txt))", span)]
    roots = (ROOT, ROOT / "src" / "secure_ai")
    return [path for path in paths if not any((root / path).exists() for root in roots)]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_path_that_is_named_exists(name: str) -> None:
    own = {"threat_model.md", "net.py", "events.jsonl", "secure-ai.toml"}
    assert [path for path in missing_paths(text_of(name)) if path not in own] == []


def test_a_missing_path_would_be_seen() -> None:
    assert missing_paths("`core/none.py`, `nowhere/`, `core/`, `scripts/lock.py`") == ["core/none.py", "nowhere/"]


def test_scripts_that_are_named_exist() -> None:
    named = {match for name in NAMES for match in re.findall(r"scripts/([a-z]+)\b", text_of(name))}
    assert {"run", "test", "check", "bench", "lock"} <= named
    assert [script for script in sorted(named) if not (ROOT / "scripts" / script).exists()] == []


def named_in_table(text: str) -> set[str]:
    return {match for match in re.findall(r"^\| `([a-z0-9-]+)` \|", text, flags=re.MULTILINE)}


def test_the_attacks_that_are_described_are_those_that_exist() -> None:
    from secure_ai.red.evasion.suite import catalogue

    text = text_of("docs/attacks.md")
    assert named_in_table(text) == {entry.name for entry in catalogue.ATTACKS}
    for name in catalogue.SUITES:
        assert f"`{name}`" in text
    for entry in catalogue.ATTACKS:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{entry.name}` |"))
        assert [setting for setting in entry.settings if f"`{setting}=" not in row] == []
        assert [norm for norm in entry.norms if norm not in row] == []


def test_the_layers_and_networks_that_are_described_are_those_that_exist() -> None:
    from secure_ai.models.networks.built_in import NETWORKS

    text = text_of("docs/models.md")
    assert [name for name in NETWORKS if f"`{name}`" not in text] == []


def test_the_recipes_that_are_named_exist() -> None:
    from secure_ai.runs.recipe.recipe import recipe_names

    named = {words[words.index("--recipe") + 1] for _, words in ALL_COMMANDS if "--recipe" in words}
    assert named <= set(recipe_names())
    assert named


# Words are written in parts, so that this file does not contain them.
FORBIDDEN = re.compile(
    r"pypi\.or[g]|pythonhoste[d]|npmj[s]\.|crates\.i[o]|\bDESIG[N]\b|EVIDENC[E]\.md|GLOSSAR[Y]\.md|FACT[S]\.md|STYL[E]\.md"
    r"|(?i:anthropi[c]|\bclaud[e]\b)|/opt/pyp[i]|/opt/wheel[s]|\.pyen[v]/"
)
TEXTS = sorted(
    path
    for pattern in ("*.md", "*.toml", "*.txt", "*.lock", "docs/**/*.md", "src/**/*", "tests/**/*", "scripts/*",
                    "benchmarks/**/*", ".ci/*")
    for path in ROOT.glob(pattern)
    if path.is_file() and path.suffix in {"", ".py", ".md", ".toml", ".txt", ".lock", ".json", ".j2", ".css", ".html"}
)  # fmt: skip


def test_no_file_names_an_index_host_a_tool_of_the_workplace_or_a_paper_that_is_not_here() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in TEXTS
        for match in FORBIDDEN.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert len(TEXTS) > 50
    assert found == []


@pytest.mark.parametrize("text", ["https://pypi." + "org/simple", "see DESIG" + "N 4", "EVIDENCE" + ".md rule 3"])
def test_a_forbidden_word_would_be_seen(text: str) -> None:
    assert FORBIDDEN.search(text)


def test_the_changelog_has_a_section_for_this_version_or_none_yet() -> None:
    text = text_of("CHANGELOG.md")
    assert re.search(r"^## \[(Unreleased|0\.\d+\.\d+)\]", text, flags=re.MULTILINE)


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) == 11358
