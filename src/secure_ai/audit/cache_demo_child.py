"""The child of the cache demonstration: the one place that unpickles, on a file whose digest its parent gave it.

Run by `files.sandbox` in an empty folder with limits, never imported.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from secure_ai.audit.cache_demo import CANARY_NAME, checked_bytes
from secure_ai.files.sandbox import answer_request


def unpickle(request: bytes) -> bytes:
    """Load the pickle that the request holds, and tell whether a canary appeared in this folder.

    Raises:
        DigestMismatchError: the file is not the one that was announced; nothing is unpickled.
    """
    content = checked_bytes(request)
    canary = Path(CANARY_NAME)
    before = canary.exists()
    pickle.loads(content)  # noqa: S301  # this is what the demonstration shows
    ran = canary.exists() and not before
    text = canary.read_text(encoding="utf-8") if ran else ""
    return json.dumps({"unpickled": True, "code_ran": ran, "canary": text}).encode()


if __name__ == "__main__":
    answer_request(unpickle)
