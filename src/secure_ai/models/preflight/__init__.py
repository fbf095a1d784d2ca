"""Checks on a target before anything is attacked."""
