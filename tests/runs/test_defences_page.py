"""docs/defences.md names the methods that exist."""

from __future__ import annotations

import re
from pathlib import Path

from secure_ai.blue.guards.transforms import TRANSFORMS
from secure_ai.runs.stages.hardening_methods import METHODS

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str) -> dict[str, str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return {m[1]: m[0] for m in re.finditer(r"^\| `([a-z0-9-]+)` \|.*$", text, flags=re.MULTILINE)}


def test_every_method_is_described_with_its_norms_and_options() -> None:
    described = rows("defences.md")
    assert list(described) == list(METHODS)
    for name, method in METHODS.items():
        assert all(norm in described[name] for norm in method.norms)
        assert {o for o in ("adversary", "awp") if f"`--{o}`" in described[name]} == set(method.options)


def test_every_transformation_is_on_the_page_of_what_does_not_hold() -> None:
    assert list(rows("defences-that-do-not-hold.md")) == list(TRANSFORMS)
