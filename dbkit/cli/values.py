"""The types of the values that command lines take: how their text is read, and what a bad one is answered.

Which option takes which is left to `dbkit.cli.options`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from dbkit.analysis.checks import read_checks
from dbkit.analysis.limits import read_limit
from dbkit.database.engines import DATABASE_NAME
from dbkit.database.url import URL_VARIABLE, DatabaseUrl
from dbkit.errors import DbkitError

Value = TypeVar("Value")

LONGEST_ROUND_TRIP_MS = 1000

_TIMESPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
"""Locust's form of a time (`locust.util.timespan`), with fractions of a second."""


def as_written(value: object) -> str:
    """A value of an option as its shortest text that is read as the same value."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


@dataclass(frozen=True)
class ValueType:
    """A type for `argparse`: turns text into a value, or raises ArgumentTypeError that says what was expected."""

    expected: str
    unit: str
    """What stands for the value in `--help`; empty where `choices` do."""
    read: Callable[[str], Any]
    """Returns the value, or raises ValueError."""
    choices: tuple[str, ...] | None = None
    """All values, if they are few words."""
    write: Callable[[Any], str] = as_written
    """The shortest text of a value."""

    def __call__(self, text: str) -> Any:
        try:
            return self.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {self.expected}") from None


def integer(minimum: int | None = None, unit: str = "number", maximum: int | None = None) -> ValueType:
    """An integer, of at least `minimum` and at most `maximum` if these are given."""
    expected = "an integer" if minimum is None else f"an integer of at least {minimum}"
    if maximum is not None:
        expected = f"{expected} and at most {maximum}"

    def read(text: str) -> int:
        number = int(text)
        return _only_if(number, (minimum is None or number >= minimum) and (maximum is None or number <= maximum))

    return ValueType(expected, unit, read)


AUTO = 0
"""A number of rounds: as many as it takes."""


def rounds() -> ValueType:
    """A number of rounds of at least 1, or `AUTO`, written as `auto`."""
    number = integer(1)
    return ValueType(
        f"{number.expected}, or auto",
        "number",
        lambda text: AUTO if text == "auto" else number.read(text),
        write=lambda value: "auto" if value == AUTO else str(value),
    )


def sides() -> ValueType:
    """The names of the two sides of a before and after, as a list in JSON; nothing for none. The value is text."""

    def read(text: str) -> str:
        if text:
            read_sides(text)
        return text

    return ValueType("a list of two names in JSON", "names", read)


def read_sides(text: str) -> tuple[str, ...]:
    """The names of `sides`; none for no text. Raises ValueError where they are not two different ones."""
    if not text:
        return ()
    names = tuple(msgspec.json.decode(text, type=list[str]))  # whose error is a ValueError
    return _only_if(names, len(names) == len({*names}) == 2)


def duration(*, positive: bool = False) -> ValueType:
    """A time in seconds, written as `0.5` or as `1m30s`: at least 0, or above 0 if it must be `positive`."""

    def read(text: str) -> float:
        seconds = read_seconds(text)
        return _only_if(seconds, 0 < seconds < math.inf or (seconds == 0 and not positive))

    return ValueType(f"a time such as 2, 0.5 or 1m30s, {'above 0' if positive else 'of at least 0'}", "seconds", read)


def round_trip() -> ValueType:
    """The time of a round trip in milliseconds, such as `1ms` or `0.2ms`; in seconds.

    The unit is a part of it: other times are in seconds, and a round trip of a second is nobody's.
    """

    def read(text: str) -> float:
        milliseconds = float(text.removesuffix("ms"))
        has_unit = text.endswith("ms") or milliseconds == 0
        return _only_if(milliseconds / 1000, has_unit and 0 <= milliseconds <= LONGEST_ROUND_TRIP_MS)

    expected = f"a time such as 1ms or 0.5ms, {LONGEST_ROUND_TRIP_MS}ms at the most"
    return ValueType(expected, "milliseconds", read, write=lambda seconds: f"{seconds * 1000:g}ms")


def several(one: ValueType) -> ValueType:
    """Several values of one type with commas between them, each of them once, in the order given."""

    def read(text: str) -> tuple[Any, ...]:
        values = [one.read(part) for part in text.split(",")]
        return _only_if(tuple(values), len({*values}) == len(values))

    return ValueType(f"{one.expected}; or several with commas, each once", f"{one.unit},…", read)


def share() -> ValueType:
    """A number from 0 to 1."""
    return ValueType("a number from 0 to 1", "share", lambda text: _only_if(value := float(text), 0 <= value <= 1))


def choice(*choices: str) -> ValueType:
    """One of a few words."""
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
    return ValueType(expected, "", lambda text: _only_if(text, text in choices), choices)


def text(unit: str) -> ValueType:
    """Any text."""
    return ValueType(unit, unit, str)


def limit() -> ValueType:
    """A limit on a figure; nothing for none. The value is text, in one form: see `dbkit.analysis.limits`."""

    def read(text: str) -> str:
        try:
            return str(read_limit(text)) if text else ""
        except DbkitError as mistake:  # says more than what was expected
            raise argparse.ArgumentTypeError(str(mistake)) from None

    return ValueType("a limit", "limit", read)


def checks() -> ValueType:
    """Checks on figures, with `;` or ends of lines between them. The value is text, in one form."""

    def read(text: str) -> str:
        try:
            return "; ".join(map(str, read_checks(text)))
        except DbkitError as mistake:  # says more than what was expected
            raise argparse.ArgumentTypeError(str(mistake)) from None

    return ValueType("checks", "check", read)


def database_url() -> ValueType:
    """A database's URL. An empty one, as of a variable that is set to nothing, is None."""

    def read(url: str) -> DatabaseUrl | None:
        try:
            return DatabaseUrl.parse(url) if url else None
        except DbkitError as mistake:  # says more than what was expected, and shows no password
            raise argparse.ArgumentTypeError(str(mistake)) from None

    return ValueType("a URL", "url", read)


def database_name() -> ValueType:
    """What a database is called whose URL is in the environment."""

    def read(name: str) -> str:
        if DATABASE_NAME.fullmatch(name) is None:  # not shown, as it may be a URL
            raise argparse.ArgumentTypeError(
                f"expected names such as direct,pooled, where the URL of pooled is in {URL_VARIABLE}_POOLED"
            )
        return name

    return ValueType("a name", "name", read)


def read_seconds(text: str) -> float:
    """The seconds of a time such as `2`, `0.5`, `2s` or `1h20m`. Raises ValueError for any other text."""
    timespan = _TIMESPAN.fullmatch(text)
    if not text or timespan is None:
        return float(text)
    hours, minutes, seconds = (float(part or 0) for part in timespan.groups())
    return hours * 3600 + minutes * 60 + seconds


def _only_if(value: Value, is_allowed: bool) -> Value:
    if not is_allowed:
        raise ValueError
    return value
