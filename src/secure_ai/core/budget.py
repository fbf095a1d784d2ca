"""The perturbation budget: how far an attack may move an input, in units of pixels in [0, 1]."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from secure_ai.core.errors import BudgetError

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
MAX_EPS_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class PerturbationBudget:
    """`eps` is the largest allowed distance in `norm`, per sample, on pixels in [0, 1].

    Attributes:
        eps_text: eps as the user wrote it, so that `8/255` stays `8/255`.
    """

    norm: Norm
    eps: float
    eps_text: str = ""

    def __post_init__(self) -> None:
        """Check what does not depend on the image. Raises BudgetError."""
        if self.norm not in NORMS:
            raise BudgetError("unknown norm", where="norm", expected=" or ".join(NORMS), got=self.norm)
        if not math.isfinite(self.eps) or self.eps < 0:
            raise BudgetError("eps must be a finite number, not negative", where="eps", expected=">= 0", got=self.eps)
        if not self.eps_text:
            object.__setattr__(self, "eps_text", f"{self.eps:g}")

    def as_json(self) -> dict[str, Any]:
        """`{"norm", "eps", "eps_text"}`."""
        return {"norm": self.norm, "eps": self.eps, "eps_text": self.eps_text}

    def __str__(self) -> str:
        """E.g. `linf 8/255`."""
        return f"{self.norm} {self.eps_text}"


def parse_eps(text: str) -> float:
    """A decimal or a fraction such as `8/255`. Raises BudgetError for anything else."""
    try:
        if len(text) > MAX_EPS_CHARACTERS or not text.isascii() or "_" in text:
            raise ValueError(text)
        top, slash, bottom = text.partition("/")
        # float() first: Fraction would write out the integer behind 1e99999999.
        value = float(top) / float(bottom) if slash else float(top)
        if not math.isfinite(value):
            raise ValueError(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise BudgetError(
            "eps is not a number", where="--eps", expected="a decimal or a fraction such as 8/255", got=text
        ) from None
    return value


def written_like(eps: float, text: str) -> str:
    """`eps` in the form of `text`: 4/255 where `text` is 8/255."""
    _, slash, bottom = text.partition("/")
    return f"{eps * float(bottom):.6g}/{bottom}" if slash else f"{eps:g}"


def largest_budget(norm: Norm, dimensions: int) -> PerturbationBudget:
    """The whole of [0, 1] for images of `dimensions` values: no distance is larger."""
    reach = {"linf": 1.0, "l2": math.sqrt(dimensions), "l1": float(dimensions), "l0": float(dimensions)}
    return PerturbationBudget(norm, reach[norm])


def parse_budget(norm: str, eps: str | float, dimensions: int, *, allow_zero: bool = False) -> PerturbationBudget:
    """A checked budget for images of `dimensions` values (channels times height times width).

    Args:
        norm: linf, l2, l1 or l0.
        eps: number or text, e.g. `8/255`; linf in (0, 1], l2 in (0, sqrt(d)], l1 in (0, d], l0 a whole number up to d.
        dimensions: d, at least 1.
        allow_zero: true only for the grid of a security curve.

    Raises:
        BudgetError: an unknown norm, or eps outside its norm's range.
    """
    text, norm = str(eps), norm.lower()  # Linf, L2
    if norm not in NORMS:
        near = difflib.get_close_matches(norm, NORMS, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise BudgetError("unknown norm", where="--norm", expected=" or ".join(NORMS), got=norm, hint=hint)
    value, largest = parse_eps(text), largest_budget(norm, dimensions).eps
    if not (0 < value <= largest or (allow_zero and value == 0)):
        raise BudgetError(
            f"eps is outside the range of {norm}",
            where="--eps",
            expected=f"in (0, {largest:g}]",
            got=text,
            hint=f"pixels are in [0, 1]: {text}/255?" if norm == "linf" and 1 < value <= 255 else "",
        )
    if norm == "l0" and value != int(value):
        raise BudgetError(
            "an l0 eps counts values, of all channels", where="--eps", expected="a whole number", got=text
        )
    return PerturbationBudget(norm, value, text)
