"""Rules that compare published figures with measured ones."""
