"""What a report shows, as titled tables: every format is a loop over these sections, followed by the folded ones."""

from __future__ import annotations

from collections.abc import Iterable

from secure_ai.core.comparisons import Comparison, Distance
from secure_ai.core.findings import Finding, Severity
from secure_ai.core.labels import class_text
from secure_ai.core.result import SUBJECT
from secure_ai.core.results import Choice, MeasuredChoice, MeasuredQuantity, Measurement, Quantity
from secure_ai.core.sections import MAX_ROWS, Cell, Column, Ref, Section
from secure_ai.core.trust import CheckOutcome, not_passed
from secure_ai.report.model import Figure, OurValue, Report
from secure_ai.report.render.confusion import per_class
from secure_ai.report.render.text import TRUST_BADGES, Trusted, budget_text, seconds_text, trust_badge
from secure_ai.threats.model import Threat, ThreatStatus

SURROGATE = "surrogate"
TRANSFER_METRIC = "transfer_accuracy"
MOST_NAMES = 20  # of classes in one cell
HOLDS = ("yes", "no", "no support", "not measured", "not judged")
SEVERITIES = tuple(severity.value for severity in Severity)
STATUSES = tuple(status.value for status in ThreatStatus)
OUTCOMES = tuple(outcome.value for outcome in CheckOutcome)
TRANSFER_NOTE = (
    "On the diagonal stand a network's own examples. All others were made without looking at the network they are "
    "scored on: a high rate there says that they do not transfer, not that the network is robust."
)
COMPARISON_NOTE = (
    "Every row compares the same images under both conditions: the exact McNemar test, Holm's adjustment over the rows "
    "of one question, and the interval of the paired difference. A difference deserves no more trust than the worse of "
    "its two measurements."
)
Row = tuple[Cell, ...]


def main_sections(report: Report) -> tuple[Section, ...]:
    """Every table that has rows, most important first; those that measures return stand before what was not tested."""
    sections = (
        headline_section(report),
        measurement_section(report),
        quantity_section(report),
        choice_section(report),
        comparison_section(report),
        distance_section(report),
        *transfer_sections(report),
        finding_section(report),
        threat_section(report),
        *report.sections,
        not_tested_section(report),
    )
    return tuple(section for section in sections if section.rows)


def folded_sections(report: Report) -> tuple[Section, ...]:
    """The tables that have rows and are for looking things up."""
    sections = (
        figure_section(report),
        check_section(report),
        *class_sections(report),
        untested_threat_section(report),
        stage_section(report),
        model_section(report),
        data_section(report),
    )
    return tuple(section for section in sections if section.rows)


def _section(
    identifier: str, title: str, titles: tuple[str, ...], rows: Iterable[Row], *, intro: str = "", note: str = ""
) -> Section:
    """A section of the report's own; beyond the most rows that a section holds it says how many there are."""
    every = tuple(rows)
    columns = tuple(Column(name.replace(" ", "-") or "more", name) for name in titles)
    if len(every) > MAX_ROWS:
        note = f"{note} The first {MAX_ROWS:,} of {len(every):,}; report.json has all.".strip()
    return Section(f"report/{identifier}", title, intro, columns, every[:MAX_ROWS], note)


BASIS = {"measured": "measured", "read": "read in the published program", "printed": "printed numbers"}
"""What a judgement on a published statement rests on, in words."""


def holds(figure: Figure) -> Choice:
    """`yes`, `no`, `not measured`, `not judged` (a time), or `no support` where nothing contradicts it either."""
    if figure.holds == "no" and figure.status == "not_supported":
        return Choice("no support", HOLDS)
    return Choice("not judged" if figure.holds == "not_comparable" else figure.holds.replace("_", " "), HOLDS)


def our_text(value: OurValue | None) -> str | None:
    """A number of the reproduction table with its trust word."""
    if value is None or not value.word or value.word in value.text:
        return value.text if value else None
    return f"{value.text} ({value.word})"


def headline_section(report: Report) -> Section:
    """The published figures that the reports' conclusions rest on, beside ours."""
    rows = [figure for figure in report.reproduction if figure.headline]
    return _figures("figures", "Published figures (headlines)", rows)


def figure_section(report: Report) -> Section:
    """All published figures and claims beside ours."""
    count = len(report.reproduction)
    return _figures("all-figures", f"All {count} published figures and claims", report.reproduction)


