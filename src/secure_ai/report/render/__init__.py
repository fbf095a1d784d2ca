"""Documents and pictures from a report."""
