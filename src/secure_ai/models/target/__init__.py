"""The model under attack as something with logits, and what wraps it."""
