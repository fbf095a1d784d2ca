"""The examples and every block of docs/python.md run, on small data."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "own_module": {"n": 24},
    "data_loader": {"n": 96},
    "adversarial_training": {"n": 200, "steps": 40},
    "robust_training_loop": {},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smaller_probes: None) -> None:
    """Files are written to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_an_example_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](**SIZES[name])
    out = capsys.readouterr().out
    if name == "own_module":
        assert int(re.findall(r"(\d+) of 24", out)[0]) > 12
    elif name == "data_loader":
        assert {path.name for path in tmp_path.iterdir()} == {"report.json", "examples.npz"}
    elif name == "robust_training_loop":
        assert all(float(share) > 90 for share in re.findall(r"([\d.]+)% of 200", out))
    else:
        plain, hardened = (int(count) for count in re.findall(r"(\d+) under", out))
        assert hardened > plain + 15


def test_every_block_of_the_page_runs_in_order() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("\n```\n") == 6
    names: dict[str, object] = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()) as said, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for number, block in enumerate(blocks):
            exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    assert "E_BUDGET" in said.getvalue()


def test_every_function_that_the_page_names_exists() -> None:
    import secure_ai

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`secure_ai\.(\w+)", text))
    public = {name for name in secure_ai.__all__ if not name.startswith("_")}
    assert named - public == set()
    assert public - named - {"ModelSpec"} == set()