def _figures(identifier: str, title: str, figures: Iterable[Figure]) -> Section:
    rows = (
        (
            f"{row.report} {row.figure}",
            row.published.text,
            our_text(row.same_protocol),
            our_text(row.correct),
            holds(row),
            BASIS[row.basis],
            row.reason,
        )
        for row in figures
    )
    return _section(
        identifier, title, ("figure", "published", "same protocol", "measured correctly", "holds", "basis", "why"), rows
    )


def measurement_section(report: Report) -> Section:
    """Every rate with n, interval and trust; those on examples made for another network stand in their matrix."""
    rows = (
        (Ref("measurement", m.id), m.metric, budget_text(m.budget) or None, m.value, *_trust(m, m.value.n))
        for m in own_measurements(report)
    )
    columns = ("measurement", "metric", "budget", "value", "trust", "failed checks")
    note = "Share of images with its 95 % interval, which covers these images and this one network."
    return _section("measurements", "Measurements", columns, rows, note=note)


def own_measurements(report: Report) -> list[Measurement]:
    """The measurements that are no entry of a transfer matrix shown beside them."""
    return [m for m in report.measurements if not report.transfers or m.metric != TRANSFER_METRIC]


def _trust(entry: Trusted, n: int) -> tuple[Choice, str | None]:
    checks = entry.trust.checks if entry.trust else ()
    failed = [made.id for made in checks if made.outcome is CheckOutcome.FAIL]
    return trust_badge(entry, n), ", ".join(failed) or None


def quantity_section(report: Report) -> Section:
    """Every number that is no rate."""
    rows = (
        (Ref("measurement", q.id), q.metric, budget_text(q.budget) or None, q.quantity, *_trust(q, q.n))
        for q in report.quantities
    )
    return _section(
        "quantities", "Quantities", ("quantity", "metric", "budget", "value", "trust", "failed checks"), rows
    )


def choice_section(report: Report) -> Section:
    """Every verdict in words."""
    rows = ((Ref("measurement", c.id), c.metric, c.choice, *_trust(c, 0)) for c in report.choices)
    return _section("choices", "Verdicts in words", ("verdict", "metric", "value", "trust", "failed checks"), rows)


def comparison_section(report: Report) -> Section:
    """Before and after on the same images."""
    columns = ("what", "before", "after", "accuracy won", "p (McNemar, Holm)", "trust")
    rows = (_compared(entry) for entry in report.comparisons)
    return _section("comparisons", "Before and after on the same images", columns, rows, note=COMPARISON_NOTE)


def _compared(entry: Comparison) -> Row:
    won, low, high = (100 * value for value in (entry.difference, entry.ci_low, entry.ci_high))
    return (
        entry.card,
        Ref("measurement", entry.before),
        Ref("measurement", entry.after),
        Quantity(won, "points", low, high, entry.n),
        "< 0.0001" if entry.p_holm < 1e-4 else f"{entry.p_holm:.4f}",
        Choice(entry.trust.value, TRUST_BADGES),
    )


def distance_section(report: Report) -> Section:
    """Median distances to the nearest example found."""
    columns = ("distance", "norm", "median found", "misclassified at any distance", "attack", "trust", "failed checks")
    rows = (
        (Ref("measurement", d.id), d.norm, _median(d), d.found, d.attack, *_trust(d, d.n)) for d in report.distances
    )
    title = "Distance to the nearest adversarial example found (upper bounds)"
    note = "Median over all images: 0 for one that is misclassified as it is, infinite for one that was not broken."
    return _section("distances", title, columns, rows, note=note)


def _median(entry: Distance) -> Quantity:
    return Quantity(entry.median, "", entry.ci_low, entry.ci_high, entry.n, entry.infinite or "infinite")


def users_names(report: Report) -> dict[str, str]:
    """The user's own networks by id, as the user knows them."""
    return {model.id: model.title for model in report.models if model.role in (SUBJECT, SURROGATE) and model.title}


def transfer_sections(report: Report) -> tuple[Section, ...]:
    """One table a transfer matrix: a row for the network the examples were made for, a column a network scored."""
    names = users_names(report)
    return tuple(
        _section(
            f"transfers/{number}",
            "Accuracy on examples made for another network",
            ("made for", *(f"scored on {names.get(name, name)}" for name in entry.networks)),
            ((names.get(source, source), *row) for source, row in zip(entry.networks, entry.rates, strict=True)),
            intro=f"{entry.attack}, {budget_text(entry.budget)}. A robust accuracy needs examples made for the network "
            "itself.",
            note=TRANSFER_NOTE,
        )
        for number, entry in enumerate(report.transfers)
    )


