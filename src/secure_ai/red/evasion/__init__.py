"""Attacks on inputs at test time, and the harness that trusts none of them."""
