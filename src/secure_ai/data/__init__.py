"""Data sets in, digests, splits, triggers."""
