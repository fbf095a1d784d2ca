"""Attacks on training data: planting backdoors."""
