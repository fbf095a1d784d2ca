"""Model files: read, judged, rebuilt and saved."""
