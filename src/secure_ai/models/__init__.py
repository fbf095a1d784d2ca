"""Networks, targets (anything with logits), loading and saving."""
