"""The planted trigger's success, measured by a process of its own: the one that repairs never has the trigger."""

from __future__ import annotations

import json
import subprocess  # starts only this Python, with a fixed list of arguments
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secure_ai.core.errors import ChildFailedError
from secure_ai.core.events import ignore_event
from secure_ai.core.results import Rate, rate
from secure_ai.data.source import load_data
from secure_ai.data.triggers import parse_trigger, stamp
from secure_ai.files.write import write_json
from secure_ai.models.target.evaluate import evaluate
from secure_ai.red.poisoning.plant import backdoor_success_rate
from secure_ai.runs.backdoors.repair import parts_of
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.user_model import load_subject, target_for

CHILD = "secure_ai.runs.backdoors.planted"


def measured_apart(
    models: Mapping[str, ModelSpec], data: Mapping[str, Any], trigger: str, label: int
) -> dict[str, Rate]:
    """Success of a trigger on the images that a repair was measured on, for each model, by name.

    Args:
        data: the arguments `data`, `split`, `n`, `resize` and `seed` of the repair.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        specs = {name: spec.as_json() for name, spec in models.items()}
        write_json(request, {"models": specs, "data": dict(data), "trigger": trigger, "label": label})
        # -P: a file of the current folder, e.g. torch.py, is no module
        words = [sys.executable, "-P", "-m", CHILD, str(request), str(answer)]
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode or not answer.exists():
            got = done.stderr.decode(errors="replace").strip()[-500:]
            raise ChildFailedError("the process that measures the planted trigger failed", where=CHILD, got=got)
        found = json.loads(answer.read_text(encoding="utf-8"))
    return {name: rate(int(hits), int(n)) for name, (hits, n) in found.items()}


def main(request: Path, answer: Path) -> None:
    """Read what is asked, measure, write hits and number of images of each model."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    own = asked["data"]
    whole = load_data(own["data"], split=own["split"], n=own["n"], resize=own["resize"], seed=own["seed"])
    held_out = parts_of(whole, own["seed"])[2]
    labels, trigger = np.asarray(held_out.labels), parse_trigger(asked["trigger"])
    found = {}
    for name, fields in asked["models"].items():
        lists: dict[str, Any] = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        spec = ModelSpec(**(fields | lists))
        target = target_for(load_subject(spec, whole, ignore_event), whole, spec)
        shown = evaluate(target, stamp(held_out.images, trigger), labels).predictions
        success = backdoor_success_rate(shown, labels, asked["label"], classes=target.num_classes)
        found[name] = (success.successes, success.n)
    write_json(answer, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
