"""Results on the terminal: the verdict first, then tables."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from secure_ai.core.errors import printable
from secure_ai.core.labels import class_text
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.core.sections import Section
from secure_ai.core.trust import Check, CheckOutcome, input_warning, not_passed
from secure_ai.report.model import Report, report_bytes
from secure_ai.report.render.text import Words, cell, column_title, not_reused, seconds_text, text_rows, trust_words
from secure_ai.report.render.verdict import verdict_line
from secure_ai.report.render.worst import worst_things
from secure_ai.report.sections import main_sections, not_tested_section

if TYPE_CHECKING:  # the verbs' modules import torch
    from secure_ai.runs.verbs.attack import AttackReport
    from secure_ai.runs.verbs.replay_found import Replayed
    from secure_ai.runs.verbs.run import Forecast, RunResult

MAX_LINE_CHARACTERS = 10_000
MOST_NAMES = 12  # of classes in one line
SUMMARY_LINES = 15  # of the end of a run at 80 columns; preflight gets what the others leave
SUMMARY_WIDTH = 80
VERDICT_LINES, WORST_LINES, UNTESTED_LINES, LAST_LINES = 5, 2, 2, 2
STYLES = {"reliable": "green", "doubtful": "yellow", "broken": "red"}


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


@contextlib.contextmanager
def stdout_is_for_json(as_json: bool) -> Iterator[None]:
    """With `--json`, what the user's own code prints goes to stderr."""
    if not as_json:
        yield
        return
    real = sys.stdout is sys.__stdout__ and sys.stdout is not None
    kept = os.dup(1) if real else -1
    try:
        if real:
            os.dup2(2, 1)  # what native code writes goes there too
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if real:
            os.dup2(kept, 1)
            os.close(kept)


def print_lines(lines: Sequence[str]) -> None:
    """Lines on stdout; what a terminal would obey is shown escaped."""
    for line in lines:
        print(printable(line, MAX_LINE_CHARACTERS))


def print_document(text: str) -> None:
    """A document of this program on stdout as it is: its renderer has escaped what came from outside."""
    print(text)


