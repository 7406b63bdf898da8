"""The types of the values that command lines take: how their text is read, and what a bad one is answered.

Which option takes which is left to `dbkit.cli.options`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError

_TIMESPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
"""Locust's form of a time (`locust.util.timespan`), with fractions of a second."""


@dataclass(frozen=True)
class ValueType:
    """A type for `argparse`: turns text into a value, or raises ArgumentTypeError that says what was expected."""

    expected: str
    read: Callable[[str], Any]
    """Returns the value, or raises ValueError."""

    def __call__(self, text: str) -> Any:
        try:
            return self.read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected {self.expected}") from None


def integer(minimum: int | None = None) -> ValueType:
    """An integer, of at least `minimum` if one is given."""

    def read(text: str) -> int:
        number = int(text)
        if minimum is not None and number < minimum:
            raise ValueError
        return number

    return ValueType("an integer" if minimum is None else f"an integer of at least {minimum}", read)


def duration(*, positive: bool = False) -> ValueType:
    """A time in seconds, written as `0.5` or as `1m30s`: at least 0, or above 0 if it must be `positive`."""

    def read(text: str) -> float:
        seconds = read_seconds(text)
        if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
            raise ValueError
        return seconds

    bound = "above 0" if positive else "of at least 0"
    return ValueType(f"a time such as 2, 0.5 or 1m30s, {bound}", read)


def share() -> ValueType:
    """A number from 0 to 1."""

    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 1:
            raise ValueError
        return value

    return ValueType("a number from 0 to 1", read)


def text(expected: str) -> ValueType:
    """Any text. `expected` says what it names, such as "a file"."""
    return ValueType(expected, str)


def database_url() -> ValueType:
    """A database's URL. An empty one, as of a variable that is set to nothing, is None."""

    def read(url: str) -> DatabaseUrl | None:
        try:
            return DatabaseUrl.parse(url) if url else None
        except DbkitError as mistake:  # says more than what was expected, and shows no password
            raise argparse.ArgumentTypeError(str(mistake)) from None

    return ValueType("a URL", read)


def read_seconds(text: str) -> float:
    """The seconds of a time such as `2`, `0.5`, `2s` or `1h20m`. Raises ValueError for any other text."""
    timespan = _TIMESPAN.fullmatch(text)
    if not text or timespan is None:
        return float(text)
    hours, minutes, seconds = (float(part or 0) for part in timespan.groups())
    return hours * 3600 + minutes * 60 + seconds
