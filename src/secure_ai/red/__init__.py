"""Attacks: evasion and poisoning."""
