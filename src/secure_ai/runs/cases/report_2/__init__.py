"""Report 2 (MNIST in PyTorch with Foolbox, November 2025)."""
