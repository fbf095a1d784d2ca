"""Certificates: bounds that no attack can pass, by intervals and by randomised smoothing."""
