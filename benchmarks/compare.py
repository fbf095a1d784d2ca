"""What takes longer than it did: the seconds in the result files beside those of an earlier commit.

    scripts/bench --compare [OLD] [NEW]

OLD and NEW are commits (or anything git can name), result files or folders of them; OLD is HEAD, and NEW the files as
they are. Rows are matched by what they are about; seeds of one row are one median. Exit code 1 when any takes over
20 % longer, 2 when there is nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path("benchmarks") / "results"
LIMIT = 0.20
TIMES = ("seconds", "_ms")
NOT_TIMES = ("bound_seconds", "load_before")
NUMBERS_THAT_NAME = ("n", "value", "threads", "batch", "images", "epochs", "steps")
WORDS_THAT_DO_NOT = ("commit", "command", "network_digest", "supports", "text", "reason", "p")

Results = Mapping[str, Mapping[str, Any]]
Times = dict[str, float]


def label(row: Mapping[str, Any]) -> str:
    """What a row is about: its words, truths and those numbers that name it; not what was measured, not the seed."""
    named = [
        f"{key}={value}" if not isinstance(value, str) else value
        for key, value in row.items()
        if (isinstance(value, str) and key not in WORDS_THAT_DO_NOT) or (key in NUMBERS_THAT_NAME and _number(value))
        or (isinstance(value, bool) and key.startswith("busy"))
    ]  # fmt: skip
    return " ".join(named)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _found(content: object, path: str, timed: bool) -> Iterator[tuple[str, float]]:
    """(path, seconds) of everything in `content` that is a time."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key not in NOT_TIMES:
                yield from _found(value, f"{path} / {key}", timed or key.endswith(TIMES))
    elif isinstance(content, list):
        for item in content:
            if isinstance(item, Mapping):
                yield from _found(item, f"{path} / {label(item)}" if label(item) else path, False)
    elif timed and isinstance(content, int | float) and not isinstance(content, bool):
        yield path, float(content)


def times(results: Results) -> Times:
    """Every time in the files by where it stands; several of one place (seeds) become their median."""
    gathered: dict[str, list[float]] = {}
    for name, content in results.items():
        for path, seconds in _found(content, name, False):
            gathered.setdefault(path, []).append(seconds)
    return {path: statistics.median(values) for path, values in gathered.items()}


def compared(old: Times, new: Times) -> list[tuple[str, float, float, float]]:
    """(path, old, new, change) of what stands in both, change as a share of the old."""
    return [
        (path, before, new[path], new[path] / before - 1) for path, before in old.items() if path in new and before > 0
    ]


def machines(old: Results, new: Results) -> list[str]:
    """Files whose machines differ, so that their times are not comparable."""
    return [name for name in old if name in new and old[name].get("machine") != new[name].get("machine")]


def read(where: str | None) -> Results:
    """The result files of a commit, a folder, a single file, or (None) of this checkout."""
    path = ROOT / RESULTS if where is None else Path(where)
    if path.is_file():
        return {path.stem: json.loads(path.read_text(encoding="utf-8"))}
    if path.is_dir():
        return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(path.glob("*.json"))}
    names = _git("ls-tree", "--name-only", f"{where}", f"{RESULTS.as_posix()}/").split()
    return {Path(name).stem: json.loads(_git("show", f"{where}:{name}")) for name in names if name.endswith(".json")}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"secure-ai: {done.stderr.strip()}\n")
        raise SystemExit(2)
    return done.stdout


def main() -> int:
    """Print what differs; the slower ones are marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", default="HEAD")
    parser.add_argument("new", nargs="?")
    arguments = parser.parse_args()
    old, new = read(arguments.old), read(arguments.new)
    rows = compared(times(old), times(new))
    if not rows:
        sys.stderr.write(f"secure-ai: {arguments.old} and {arguments.new or 'the files here'} share no times\n")
        return 2
    for name in machines(old, new):
        print(f"{name}: measured on another machine; its times are not comparable")
    changed = [row for row in rows if row[1] != row[2]]
    for path, before, after, change in sorted(changed, key=lambda row: -row[3]):
        mark = "SLOWER" if change > LIMIT else "faster" if change < -LIMIT else ""
        print(f"{mark:6} {100 * change:+7.1f} %  {before:10.3f} -> {after:10.3f}  {path}")
    slower = sum(change > LIMIT for *_, change in rows)
    print(f"{len(rows)} times in both, {len(changed)} changed, {slower} more than {LIMIT:.0%} slower")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
