"""Ladders of numbers and settings that vary, as they are written: `1,2,5`, and `pool-size=1..20 end=rollback,commit`.

Which settings can vary is left to `dbkit.cli.options`; whether they fit the classes, to `dbkit.load.variants`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from dbkit.analysis.condition import Variation
from dbkit.cli.values import ValueType
from dbkit.errors import DbkitError

MOST_PAGES_A_SECOND = 100_000
"""Higher rates are refused: to know when pages are due would take all of a process's time."""
MOST_VALUES = 1000
"""More values of one setting than these are refused."""

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class Stored(argparse._StoreAction):
    """An option with one value. Python's own, up to 3.12, reads an empty list from `--option=--`."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if values == []:
            raise argparse.ArgumentError(self, "expected one argument")
        super().__call__(parser, namespace, values, option_string)


class Appended(argparse._AppendAction):
    """An option that can be given several times, in a file also as a list: its texts are one, with a separator."""

    def __init__(self, *arguments: Any, separator: str, **about: Any) -> None:
        super().__init__(*arguments, **about)
        self._separator = separator

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        assert isinstance(self.type, ValueType)
        if values == []:  # see `Stored`
            raise argparse.ArgumentError(self, "expected one argument")
        try:
            together = self.type(self._separator.join(filter(None, (getattr(namespace, self.dest), values))))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, together)


def ladder(unit: str) -> ValueType:
    """Ascending numbers of at least 1; nothing for none. The value is text: see `read_ladder`."""

    def read(text: str) -> str:
        if text:
            read_ladder(text)
        return text

    return ValueType("ascending numbers of at least 1, such as 1,2,5,10", unit, read)


def read_ladder(text: str) -> tuple[int, ...]:
    """The numbers of a ladder. Raises ValueError where they do not ascend, or are none."""
    steps = tuple(int(step) for step in text.split(","))
    if steps[0] < 1 or any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError
    return steps


def rates(unit: str) -> ValueType:
    """Ascending rates above 0, `MOST_PAGES_A_SECOND` at most; nothing for none. The value is text: see `read_rates`."""

    def read(text: str) -> str:
        if text:
            read_rates(text)
        return text

    expected = f"ascending numbers above 0 and at most {MOST_PAGES_A_SECOND}, such as 100 or 50,100,200"
    return ValueType(expected, unit, read)


def read_rates(text: str) -> tuple[float, ...]:
    """Rates, a second. Raises ValueError where they do not ascend, or are no numbers above 0, or too high.

    They have six digits, as in all outputs: rates with the same ones would be one.
    """
    steps = tuple(float(f"{float(step):g}") for step in text.split(","))
    ascend = all(earlier < later for earlier, later in pairwise((0.0, *steps)))  # and none is not a number
    if not (ascend and steps[-1] <= MOST_PAGES_A_SECOND):
        raise ValueError
    return steps


def variations(types: Callable[[], Mapping[str, ValueType]]) -> ValueType:
    """Settings that vary; nothing for none. The value is text, in one form: see `read_variations`."""

    def read(text: str) -> str:
        try:
            found = read_variations(text, types())
        except DbkitError as mistake:  # says more than what was expected
            raise argparse.ArgumentTypeError(str(mistake)) from None
        return " ".join(f"{each.name}={','.join(each.values)}" for each in found)

    return ValueType("settings with their values", "name=values", read)


def read_variations(text: str, types: Mapping[str, ValueType]) -> tuple[Variation, ...]:
    """The settings that vary, by the types of those that can.

    Raises DbkitError for another setting, one that is named twice, and for values that are bad, the same, or only one.
    The message never has a value of `database`, which may be a URL.
    """
    found: list[Variation] = []
    for part in text.split():
        name, equals, values = part.partition("=")
        if name not in types or not equals:
            shown = name if re.fullmatch("[A-Za-z_-]{1,40}", name) else "what is given"
            raise DbkitError(f"{shown} cannot vary: write NAME=VALUE,VALUE with one of {', '.join(sorted(types))}")
        if name in {variation.name for variation in found}:
            raise DbkitError(f"{name} is given twice: write all its values once, as {name}=VALUE,VALUE")
        found.append(Variation(name, _read_values(name, values, types[name])))
    return tuple(found)


def _read_values(name: str, text: str, value_type: ValueType) -> tuple[str, ...]:
    values: list[str] = []
    for written in _expanded(name, text):
        try:
            value = value_type.write(value_type(written))
        except argparse.ArgumentTypeError as error:
            raise DbkitError(f"{name}: {error}") from None
        if value in values:
            raise DbkitError(f"{name} has the value {value} twice: write each once")
        values.append(value)
    if len(values) < 2:
        raise DbkitError(f"{name} does not vary: give it two values or more, as {name}=VALUE,VALUE")
    return tuple(values)


def _expanded(name: str, text: str) -> list[str]:
    """Single values, for `1..5` each from 1 to 5."""
    values: list[str] = []
    for part in text.split(","):
        if (span := _RANGE.fullmatch(part)) is None:
            values.append(part)
            continue
        first, last = int(span[1]), int(span[2])
        if not 0 <= last - first < MOST_VALUES:
            raise DbkitError(f"{name}: invalid range {part!r}: expected ascending ends, {MOST_VALUES} values at most")
        values += map(str, range(first, last + 1))
    return values
