"""What attacks share: projections, losses, gradients, bookkeeping of active samples."""
