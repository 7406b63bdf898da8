"""The answer in words: which classes serve the most pages, how sure that is, why, and what limits them.

Words for what is in the records of a result; every output shows the same ones. Nothing is said that is not shown. For
what is said where loads or settings vary see `dbkit.analysis.answer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dbkit.analysis.formats import interval, listed, number
from dbkit.analysis.records import ClassRow, SlotRow, Verdict

MOST_DISTURBED_SHARE = 0.25
"""The share of the slots: where more are disturbed, nothing is claimed."""
_COSTS = {"statements": "statement", "rows": "row", "client_cpu_ms": "ms of client CPU"}
"""What a page costs, in words: the columns that say why a class is faster."""


def headline(
    strategies: Sequence[ClassRow],
    slots: Sequence[SlotRow],
    verdicts: Sequence[Verdict],
    against_fastest: Sequence[Verdict],
    named_reference: str | None = None,
) -> list[str]:
    """Sentences on one workload in a run of rounds.

    `strategies` begins with the class that serves the most pages. `verdicts` are those against the slowest class, or
    against the `named_reference` if there is one; then other pairs are not spoken of.
    """
    if nothing_claimed := disturbed_sentences(slots):
        return nothing_claimed
    rows = {row.label: row for row in strategies if row.pages_per_s}
    if not rows:
        return ["No page was served."]
    if len(strategies) == 1:
        return [*_one_class(strategies[0]), *bound_sentences(strategies[0])]
    on_pages = _with_ratio((verdict for verdict in verdicts if verdict.quantity == "pages_per_s"), rows)
    empty = {slot.label for slot in slots if not slot.replaced and not slot.pages_per_s}
    comparable = [name for name in rows if name not in empty]
    if len(comparable) < 2 or named_reference in empty:
        pair = f"No class can be compared with {named_reference}" if named_reference else "No classes can be compared"
        sentences = [f"{pair}: it takes a page in every slot of both."]
    elif named_reference:
        sentences = [*_against_named(named_reference, rows, on_pages)]
    else:
        sentences = [*_the_most(comparable[0], rows, on_pages, _with_ratio(against_fastest, rows))]
    if without_ratio := [name for name in rows if name in empty]:
        sentences.append(f"Without a ratio, as no page was served in some slot: {listed(without_ratio)}.")
    return sentences


def headline_of_mixed_run(strategies: Sequence[ClassRow]) -> list[str]:
    """Sentences on a run of several classes at once: they are not ranked, and pages of one workload are counted."""
    served = [row for row in strategies if row.pages_per_s]
    if not served:
        return ["No page was served."]
    workloads = sorted({row.workload for row in strategies})
    if len(workloads) > 1:
        return [
            *(f"{name}: {_together([row for row in served if row.workload == name])}." for name in workloads),
            "All of them ran at once. This does not show which class is faster.",
        ]
    rate = number(sum(row.pages_per_s or 0 for row in served))
    if len(served) == 1:
        together = f"1 of several user classes served {rate} pages a second"
    else:
        together = f"{len(served)} user classes at once served {rate} pages a second together"
    return [f"{together}. This does not show which of them is faster."]


def headline_of_one_class(strategies: Sequence[ClassRow]) -> list[str]:
    """Sentences on a run of one class without rounds."""
    served = [row for row in strategies if row.pages_per_s]
    return _one_class(served[0], up_to=True) if served else ["No page was served."]


def _together(served: Sequence[ClassRow]) -> str:
    """What the classes of one workload served."""
    if not served:
        return "no page was served"
    rate = number(sum(row.pages_per_s or 0 for row in served))
    if len(served) == 1:
        return f"1 user class served {rate} pages a second"
    return f"{len(served)} user classes served {rate} pages a second together"


def disturbed_sentences(slots: Sequence[SlotRow]) -> list[str]:
    """That nothing is claimed, where too many slots were disturbed; else nothing."""
    counted = [slot for slot in slots if not slot.replaced]
    disturbed = sum(slot.disturbed for slot in counted)
    if disturbed <= MOST_DISTURBED_SHARE * len(counted):
        return []
    return [
        f"{disturbed} of {len(counted)} slots were disturbed by others on the machine, so nothing is claimed."
        " Run the test again when the machine is quiet."
    ]


def _the_most(
    first: str, rows: Mapping[str, ClassRow], on_pages: Mapping[str, Verdict], against_fastest: Mapping[str, Verdict]
) -> Iterator[str]:
    """Which classes serve the most, and how many times the pages of the slowest."""
    # while a test runs verdicts may be a little older than the rows, and another class the first
    name = next((verdict.reference for verdict in against_fastest.values()), first)
    if not against_fastest or any(verdict.low is None for verdict in against_fastest.values()):
        yield (
            f"The rounds are too few to show a difference; so far {name} has served the most pages,"
            f" {_rate(name, rows)} a second."
        )
    else:
        yield from _group(name, rows, against_fastest)
    yield from failed_sentences(rows[name])
    if name in on_pages and on_pages[name].shown:
        yield _with_reason(on_pages[name], rows)
    yield from times_sentences(rows[name])
    yield from bound_sentences(rows[name])


def _group(name: str, rows: Mapping[str, ClassRow], against_fastest: Mapping[str, Verdict]) -> Iterator[str]:
    """The first class, those that it is not shown to differ from, and the others."""
    alike = [each for each in rows if each in against_fastest and not _is_below_1(against_fastest[each])]
    by_harness = [each for each in rows if each in against_fastest and against_fastest[each].within_harness]
    first, last = _rate(name, rows), _rate([name, *alike][-1], rows)
    if not alike:
        yield f"{name} serves the most pages, {first} a second; every other class is shown to serve fewer."
    elif len(alike) == len(against_fastest) > 1:
        yield (
            f"No difference is shown between {name} and the other {len(alike)} classes:"
            f" they serve from {last} to {first} pages a second."
        )
    else:
        group = [name, *alike]
        rates = listed([_rate(each, rows) for each in group])
        if len(alike) == 1:
            apart = f"between them no difference is shown {_interval(against_fastest[alike[0]])}"
        else:
            apart = f"between {name} and the others no difference is shown"
        if len(alike) == len(against_fastest):
            yield f"{listed(group)} serve {rates} pages a second; {apart}."
        else:
            yield f"{listed(group)} serve the most pages, {rates} a second; {apart}."
            yield f"Every other class is shown to serve fewer than {name}."
    if by_harness:
        yield f"But what the harness takes can account for the difference from {name} to {listed(by_harness)}."


def _interval(verdict: Verdict) -> str:
    """The interval, with the rounds that would be enough to show a difference."""
    rounds = f", and about {verdict.rounds_needed} rounds would be enough" if verdict.rounds_needed else ""
    ends = "" if verdict.low is None or verdict.high is None else interval(verdict.low, verdict.high)
    return f"{ends}{rounds}"


def _against_named(reference: str, rows: Mapping[str, ClassRow], on_pages: Mapping[str, Verdict]) -> Iterator[str]:
    """How the others compare with a reference that was named before the run."""
    known = [on_pages[name] for name in rows if name in on_pages]
    if not known or any(verdict.low is None for verdict in known):
        yield f"The rounds are too few to show a difference from {reference}."
        return
    first = known[0]
    name = first.label
    yield _with_reason(first, rows) if first.shown else f"{name} against {reference}: {first.sentence}."
    if len(known) > 1:
        yield _counts(reference, known)
    yield from failed_sentences(rows[name])
    yield f"{name} serves {_rate(name, rows)} pages a second, {reference} {_rate(reference, rows)}."
    yield from times_sentences(rows[name])
    yield from bound_sentences(rows[name])


def _counts(reference: str, known: Sequence[Verdict]) -> str:
    more = [verdict.label for verdict in known if verdict.shown and not _is_below_1(verdict)]
    fewer = [verdict.label for verdict in known if verdict.shown and _is_below_1(verdict)]
    alike = [verdict.label for verdict in known if not verdict.shown]
    counts = [
        *([f"more pages for {len(more)}"] if more else []),
        *([f"fewer for {len(fewer)}"] if fewer else []),
        *([f"no difference for {listed(alike)}"] if alike else []),
    ]
    return f"Of {len(known)} classes compared with {reference}, this is shown: {'; '.join(counts)}."


def _one_class(row: ClassRow, *, up_to: bool = False) -> list[str]:
    return [
        f"{row.label} serves {number(row.pages_per_s)} pages a second.",
        *failed_sentences(row),
        *times_sentences(row, up_to=up_to),
    ]


def _with_ratio(verdicts: Iterable[Verdict], rows: Mapping[str, ClassRow]) -> dict[str, Verdict]:
    """Those that have a ratio, of classes that are there, by class."""
    return {
        verdict.label: verdict
        for verdict in verdicts
        if verdict.ratio is not None and verdict.label in rows and verdict.reference in rows
    }


def failed_sentences(row: ClassRow) -> list[str]:
    if not row.failures:
        return []
    return [f"But {row.failures} of the {row.pages} pages of {row.label} failed."]


def _rate(name: str, rows: Mapping[str, ClassRow]) -> str:
    return number(rows[name].pages_per_s)


def times_sentences(row: ClassRow, *, up_to: bool = False, among: str = "") -> list[str]:
    """The response times of a class; `among` are settings with which that is so."""
    if row.p50_ms is None or row.p95_ms is None:
        return []
    users = "1 user" if row.users == 1 else f"{'up to ' if up_to else ''}{row.users} users"
    if row.arrivals_per_s is not None:
        return [
            f"Where {number(row.arrivals_per_s)} pages a second are due{among}, for {users} at the most, half of"
            f" {row.label}'s came within {number(row.p50_ms)} ms and 95 % within {number(row.p95_ms)} ms."
        ]
    return [
        f"With {users}{among} in a closed loop, half of {row.label}'s pages came within {number(row.p50_ms)} ms"
        f" and 95 % within {number(row.p95_ms)} ms."
    ]


def bound_sentences(row: ClassRow) -> list[str]:
    if row.bound_by == "arrivals":
        return [f"Nothing limits {row.label} but that no more pages were asked for."]
    if row.bound_by == "users":
        return [f"Nothing but the number of users limits {row.label}."]
    return [f"{row.label} is bound by {row.bound_by}."] if row.bound_by else []


def _with_reason(verdict: Verdict, rows: Mapping[str, ClassRow]) -> str:
    """A difference that is shown, with what differs in the cost of a page."""
    one, other = rows[verdict.label], rows[verdict.reference]
    costs = [
        f"{_cost(column, mine)} against {number(others)}"
        for column in _COSTS
        if (mine := getattr(one, column)) is not None
        and (others := getattr(other, column)) is not None
        and number(mine) != number(others)
    ]
    if verdict.within_harness or not costs:
        return f"{verdict.sentence}."
    return f"{verdict.sentence}: a page takes {listed(costs)}."


def _cost(column: str, value: float) -> str:
    plural = "" if number(value) == "1" or column == "client_cpu_ms" else "s"
    return f"{number(value)} {_COSTS[column]}{plural}"


def _is_below_1(verdict: Verdict) -> bool:
    """Whether its interval lies below 1."""
    return verdict.high is not None and verdict.high < 1
