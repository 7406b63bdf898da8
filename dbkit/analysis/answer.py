"""The answer of a run of rounds in words, whatever varies in it: classes, loads, settings.

Classes are spoken of at the load and with the settings at which the most pages were served; then each class at its own
best load; then what each setting does there. The words on classes alone are in `dbkit.analysis.headline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from dbkit.analysis.formats import interval, listed, number, ratio_alone
from dbkit.analysis.headline import bound_sentences, disturbed_sentences, failed_sentences, headline, times_sentences
from dbkit.analysis.open_loop import answer_of_arrivals
from dbkit.analysis.pairs import CLASS, LOAD
from dbkit.analysis.parts import Comparison, Part
from dbkit.analysis.records import ClassRow, Verdict
from dbkit.analysis.varied import line, load, settings

MOST_SPOKEN_OF = 5
"""How many classes a sentence names; the others are in the tables."""


def headline_of_rounds(parts: Sequence[Part]) -> list[str]:
    """Sentences on a run of rounds: on each workload its own, the first of which begins with the workload's name."""
    nothing_claimed = disturbed_sentences([slot for part in parts for slot in part.slots])
    if nothing_claimed:
        return nothing_claimed
    sentences = []
    for part in parts:
        first, *others = answer(part)
        sentences += [f"{part.workload}: {first}" if len(parts) > 1 else first, *others]
    return sentences


def answer(part: Part) -> list[str]:
    """Sentences on one workload."""
    if part.limits:
        return [limit.sentence for limit in part.limits]
    if part.quantity != "pages_per_s":
        return answer_of_arrivals(part)
    comparisons = {each.reference.differs_in: each for each in part.comparisons}
    if not part.varied:
        return _on_classes(part, part.strategies, comparisons.get(CLASS))
    empty = {slot.label for slot in part.slots if not slot.replaced and not slot.pages_per_s}
    served = [row for row in part.strategies if row.pages_per_s and row.label not in empty]
    if not served:
        return headline(part.strategies, part.slots, [], [])
    best = max(served, key=lambda row: row.pages_per_s or 0)
    of_settings = [each for name, each in comparisons.items() if name not in (CLASS, LOAD)]
    cell = [row for row in part.strategies if load(row) == load(best) and row.settings == best.settings]
    sentences = []
    if len(cell) > 1:
        first, *others = _on_classes(part, cell, comparisons.get(CLASS))
        sentences += [_with(best, first), *others]
        if LOAD in comparisons:
            sentences += _peaks([row for row in served if row.settings == best.settings], comparisons[LOAD])
        sentences += [each for found in of_settings for each in _on_setting(found, served, best)]
    else:
        on_load = [_peak(best, served, comparisons[LOAD])] if LOAD in comparisons else []
        on_settings = [each for found in of_settings for each in _on_setting(found, served, best)]
        if not on_load and len(of_settings) != 1:
            on_load = [f"{best.label} serves the most pages, {number(best.pages_per_s)} a second."]
        called = replace(best, label=best.user_class)
        among = "".join(f" and {each}" for each in settings(best))
        times = times_sentences(called, among=among)
        sentences += [*on_load, *on_settings, *failed_sentences(called), *times, *bound_sentences(called)]
    if empty:
        names = [row.label for row in part.strategies if row.label in empty]
        sentences.append(f"Without a ratio, as no page was served in some slot: {_some(names)}.")
    return sentences


def _on_classes(part: Part, rows: Sequence[ClassRow], comparison: Comparison | None) -> list[str]:
    """Sentences on rows that differ in their classes alone, which are called by these."""
    names = {row.label: row.user_class for row in rows}

    def called(verdicts: Iterable[Verdict]) -> list[Verdict]:
        return [
            replace(
                each,
                label=names[each.label],
                reference=names[each.reference],
                sentence=_replaced(each.sentence, {name: names[name] for name in (each.label, each.reference)}),
            )
            for each in verdicts
            if each.label in names and each.reference in names
        ]

    named = comparison.reference.label if comparison and comparison.reference.named else None
    return headline(
        sorted((replace(row, label=row.user_class) for row in rows), key=lambda row: -(row.pages_per_s or 0)),
        [replace(slot, label=slot.user_class) for slot in part.slots if slot.label in names],
        called(comparison.verdicts if comparison else []),
        called(comparison.against_fastest if comparison else []),
        named,
    )


def _replaced(text: str, names: dict[str, str]) -> str:
    for long in sorted(names, key=len, reverse=True):
        text = text.replace(long, names[long])
    return text


def _with(row: ClassRow, sentence: str) -> str:
    """A sentence on classes, with the load and the settings at which it is so."""
    words = sentence[0].lower() + sentence[1:] if sentence.startswith(("No ", "The ")) else sentence
    return f"With {listed([load(row), *settings(row)])}, {words}"


