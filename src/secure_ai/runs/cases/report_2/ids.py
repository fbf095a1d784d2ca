"""Ids of report 2's networks: no file outside this case names them."""

from __future__ import annotations

from typing import Final

REPORT: Final = "report-2"
BASELINE = f"{REPORT}/baseline"
POISONED = f"{REPORT}/poisoned"
DEFENDED = f"{REPORT}/defended"
