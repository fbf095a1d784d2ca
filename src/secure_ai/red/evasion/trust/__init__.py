"""The trust verdict: checks, effort and probes."""
