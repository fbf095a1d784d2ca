"""Defaults that the command line shows: here, so that its help needs no torch."""

from __future__ import annotations

ATTACK = "fast"
OUT = "secure_ai_outputs"