def _plain(text: object) -> str:
    """One printable line that is not read as markup."""
    return escape(cell(text))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of plain text; nothing in it is read as markup."""
    table = Table(title=_plain(title), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(_plain(column), overflow="fold")
    for row in rows:
        table.add_row(*(_plain(entry) for entry in row))
    _console().print(table)


def print_sections(report: Report) -> None:
    """Every section of a report; what is for looking things up stands in report.html."""
    words = trust_words(report)
    for section in main_sections(report):
        _print_section(section, words)


def _print_section(section: Section, words: Words) -> None:
    if section.intro:
        _console().print(_plain(section.intro))
    print_table(section.title, [column_title(column) for column in section.columns], text_rows(section, words))
    if section.note:
        _console().print(_plain(section.note))


def print_run(result: RunResult, *, as_json: bool, verbose: bool, why: str) -> None:
    """The verdict, the worst things, what was not tested, where the report is and why it ends so; tables on request."""
    if as_json:
        print_json(json.loads(report_bytes(result.report)))
        return
    report = result.report
    console = _console()
    if verbose:
        print_sections(report)
    verdict = _cut(verdict_line(report), VERDICT_LINES)
    worst = [_cut(f"- {item.mark}: {item.what}", WORST_LINES) for item in worst_things(report)]
    untested = [str(row[0]) for row in not_tested_section(report).rows]
    count = f" ({len(untested)}, all in the report)" if len(untested) > 1 else ""
    missing = _cut(f"not tested{count}: {'; '.join(untested)}", UNTESTED_LINES) if untested else []
    kept_out = not_reused(report.run)
    again = _cut(f"not reused: {kept_out}", 1) if kept_out else []
    left = SUMMARY_LINES - LAST_LINES - sum(map(len, (verdict, *worst, missing, again)))
    fixes = "; ".join(fix for model in report.models for fix in model.fixes)
    console.print(f"[bold]{escape(' '.join(verdict))}[/bold]")
    if fixes and left > 0:
        console.print(f"[yellow]{escape(' '.join(_cut(f'preflight: {fixes}', left)))}[/yellow]")
    for lines in (*worst, missing, again):
        if lines:
            console.print(escape(" ".join(lines)))
    reused = f", {len(result.reused)} stages reused" if result.reused else ""
    console.print(f"report: {_plain(str(result.folder / 'report.html'))} ({report.run.seconds:.1f} s{reused})")
    console.print(_plain(why))


def _cut(text: str, lines: int) -> list[str]:
    """`text` as at most so many printable lines of the narrowest usual terminal."""
    return textwrap.wrap(cell(text), SUMMARY_WIDTH, max_lines=lines, placeholder=" ...")


def print_forecast(forecast: Forecast, *, as_json: bool) -> None:
    """What a run would do."""
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "recipe": forecast.recipe,
                "stages": dict(forecast.stages),
                "seconds": forecast.seconds,
                "limit_seconds": forecast.limit_seconds,
            }
        )
        return
    rows = [(stage, seconds_text(seconds)) for stage, seconds in forecast.stages.items()]
    print_table(f"recipe {forecast.recipe}: nothing is run", ("stage", "forecast"), rows)
    print(
        f"in all about {seconds_text(forecast.seconds)} with nothing reused "
        f"(the recipe's limit on this machine: {seconds_text(forecast.limit_seconds)})"
    )


def print_attack(report: AttackReport) -> None:
    """The verdict line, one row an attack, and the checks behind the verdict."""
    result, trust = report.result, report.trust
    style = STYLES[trust.verdict.value]
    console = _console()
    if warning := input_warning(report.judged.checked.checks):
        console.print(f"[bold]CHECK THE INPUT: {_plain(warning)}[/bold]")
    console.print(
        f"[bold]robust accuracy {_plain(str(result.robust_accuracy))} under {_plain(str(report.budget))}: "
        f"[{style}]{trust.verdict.value}[/{style}][/bold]"
    )
    if not report.complete:
        missing = "check of the verdict was made" if result.complete else "image was attacked"
        console.print(f"[red]incomplete: stopped before every {missing}[/red]")
    note = f" ({report.data.note})" if report.data.note else ""
    console.print(
        f"model {_plain(report.model.name)} {report.model.digest[:16]}, data {_plain(report.data.name + note)}"
    )
    if names := report.data.class_names or report.model.known.class_names:
        shown = ", ".join(class_text(label, names) for label in range(min(len(names), MOST_NAMES)))
        console.print(f"classes: {_plain(shown)}{', ...' if len(names) > MOST_NAMES else ''}")
    if result.access != "gradients":
        console.print(f"[yellow]attacked by its {result.access} alone[/yellow]")
    for fix in report.fixes:
        console.print(f"[yellow]preflight: {_plain(fix)}[/yellow]")
    if report.surrogate is not None:
        passes = report.surrogate.passes
        console.print(
            f"surrogate {_plain(report.surrogate.name)} {report.surrogate.digest[:16]}: {passes.forward} forward and "
            f"{passes.backward} backward passes of its own, beside the target's below"
        )
    console.print(f"clean accuracy  {_plain(str(result.clean_accuracy))}")
    console.print(f"attack success  {_plain(str(result.attack_success_rate))}")
    queried = any(row.queries for row in result.rows)
    rows = [
        (
            row.plan.short_text,
            f"{row.seconds:.1f} s",
            str(row.forward_passes),
            str(row.backward_passes),
            *((f"{row.queries.mean:.0f} / {row.queries.max}" if row.queries else "",) if queried else ()),
            str(result.so_far(row)),
        )
        for row in result.rows
    ]
    queries = ("queries mean / max",) if queried else ()
    columns = ("attack", "time", "forward", "backward", *queries, "robust accuracy so far")
    print_table("attacks, in the order run", columns, rows)
    print_checks(trust.checks)
    console.print(
        f"attacks took {sum(row.seconds for row in result.rows):.1f} s, the checks after them "
        f"{report.judged.probe_seconds:.1f} s"
    )


def print_checks(checks: Sequence[Check]) -> None:
    """What speaks against a number first, then what could not be told, then the names of what passed."""
    rows = [(", ".join(ids), outcome.value, evidence) for (outcome, evidence), ids in not_passed(checks).items()]
    if rows:
        print_table("why that verdict", ("check", "outcome", "evidence"), rows)
    passed = [check.id for check in checks if check.outcome is CheckOutcome.PASS]
    _console().print(f"{len(passed)} of {len(checks)} checks passed: {_plain(', '.join(passed)) or 'none'}")


def print_replay(replay: Replayed) -> None:
    """The verdict line, the sample, and what may be why bits differ."""
    console, sample, record = _console(), replay.sample, replay.record
    style = "green" if replay.verdict == "same" else "red"
    count = sum(shard.n for shard in replay.shards)
    console.print(
        f"[bold]replay of {_plain(replay.measurement.id)}: [{style}]{replay.verdict}[/{style}][/bold] "
        f"({count} samples made again, {sum(shard.same for shard in replay.shards)} of {len(replay.shards)} shards the "
        "same bit for bit)"
    )
    clean, adversarial = sample.clean, sample.adversarial
    how = f"broken by {sample.broken_by}" if sample.broken_by else "not broken"
    how = how if sample.attacked else "not attacked (misclassified as it is)"
    rows = [
        ("image", f"{sample.index}, label {sample.label}"),
        ("clean", f"predicted {clean.label} ({100 * clean.confidence:.1f} %)"),
        ("adversarial", f"predicted {adversarial.label} ({100 * adversarial.confidence:.1f} %); {how}"),
        ("distance", f"{sample.distance:.6g} of {record.eps:g} ({record.norm})"),
        ("network", record.model_digest),
        ("data", f"{record.data_digest}, n = {record.n}"),
        ("seed", str(record.seed)),
    ]
    rows += [(f"shard from {s.first}", f"expected {s.expected}, got {s.got}") for s in replay.shards if not s.same]
    rows += [("not as then", text) for text in replay.differences]
    print_table("replay", ("what", "value"), rows)
