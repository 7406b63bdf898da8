"""How far each class keeps a limit, as records and in words, from the slots of a search.

How it is searched is in `dbkit.analysis.search`, and how sure it is in `dbkit.analysis.edge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dbkit.analysis.condition import Condition
from dbkit.analysis.formats import limit as bound_words
from dbkit.analysis.formats import number
from dbkit.analysis.model_records import LimitFound
from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.rows import rounded
from dbkit.analysis.search import SETTINGS_SOUGHT, Line, Measured, Search

State = Literal["found", "searching", "budget spent", "cut short"]

ROUND_TRIP = "round-trip"
_LEFT_OPEN = {
    "budget spent": "the budget is spent, and a longer one narrows the interval",
    "cut short": "the search was cut short",
    "searching": "the search goes on",
}


def limits_found(
    search: Search, rows: Sequence[ClassRow], slots: Sequence[SlotRow], measured_on: Mapping[str, Any], state: State
) -> list[LimitFound]:
    """The answer of each line that has been measured, best first. `state` is what holds where an edge is not found."""
    by_condition = {row.condition: row for row in rows}
    overrun = {row.condition for row in rows if row.sustained is False}
    found = [
        _Answer(search, line, search.measured(line, slots, overrun), by_condition, measured_on, state).record()
        for line in search.lines
        if any(condition.key in by_condition for condition in line.conditions)
    ]
    best_first = -1 if search.sought == "largest" else 1
    return sorted(found, key=lambda each: (each.at is None, best_first * (each.at or 0)))


class _Answer:
    """What is said of one line."""

    def __init__(
        self,
        search: Search,
        line: Line,
        measured: Measured,
        rows: Mapping[str, ClassRow],
        measured_on: Mapping[str, Any],
        state: State,
    ) -> None:
        self._search, self._line, self._measured, self._rows = search, line, measured, rows
        self._round_trip_ms = _round_trip_ms(line, measured_on)
        edge = measured.edge
        self._state: State = "found" if edge.is_found else state
        # where the smallest is sought, it is the first beyond the edge
        self._places = len(line.conditions)
        low, high = edge.interval
        if search.sought == "largest":
            self._at, self._low, self._high, self._beside = edge.kept, low, high, edge.broken
        else:
            self._at, self._low, self._high, self._beside = edge.broken, low + 1, high + 1, edge.kept

    def record(self) -> LimitFound:
        """The record of the answer."""
        search, line = self._search, self._line
        any_row = next(self._rows[each.key] for each in line.conditions if each.key in self._rows)
        at, beside = self._row(self._at), self._row(self._beside)
        return rounded(
            LimitFound(
                workload=any_row.workload,
                label=line.name,
                user_class=line.user_class,
                limit=str(search.limit),
                figure=search.limit.figure,
                bound=self._measured.bound,
                along=search.along,
                sought=search.sought,
                at=(self._value(self._at) or None) if self._measured.edge.slots else None,
                low=self._value(self._low) or 0.0,
                high=self._value(self._high),
                last=line.values[-1],
                condition=at.condition if at else None,
                pages_per_s=at.pages_per_s if at else None,
                then=_bound(beside),
                round_trip_ms=self._round_trip_ms,
                slots=len(self._measured.edge.slots),
                state=self._state,
                sentence=self._sentence(at, beside),
            )
        )

    def _sentence(self, at: ClassRow | None, beside: ClassRow | None) -> str:
        name, words = self._line.name, self._search.limit.words
        if not self._measured.edge.slots:
            return f"{name}: {self._search.limit.figure} is not known here, so no limit on it can be searched for."
        rate = f", {number(at.pages_per_s)} pages/s" if at else ""
        if at and at.failures:  # they are in no other figure, which may look the better for it
            rate += f", where {at.failures} of {at.pages} pages failed"
        if at is None:
            sentence = f"{name} does not keep {words} {self._nowhere()}"
        elif beside is None:
            sentence = f"{name} keeps {words} {self._everywhere()}{self._interval()}{rate}"
        elif self._search.sought == "largest":
            then = f"; then {_bound(beside)}" if _bound(beside) else ""
            sentence = f"{name} keeps {words} up to {self._words(self._at)}{self._interval()}{rate}{then}"
        else:
            then = f"; below that {_bound(beside)}" if _bound(beside) else ""
            sentence = f"{name} keeps {words} from {self._words(self._at)} on{self._interval()}{rate}{then}"
        if self._state != "found":
            sentence += f"; {_LEFT_OPEN[self._state]}"
        if self._search.along in SETTINGS_SOUGHT and at is not None and self._round_trip_ms is not None:
            sentence += f". That holds for a round trip of {number(self._round_trip_ms)} ms"
        return f"{sentence}."

    def _nowhere(self) -> str:
        """Where no value keeps the limit, with the one that comes nearest."""
        nearest = self._row(1 if self._search.sought == "largest" else self._places)
        what = "at any load" if self._search.along not in SETTINGS_SOUGHT else f"with any {self._search.along}"
        value = getattr(nearest, self._search.limit.figure) if nearest else None
        place = self._words(1 if self._search.sought == "largest" else self._places)
        return (
            f"{what}: with {place} it is {number(value)}" if value is not None else f"{what}, not with {place} either"
        )

    def _everywhere(self) -> str:
        """Where all values keep it."""
        last = self._words(self._at)
        if self._search.sought == "smallest":
            return f"from the smallest on, {last}"
        may_be = "may be" if self._at == self._places else "was"  # the search may have ended before
        return f"up to the largest that {may_be} tried, {last}"

    def _interval(self) -> str:
        low, high = self._value(self._low), self._value(self._high)
        return f" [{'none' if low is None else f'{low:g}'}, {'none' if high is None else f'{high:g}'}]"

    def _words(self, place: int) -> str:
        condition = self._line.conditions[place - 1]
        if self._search.along in SETTINGS_SOUGHT:
            return f"{self._search.along}={dict(condition.variant)[self._search.along]}"
        return str(condition.load)

    def _value(self, place: int) -> float | None:
        if place < 1:
            return 0.0
        return self._line.values[place - 1] if place <= self._places else None

    def _row(self, place: int) -> ClassRow | None:
        if not 1 <= place <= self._places:
            return None
        condition: Condition = self._line.conditions[place - 1]
        return self._rows.get(condition.key)


def _bound(row: ClassRow | None) -> str | None:
    """What bound a row, as a part of a sentence: `client CPU`, `users, mostly db`, `not sustained, client CPU`."""
    return (bound_words(row).replace("; ", ", ") or None) if row else None


def _round_trip_ms(line: Line, measured_on: Mapping[str, Any]) -> float | None:
    """The shortest round trip that the slots of a line had; None where it is not known."""
    server, options = measured_on.get("server"), measured_on.get("options")
    shortest_ms = server.get("round_trip_ms") if isinstance(server, dict) else None
    setting = dict(line.conditions[0].variant).get(ROUND_TRIP)
    if shortest_ms is None or setting is None:
        return shortest_ms
    # it was measured with that of the option
    of_option_ms = 1000 * (options.get("round_trip") or 0.0) if isinstance(options, dict) else 0.0
    return float(shortest_ms) - of_option_ms + float(setting.removesuffix("ms"))
