"""Backdoors: detectors over models and data, their calibration on clean networks, and removal."""
