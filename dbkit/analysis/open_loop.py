"""The answer in words of rounds in which pages arrive: who keeps up, up to which rate, and how long pages take then.

Pages a second are as many as are asked for, so that classes are compared by their response times. The words on closed
loops are in `dbkit.analysis.answer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkit.analysis.formats import listed, number
from dbkit.analysis.headline import bound_sentences, failed_sentences, times_sentences
from dbkit.analysis.pairs import CLASS
from dbkit.analysis.parts import Part
from dbkit.analysis.records import ClassRow, Verdict
from dbkit.analysis.varied import leading_load, line, load

MOST_SPOKEN_OF = 5
"""How many conditions the sentences name; the others are in the tables."""


def answer_of_arrivals(part: Part) -> list[str]:
    """Sentences on one workload whose pages arrive."""
    rows = part.strategies
    if not any(row.pages_per_s for row in rows):
        return ["No page was served."]
    sentences = [*_who_keeps_up(rows)]
    chosen = leading_load(rows)
    timed = sorted(
        (row for row in rows if row.p95_ms is not None and (chosen is None or load(row) == chosen)),
        key=lambda row: row.p95_ms or 0,
    )
    if timed:
        best = timed[0]
        sentences += [*times_sentences(best), *_compared(part, timed), *failed_sentences(best), *bound_sentences(best)]
    return sentences


def _who_keeps_up(rows: Sequence[ClassRow]) -> Iterator[str]:
    lines: dict[str, list[ClassRow]] = {}
    for row in sorted(rows, key=lambda row: row.arrivals_per_s or 0):
        lines.setdefault(line(row), []).append(row)
    for name, found in [*lines.items()][:MOST_SPOKEN_OF]:
        yield _how_far(name, found)
    if len(lines) > MOST_SPOKEN_OF:
        yield f"How far {len(lines) - MOST_SPOKEN_OF} others keep up is in the tables."


def _how_far(name: str, rows: Sequence[ClassRow]) -> str:
    """Up to which rate a class keeps up; `rows` differ in that alone, and ascend in it."""
    broken = next((row for row in rows if row.sustained is False), None)
    kept = [row for row in rows if row.sustained and (broken is None or _rate(row) < _rate(broken))]
    served = "" if broken is None else f", where it serves {number(broken.pages_per_s)}{_bound(broken)}"
    if not kept:
        return f"{name} does not keep up with {number(rows[0].arrivals_per_s)} arrivals a second{served}."
    found = f"{name} keeps up with {number(kept[-1].arrivals_per_s)} arrivals a second"
    return f"{found}." if broken is None else f"{found}, and not with {number(broken.arrivals_per_s)}{served}."


def _compared(part: Part, timed: Sequence[ClassRow]) -> Iterator[str]:
    """How the others compare with the class whose pages come fastest."""
    against: dict[str, Verdict] = {}
    for comparison in part.comparisons:
        named = comparison.reference.named
        verdicts = comparison.verdicts if named else comparison.against_fastest
        if comparison.reference.differs_in == CLASS:
            against |= {each.label: each for each in verdicts if each.quantity == part.quantity}
    shown = [against[row.label] for row in timed if row.label in against]
    if not shown:
        return
    if any(each.low is None for each in shown):
        yield "The rounds are too few to show a difference between classes."
        return
    yield from (f"{each.sentence}." for each in shown[:MOST_SPOKEN_OF] if each.shown)
    alike = [each.label for each in shown if not each.shown]
    if alike:
        yield f"In p95 no difference from {shown[0].reference} is shown for {listed(alike[:MOST_SPOKEN_OF])}."


def _rate(row: ClassRow) -> float:
    return row.arrivals_per_s or 0.0


def _bound(row: ClassRow) -> str:
    return f", bound by {row.bound_by}" if row.bound_by and row.bound_by != "users" else ""
