"""One table of columns: every record, file and documented table follows from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct

from dbkit.analysis.columns import Column, columns
from dbkit.analysis.model_records import Forecast, Law, LawPoint
from dbkit.analysis.records import BareRow, ClassRow, SlotRow, Verdict
from dbkit.output.columns import BY_NAME, DOCUMENTED, markdown_table

RESULTS = Path(__file__).parents[2] / "docs" / "results.md"
NOT_IN_TABLES = {"label", "settings", "response_curve", "points"}
"""They are in the JSON file alone, where docs/results.md describes them."""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documentation_has_the_tables_of_columns(name: str) -> None:
    [table] = re.findall(rf"<!-- columns: {name} -->\n((?:\|.*\n)+)", RESULTS.read_text(encoding="utf-8"))
    assert table == markdown_table(DOCUMENTED[name]), "run `python -m dbkit.output.columns`"


@pytest.mark.parametrize("record", [ClassRow, SlotRow, BareRow, Verdict, Forecast, Law, LawPoint])
def test_every_field_is_a_column_and_documented(record: type[Struct]) -> None:
    names = {column.name for column in columns(record)}
    assert names | NOT_IN_TABLES >= {*record.__struct_fields__} >= names
    documented = {column for described in DOCUMENTED.values() for column in described}
    assert documented >= {*columns(record)}


@pytest.mark.parametrize(
    "column", [column for column in BY_NAME.values() if column.heading], ids=lambda column: column.name
)
def test_a_heading_is_used_once(column: Column) -> None:
    assert [each.name for each in BY_NAME.values() if each.heading == column.heading] == [column.name]
