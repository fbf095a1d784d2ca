"""Probes that ask whether attacks can work on a network at all, one idea a file; `diagnose` runs them all."""
