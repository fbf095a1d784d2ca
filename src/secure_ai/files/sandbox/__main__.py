"""Where a child starts."""

from secure_ai.files.sandbox.child import main

if __name__ == "__main__":
    main()
