"""The command line: parse, one call, render, exit code. The only code that prints."""
