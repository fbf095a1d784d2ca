"""What a notebook shows of the result of `secure_ai.attack`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from secure_ai.core.budget import PerturbationBudget
from secure_ai.core.results import Rate
from secure_ai.core.trust import CheckOutcome, Trust
from secure_ai.report.render.text import cell

Row = Sequence[object]


def attack_html(
    *,
    clean: Rate,
    robust: Rate,
    budget: PerturbationBudget,
    trust: Trust,
    attacks: Sequence[tuple[str, Rate]],
    warning: str = "",
) -> str:
    """A fragment of HTML: both accuracies with the verdict, the worst case after every attack, and what failed.

    Args:
        attacks: text and robust accuracy so far, in the order run.
        warning: that the model is fed otherwise than it was trained; it goes first.
    """
    failed = [(one.id, one.evidence) for one in trust.checks if one.outcome is not CheckOutcome.PASS]
    parts = [f"<p><b>CHECK THE INPUT: {_text(warning)}</b></p>"] if warning else []
    parts += [
        f"<p><b>Robust accuracy {_text(robust)} under {_text(budget)}: {_text(trust.verdict.value)}</b><br>",
        f"clean accuracy {_text(clean)}</p>",
        _table(("attack", "robust accuracy so far"), attacks),
    ]
    if failed:
        parts.append(_table(("check", "why the verdict is not better"), failed))
    return "<div>" + "".join(parts) + "</div>"


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: object) -> str:
    return escape(cell(value))
