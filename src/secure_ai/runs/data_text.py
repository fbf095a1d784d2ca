"""`--data` and `--n` as one text, for recipes."""

from __future__ import annotations

from secure_ai.core.errors import UsageError


def as_one_text(data: str, n: int | None) -> str:
    """`mnist:test` and 100 as `mnist:test:100`. Raises UsageError where `n` cannot be joined to the source."""
    if n is None:
        return data
    if not data.startswith("mnist:") or "~" in data or data.count(":") > 1:
        raise UsageError("--n does not go with this source here", where="--n", expected="mnist:train or mnist:test",
                         got=data, hint="say how many in --data, e.g. mnist:test:500")
    return f"{data}:{n}"
