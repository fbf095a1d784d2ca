"""What the stages of the recipes do: the two reports, the audit, and `assess`."""
