"""What `import secure_ai` offers: lazy at run time, typed for editors, a twin for every command."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import secure_ai
from secure_ai.cli.main import COMMANDS
from secure_ai.runs.verbs.harden_options import HardenOptions

PACKAGE = Path(secure_ai.__file__).parent
ROOT = Path(__file__).resolve().parent.parent
TWINS = {
    "audit log verify": "audit_log_verify",
    "report": "read_report",
    "threats show": "threats_show",
}
"""Commands whose function has another name: `report` and `threats` are packages."""

SCRIPT = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secure_ai

net = nn.Linear(4, 2)
x, y = torch.rand(8, 1, 2, 2), torch.arange(8) % 2
x_adv: torch.Tensor = secure_ai.attacks.pgd(net, x, y, norm="linf", eps=8 / 255, steps=10, target_label=1)
report = secure_ai.attack(net, (x, y), norm="linf", eps="8/255", mean=[0.5], std=[0.5], device="cpu")
value: float | None = report.robust_accuracy.value
verdict: str = report.trust.verdict
examples: np.ndarray = report.examples.x_adv
secure_ai.attack("m.pt", DataLoader(TensorDataset(x, y)), arch="net.py:build", norm="l2", eps=1)
secure_ai.attack(lambda images: images, "mnist:test~100", norm="l0", eps=3, attack="fast")
trained = secure_ai.train("report1-cnn", "mnist:train", out="m.safetensors", device="auto")
digest: str = trained.digest
seconds: float = secure_ai.forecast("quick").seconds
code: int = secure_ai.run("quick", out="o", device="cpu").exit_code
record = secure_ai.backdoor_plant("mnist:train", trigger="t", target_label=1, out="o", poison_rate=0.1).record
audit, exit_code = secure_ai.audit_code("src")
records: int = secure_ai.audit_log_verify("events.jsonl").records
secure_ai.data_fetch()
n: int = len(secure_ai.load_data("mnist:test"))
shape = secure_ai.data_show("mnist:test")["shape"]
healthy: bool = secure_ai.doctor().healthy
same: bool = secure_ai.replay("o", "SAI-EV-001").exit_code == 0
hard: nn.Module = secure_ai.harden(net, "mnist:train", norm="linf", eps=0.3, method="trades", epochs=2, device="auto")
steps: list[int] = secure_ai.hardened(net, "mnist:train", norm="linf", eps="8/255", out="h.safetensors").checks.step
certified: float | None = secure_ai.certify(hard, "mnist:test", norm="linf", eps=0.1, method="ibp").certified.value
suspected: str = secure_ai.backdoor_scan(net, "mnist:test", fleet=20, device="cpu").scan.verdict.value
suspicious: np.ndarray = secure_ai.backdoor_filter("mnist:train", out="o", trusted="mnist:test").suspicious
chosen: str = secure_ai.backdoor_remove(net, "mnist:train", out="r.safetensors").chosen
refused: np.ndarray = secure_ai.input_guard(net, (x, y), method="strip")(examples).refused
squeezed: torch.Tensor = secure_ai.Transformed(net, "bits", straight_through=True)(x)
spec = secure_ai.ModelSpec(model="m.pt", arch="net.py:build", mean=(0.5,), std=(0.2,))
secure_ai.attack(spec, "mnist:test~100", norm="linf", eps=0.1)
document = secure_ai.read_report("o")
page: str = secure_ai.render_report("o", "md")
register = secure_ai.threats_show("o")
step: float = secure_ai.training.pgd_step(
    net, torch.optim.Adam(net.parameters()), x, y, norm="linf", eps=0.1, steps=3, generator=torch.Generator()
)
"""
WRONG = """
import secure_ai

secure_ai.attacks.pgd(None, 1, 2, norm="linf")
secure_ai.attack(lambda x: x, "mnist:test", norm="max", eps=1)
secure_ai.atack
secure_ai.harden(None, "mnist:train", norm="linf", eps=0.1, epoch=3)
"""


MODULES = ["attacks", "training"]


def test_the_script_calls_every_function() -> None:
    assert [name for name in public() if name not in MODULES and f"secure_ai.{name}(" not in SCRIPT] == []


def test_the_options_of_harden_are_the_keywords_of_hardened() -> None:
    keywords = inspect.signature(secure_ai.hardened).parameters.values()
    assert set(HardenOptions.__annotations__) == {p.name for p in keywords if p.kind is p.KEYWORD_ONLY}


def public() -> list[str]:
    return [name for name in secure_ai.__all__ if not name.startswith("__")]


def test_every_command_has_its_function() -> None:
    missing = {name for name in COMMANDS if TWINS.get(name, name.replace(" ", "_")) not in public()}
    assert missing == set()
    assert all(callable(getattr(secure_ai, name)) for name in public() if name not in MODULES)


def test_type_checkers_see_the_names_that_there_are() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name for name in seen if name} == set(public())


def test_no_other_public_name_is_also_a_module_of_the_package() -> None:
    assert [n for n in public() if importlib.util.find_spec(f"secure_ai.{n}")] == MODULES
    assert importlib.util.find_spec("secure_ai.report")  # else the line above could not fail


def test_the_import_is_lazy() -> None:
    code = "import secure_ai, sys; dir(secure_ai); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError):
        _ = secure_ai.atack  # type: ignore[attr-defined]


def test_mypy_passes_on_a_script_that_calls_every_function(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}"]  # warm after a check
    out, _, code = api.run([*options, str(tmp_path / "good.py"), str(tmp_path / "wrong.py")])
    lines = [line for line in out.splitlines() if ": error:" in line]
    assert [line for line in lines if "good.py" in line] == [], out
    wrong = [line for line in lines if "wrong.py" in line]
    assert {line.split(":")[1] for line in wrong} == {"4", "5", "6", "7"}
    assert code == 1
