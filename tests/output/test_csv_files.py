"""The CSV files as spreadsheets read them: every cell is what it says, and no name is a formula."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import example, given
from hypothesis import strategies as st

from dbkit.output.csv_files import FILES, FORMULA_BEGINNINGS
from tests.slots import class_row, plain_result, slot_row

NUMBER = re.compile(r"[-+][0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)


@given(st.text(max_size=20), st.text(max_size=20))
@example("=cmd|' /C calc'!A0", "@SUM(1)")
@example("-1+2", '"=1"')
@example("a,b", "a\nb")
@example("\t=1", "+1")
@example("-12.5e-3", "\uff1d1")
@example("a;=1", "b\n@1")
def test_any_name_is_in_its_cell_and_is_no_formula(name: str, workload: str) -> None:
    more = {"workload": workload, "stack": workload, "strategy": name}
    result = plain_result(
        strategies=[class_row(name, pages_per_s=-1.5, **more)],
        slots=[slot_row(name, pages_per_s=-1.5, **more)],
    )
    for file in ("strategies.csv", "slots.csv"):
        [row] = csv.DictReader(io.StringIO(FILES[file](result), newline=""))
        assert row["pages_per_s"] == "-1.5"
        for column, expected in {"user_class": name, **more}.items():
            found = row[column]
            expected = expected.replace("\r", "\n")
            assert not found.startswith(FORMULA_BEGINNINGS) or NUMBER.fullmatch(found)
            for part in found.split(";"):  # as where cells are separated by it
                assert not part.strip("\n\t").startswith(("=", "@")), found
            assert found.replace("'", "") == expected.replace("'", "")


def test_the_workload_stands_in_every_row() -> None:
    result = plain_result(strategies=[class_row("One"), class_row("Other", workload="orders")])
    rows = list(csv.DictReader(io.StringIO(FILES["strategies.csv"](result))))
    assert [(row["user_class"], row["workload"]) for row in rows] == [("One", "albums"), ("Other", "orders")]