def _peaks(served: Sequence[ClassRow], comparison: Comparison) -> Iterator[str]:
    """At which load each class serves the most."""
    lines: dict[str, list[ClassRow]] = {}
    for row in served:
        lines.setdefault(line(row), []).append(row)
    if len(lines) == 1:
        [rows] = lines.values()
        yield _peak(max(rows, key=lambda row: row.pages_per_s or 0), rows, comparison)
        return
    best = {name: max(rows, key=lambda row: row.pages_per_s or 0) for name, rows in lines.items()}
    words = [f"{name} {number(row.pages_per_s)} with {load(row)}" for name, row in best.items()]
    yield f"The most pages a second of each: {_some(words)}."


def _peak(best: ClassRow, served: Sequence[ClassRow], comparison: Comparison) -> str:
    """At which load a class serves the most, and between which loads no difference is shown."""
    rows = [row for row in served if line(row) == line(best)]
    against = [each for each in comparison.against_fastest if each.reference == best.label]
    found = f"{line(best)} serves the most pages with {load(best)}, {number(best.pages_per_s)} a second"
    if not against or any(each.low is None for each in against):
        return f"{found}; the rounds are too few to show a difference."
    alike = {each.label for each in against if not _is_below_1(each)}
    together = [load(row) for row in rows if row.label in alike or row is best]
    if not alike:
        return f"{found}; with any other load fewer are shown."
    return f"{found}; with {_span(together)} no difference from that is shown."


def _span(loads: Sequence[str]) -> str:
    """`10 users to 50 users`, for loads in order."""
    return f"{loads[0]} to {loads[-1]}" if len(loads) > 1 else loads[0]


def _on_setting(comparison: Comparison, served: Sequence[ClassRow], best: ClassRow) -> Iterator[str]:
    """What a setting does, for each class, where everything else is as for the `best` row."""
    name = comparison.reference.differs_in
    others = {key: value for key, value in best.settings.items() if key != name}
    rows: dict[str, list[ClassRow]] = {}
    for row in served:
        if load(row) == load(best) and {key: row.settings[key] for key in row.settings if key != name} == others:
            rows.setdefault(row.user_class, []).append(row)
    several = {user_class: found for user_class, found in rows.items() if len(found) > 1}
    for user_class, found in [*several.items()][:MOST_SPOKEN_OF]:
        yield _values(user_class, name, found, comparison)
    if len(several) > MOST_SPOKEN_OF:
        yield f"What {name} does for {len(several) - MOST_SPOKEN_OF} other classes is in the tables."


def _values(user_class: str, name: str, rows: Sequence[ClassRow], comparison: Comparison) -> str:
    """What the values of a setting do for one class; `rows` differ in it alone."""
    best = max(rows, key=lambda row: row.pages_per_s or 0)
    against = {each.label: each for each in comparison.against_fastest if each.reference == best.label}
    written = {row.label: f"{name}={row.settings[name]}" for row in rows}
    # while a test runs verdicts may be a little older than the rows
    if not against or any(each.low is None for each in against.values()):
        return f"{user_class} has too few rounds to show a difference by {name}."
    on_pages = (each for each in comparison.verdicts if each.quantity == "pages_per_s")
    verdict = next((each for each in on_pages if {each.label, each.reference} == {*written}), None)
    if verdict is not None:
        one, other = written[verdict.label], written[verdict.reference]
        assert verdict.low is not None and verdict.high is not None
        ends = interval(verdict.low, verdict.high)
        if not verdict.shown:
            return f"{user_class}: between {one} and {other} no difference is shown {ends}."
        return f"{user_class} serves with {one} {ratio_alone(verdict)}× the pages that it serves with {other} {ends}."
    found = f"{user_class} serves the most pages with {written[best.label]}, {number(best.pages_per_s)} a second"
    alike = [row for row in rows if row.label in against and not _is_below_1(against[row.label])]
    if not alike:
        return f"{found}; with any other value fewer are shown."
    words = f"{found}; with {_some([written[row.label] for row in alike])} no difference from that is shown."
    try:
        smallest = min([best, *alike], key=lambda row: float(row.settings[name]))
    except ValueError:  # the values are no numbers
        return words
    return f"{words} The smallest that is not shown to serve fewer is {written[smallest.label]}."


def _some(words: Sequence[str]) -> str:
    """The first of the words, and how many more there are."""
    left = len(words) - MOST_SPOKEN_OF
    return listed(words if left <= 0 else [*words[:MOST_SPOKEN_OF], f"{left} more"])


def _is_below_1(verdict: Verdict) -> bool:
    return verdict.high is not None and verdict.high < 1
