"""The model scan as commands and runs use it: control networks from the package or the user's cache, and the scan."""
