"""`python -m secure_ai`: the same as the `secure-ai` command."""

from __future__ import annotations

from secure_ai.cli.main import main

if __name__ == "__main__":
    main()
