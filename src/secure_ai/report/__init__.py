"""Results in, documents and pictures out."""
