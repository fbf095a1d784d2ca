"""Suites of attacks: parsed, run in shards, verified and merged."""
