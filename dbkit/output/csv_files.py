"""A result as files beside Locust's own: `<prefix>_strategies.csv`, `<prefix>_slots.csv`, `<prefix>_comparison.json`.

The columns are those of the records in `dbkit.analysis.records`. For how files are written see `dbkit.output.writing`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from dbkit.analysis.records import ClassRow, PageFigures, SlotRow
from dbkit.analysis.result import Result
from dbkit.analysis.rows import SIGNIFICANT_DIGITS
from dbkit.output.columns import file_columns, file_value
from dbkit.output.writing import write_text

FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\n")

FILES: dict[str, Callable[[Result], str]] = {
    "strategies.csv": lambda result: _table(ClassRow, result.strategies),
    "slots.csv": lambda result: _table(SlotRow, result.slots),
    "comparison.json": lambda result: json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n",
}
"""What makes the content of each file, by the end of its name."""


def write_files(result: Result, prefix: str) -> None:
    """Write all three. Raises DbkitError where that cannot be done."""
    for name, content in FILES.items():
        write_text(f"{prefix}_{name}", content(result), option="--csv")


def cell(value: object) -> object:
    """A value as the CSV files have it; None stays, and is written as nothing.

    Text that a spreadsheet would take for a formula begins with an apostrophe. A carriage return, which readers take
    for the end of a row, is a line break within the cell.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        value = value.replace("\r", "\n")
        return f"'{value}" if value.startswith(FORMULA_BEGINNINGS) else value
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else value


def _table(record: type[ClassRow] | type[SlotRow], rows: Sequence[PageFigures]) -> str:
    text = io.StringIO()
    names = file_columns(record, rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(cell(file_value(row, name)) for name in names)
    return text.getvalue()
