"""A result as files beside Locust's own: `<prefix>_strategies.csv`, `<prefix>_slots.csv`, `<prefix>_comparison.json`.

The columns are those of the records in `dbkit.analysis.records`. For how files are written see `dbkit.output.writing`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence

from dbkit.analysis.records import ClassRow, PageFigures, SlotRow
from dbkit.analysis.result import Result
from dbkit.analysis.rows import SIGNIFICANT_DIGITS
from dbkit.output.columns import file_columns, file_value
from dbkit.output.writing import write_text

_SIGNS = "=+@\uff1d\uff0b\uff20\uff0d-"
FORMULA_BEGINNINGS = (*_SIGNS, "\t", "\n")
"""What a spreadsheet takes for the beginning of a formula, also where letters are wide, or skips before one."""
_BEGINNING_WITHIN = re.compile(f"(?<=[;\t\n])(?=[{_SIGNS}])")
"""The same within a cell, as a reader may separate cells by semicolons or tabs."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)

FILES: dict[str, Callable[[Result], str]] = {
    "strategies.csv": lambda result: _table(ClassRow, result.strategies),
    "slots.csv": lambda result: _table(SlotRow, result.slots),
    "comparison.json": lambda result: json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n",
}
"""What makes the content of each file, by the end of its name."""


def write_file(result: Result, name: str, path: str) -> None:
    """Write the one of the `FILES` of that name. Raises DbkitError where that cannot be done."""
    write_text(path, FILES[name](result), option="--csv")


def cell(value: object) -> object:
    """A value as the CSV files have it; None stays, and is written as nothing.

    For text see `harmless`.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return harmless(value)
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else value


def harmless(text: str) -> str:
    """Text that is no formula in a spreadsheet: an apostrophe stands before what would begin one. Numbers stay.

    A carriage return, which readers take for the end of a row, is a line break within the cell.
    """
    if _NUMBER.fullmatch(text):
        return text
    text = _BEGINNING_WITHIN.sub("'", text.replace("\r", "\n"))
    return f"'{text}" if text.startswith(FORMULA_BEGINNINGS) else text


def _table(record: type[ClassRow] | type[SlotRow], rows: Sequence[PageFigures]) -> str:
    text = io.StringIO()
    names = file_columns(record, rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(cell(file_value(row, name)) for name in names)
    return text.getvalue()
