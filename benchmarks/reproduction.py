"""The reproduction table of the `standard` recipe, kept as a result.

    scripts/bench reproduction [--out FOLDER]

A folder that holds a finished run is reused, stage by stage.
"""

from __future__ import annotations

import argparse
import json

from _record import save

from secure_ai.report.model import parse_report
from secure_ai.report.render.verdict import verdict_line
from secure_ai.runs.verbs.run import run


def main() -> None:
    """Run, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="secure_ai_outputs")
    arguments = parser.parse_args()
    report = run("standard", out=arguments.out).report
    content = {
        "verdict": verdict_line(parse_report(json.dumps(report).encode(), "report.json")),
        "run": report["run"],
        "data": report["data"],
        "measurements": report["measurements"],
        "reproduction": report["reproduction"],
        "not_tested": report["not_tested"],
    }
    save("reproduction", "scripts/bench reproduction", content)


if __name__ == "__main__":
    main()
