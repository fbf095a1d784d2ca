"""Stages, their keys, the store, and what executes a plan."""
