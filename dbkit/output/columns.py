"""The table of columns as outputs use it: names for files, headings for tables, and the tables of docs/results.md.

What a column is: see `dbkit.analysis.records`. `python -m dbkit.output.columns` prints the tables of docs/results.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from dbkit.analysis.columns import Column, Group, columns
from dbkit.analysis.model_records import Forecast, Law, LawPoint, LimitFound
from dbkit.analysis.records import BareRow, ClassRow, PageFigures, SlotRow, Verdict, table_columns

BY_NAME = {column.name: column for column in columns(ClassRow)}
"""The columns of a class, by name."""

COSTS = (Group.ARRIVALS, Group.COUNTS, Group.PARTS, Group.CPU, Group.HARNESS)
"""The groups of the tables that say why a class is fast or slow."""

DOCUMENTED: dict[str, tuple[Column, ...]] = {
    "classes and slots": columns(PageFigures),
    "classes": tuple(column for column in columns(ClassRow) if column not in columns(PageFigures)),
    "slots": tuple(column for column in columns(SlotRow) if column not in columns(PageFigures)),
    "verdicts": columns(Verdict),
    "calibration": columns(BareRow),
    "forecasts": columns(Forecast),
    "laws": columns(Law),
    "points of laws": columns(LawPoint),
    "limits": columns(LimitFound),
}
"""What each table of docs/results.md holds, by its name there."""


def file_columns(record: type[ClassRow] | type[SlotRow], rows: Sequence[PageFigures]) -> list[str]:
    """The names of the columns of a CSV file; with `condition` only where it says more than the class.

    After `users` come the settings that vary, by their names.
    """
    needs_condition = any(row.label != row.user_class for row in rows)
    names = [column.name for column in columns(record) if column.name != "condition" or needs_condition]
    after_users = names.index("users") + 1
    return [*names[:after_users], *sorted({name for row in rows for name in row.settings}), *names[after_users:]]


def file_value(row: PageFigures, name: str) -> object:
    """What a CSV file has in a column of `file_columns`."""
    return row.settings.get(name, "") if name not in row.__struct_fields__ else getattr(row, name)


def cost_groups(rows: Sequence[ClassRow]) -> dict[str, list[Column]]:
    """What a page takes: the columns of `COSTS` that some row has a value in, under the headings of their groups."""
    groups = {group.value: known_in(table_columns(group), rows) for group in COSTS}
    return {heading: known for heading, known in groups.items() if known}


def known_in(shown: Sequence[Column], rows: Sequence[Struct]) -> list[Column]:
    """Those columns that some row has a value in."""
    return [column for column in shown if any(getattr(row, column.name) is not None for row in rows)]


def plain_meaning(column: Column) -> str:
    """What a column means, without the links and the quotes of Markdown."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", column.meaning).replace("`", "")


def markdown_table(described: Sequence[Column]) -> str:
    """The columns as a table in Markdown: name, unit, heading in tables, and meaning."""
    lines = ["| column | unit | in tables | meaning |", "|---|---|---|---|"]
    lines += [f"| `{each.name}` | {each.unit} | {each.heading} | {each.meaning} |" for each in described]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, described in DOCUMENTED.items():
        print(f"<!-- columns: {name} -->\n{markdown_table(described)}")
