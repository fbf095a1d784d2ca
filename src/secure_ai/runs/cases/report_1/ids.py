"""Ids of report 1's networks: no file outside this case names them."""

from __future__ import annotations

from typing import Final

REPORT: Final = "report-1"
BASELINE = f"{REPORT}/baseline"
PUBLISHED = f"{REPORT}/defended-p"  # the version that the published figures come from
LISTING = f"{REPORT}/defended-l"
POISONED = f"{REPORT}/poisoned"
BADNETS = f"{REPORT}/badnets"
