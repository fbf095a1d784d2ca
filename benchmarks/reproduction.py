"""The reproduction table of the `standard` recipe, kept as a result.

    scripts/bench reproduction [--out FOLDER]

A folder that holds a finished run is reused, stage by stage.
"""

from __future__ import annotations

import argparse
import json

from _package import report_bytes, run, verdict_line
from _record import save


def main() -> None:
    """Run, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="secure_ai_outputs")
    arguments = parser.parse_args()
    report = run("standard", out=arguments.out).report
    written = json.loads(report_bytes(report))
    kept = ("run", "data", "measurements", "reproduction", "not_tested")
    content = {"verdict": verdict_line(report), **{name: written[name] for name in kept}}
    save("reproduction", "scripts/bench reproduction", content)


if __name__ == "__main__":
    main()
