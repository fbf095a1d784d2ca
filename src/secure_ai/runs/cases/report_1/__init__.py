"""Report 1 (MNIST in Keras with ART, November 2025)."""
