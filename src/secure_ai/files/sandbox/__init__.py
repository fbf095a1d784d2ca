"""Work on hostile bytes in a child process that is confined, limited, and dies alone. See docs/sandbox.md."""

from secure_ai.files.sandbox.child import answer_request
from secure_ai.files.sandbox.confine import Confinement, Layer
from secure_ai.files.sandbox.launch import ChildAnswer, run_child, sandbox_required

__all__ = ["ChildAnswer", "Confinement", "Layer", "answer_request", "run_child", "sandbox_required"]
