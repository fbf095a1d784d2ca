"""`secure-ai doctor`."""

from __future__ import annotations

import secure_ai
from secure_ai.cli.options import CommonOptions
from secure_ai.cli.render import print_json, print_table
from secure_ai.core.errors import EXIT_INCONCLUSIVE, EXIT_OK


def doctor(
    *,
    common: CommonOptions = CommonOptions(),  # noqa: B008  # frozen
) -> int:
    """Check this installation: what works, and what to do about the rest. Exit 3 if something does not work."""
    diagnosis = secure_ai.doctor()
    if common.json:
        print_json(diagnosis.as_json())
    else:
        rows = [(one.id, one.status, one.found, one.todo) for one in diagnosis.examined]
        print_table("this installation", ("what", "status", "found", "what to do"), rows)
    return EXIT_OK if diagnosis.healthy else EXIT_INCONCLUSIVE