def sorted_findings(report: Report) -> list[Finding]:
    """Findings that the tool did not plant first, each part from the worst severity down."""
    return sorted(report.findings, key=lambda finding: (finding.planted, -finding.severity.rank))


def finding_section(report: Report) -> Section:
    """Findings, worst first."""
    names = users_names(report)
    rows = (
        (
            Choice(f.severity.value, SEVERITIES),
            Ref("finding", f.id),
            names.get(f.location, f.location),
            f.message,
            "by the tool" if f.planted else None,
        )
        for f in sorted_findings(report)
    )
    return _section("findings", "Findings", ("severity", "id", "where", "what", "planted"), rows)


def threat_section(report: Report) -> Section:
    """STRIDE rows that were measured; the others are counted in `not_tested_section`."""
    measured = [threat for threat in report.threats if threat.status is not ThreatStatus.NOT_TESTED]
    return _threats("threats", "STRIDE rows measured", measured)


def untested_threat_section(report: Report) -> Section:
    """STRIDE rows without a measurement."""
    rest = [threat for threat in report.threats if threat.status is ThreatStatus.NOT_TESTED]
    return _threats("threats-not-tested", f"{len(rest)} STRIDE rows not tested", rest)


def _threats(identifier: str, title: str, threats: Iterable[Threat]) -> Section:
    rows = ((Ref("threat", t.id), t.mitigation, t.claimed, Choice(t.status.value, STATUSES), t.reason) for t in threats)
    note = (
        "Rows and the words implemented and proposed are the reports' own; the status comes from measurements, with "
        "the mitigation on and off."
    )
    return _section(identifier, title, ("threat", "mitigation", "claimed", "measured", "why"), rows, note=note)


def not_tested_section(report: Report) -> Section:
    """What this run says nothing about."""
    untested = sum(threat.status is ThreatStatus.NOT_TESTED for threat in report.threats)
    rows: list[Row] = [(text,) for text in report.not_tested]
    if untested:
        rows.append((f"{untested} of {len(report.threats)} STRIDE mitigations of the reports",))
    return _section("not-tested", "Not tested", ("what",), rows)


def check_section(report: Report) -> Section:
    """Every check of trust that failed or could not run, with its evidence."""
    entries: tuple[Measurement | MeasuredQuantity | MeasuredChoice | Distance, ...] = (
        *report.measurements, *report.quantities, *report.choices, *report.distances,
    )  # fmt: skip
    rows = (
        (Ref("measurement", entry.id), ", ".join(ids), Choice(outcome.value, OUTCOMES), evidence)
        for entry in entries
        for (outcome, evidence), ids in not_passed(entry.trust.checks if entry.trust else ()).items()
    )
    return _section("checks", "Checks that failed or could not run", ("number", "check", "outcome", "evidence"), rows)


def class_sections(report: Report) -> tuple[Section, ...]:
    """Precision and recall of each class, a table a confusion matrix."""
    return tuple(
        _section(
            f"classes/{number}",
            f"Precision and recall by class: {entry.title or entry.id}" + (f" ({entry.model})" if entry.title else ""),
            ("class", "precision", "recall"),
            ((class_text(row.label, entry.class_names), row.precision, row.recall) for row in per_class(entry.counts)),
        )
        for number, entry in enumerate(report.confusions)
    )


def stage_section(report: Report) -> Section:
    """Seconds per stage, longest first."""
    rows = (
        (name, seconds_text(took), "reused" if name in report.run.reused else None)
        for name, took in sorted(report.run.stage_seconds.items(), key=lambda item: -item[1])
    )
    return _section("stages", "Time per stage", ("stage", "time", "from an earlier run"), rows)


def model_section(report: Report) -> Section:
    """The networks and their digests."""
    rows = ((Ref("model", m.id), m.title or None, m.role, m.arch, m.format, m.digest) for m in report.models)
    return _section("models", "Models", ("model", "title", "role", "architecture", "format", "SHA-256"), rows)


def data_section(report: Report) -> Section:
    """The data sets and their digests."""
    rows = (
        (d.id, d.name or None, f"{d.n:,}", ", ".join(d.class_names[:MOST_NAMES]) or None, d.note or None, d.digest)
        for d in report.data
    )
    return _section("data", "Data", ("data", "name", "images", "classes", "note", "SHA-256"), rows)
