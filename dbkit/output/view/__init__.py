"""What people look at: the templates, script and style that the report, the summary and the web UI share.

`tables.html` holds the tables as macros, `charts.js` the charts as functions, `style.css` their looks, all of it under
the class `dbkit`. What they show is in the records of `dbkit.analysis`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dbkit.analysis.before_after import finding
from dbkit.analysis.columns import Column, Group
from dbkit.analysis.formats import limit, number, ratio
from dbkit.analysis.parts import Part
from dbkit.analysis.records import table_columns
from dbkit.analysis.varied import value
from dbkit.output.columns import BY_NAME, cost_groups, file_value, known_in, plain_meaning
from dbkit.output.csv_files import cell

CHARTED_OF_SLOTS = (
    *("condition", "began_s", "seconds", "pages_per_s", "p95_ms", "steal_share", "other_cpu_share"),
    *("disturbed", "incomplete", "replaced"),
)
"""What `charts.js` reads of a slot's row."""
CHARTED_OF_LADDERS = (
    *("condition", "label", "pages_per_s", "pages_per_s_low", "pages_per_s_high"),
    *("p95_ms", "p95_ms_low", "p95_ms_high"),
)
"""What it reads of a class's row for lines along loads and settings, and the figures of limits."""


@cache
def templates() -> Environment:
    """The templates, with everything escaped in those of HTML.

    Filters: `number`, `limit` and `ratio` for cells as people read them, `finding` for what a verdict on two revisions
    says, `exact` for a figure as the CSV files have it, `varied` for a row's value of what varies, `axis_title` for a
    column along an axis, and those of `dbkit.output.columns`. Globals: `table_columns` and `Group` of `dbkit.analysis`,
    and `column`, the columns of a class by name.
    """
    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # looking for newer files takes longer than the tables
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    environment.filters.update(number=number, limit=limit, exact=_exact, varied=value, ratio=ratio, finding=finding)
    environment.filters.update(known_in=known_in, cost_groups=cost_groups, plain_meaning=plain_meaning)
    environment.filters.update(file_value=file_value, axis_title=axis_title)
    environment.globals.update(table_columns=table_columns, Group=Group, column=BY_NAME)
    return environment


def source(name: str) -> str:
    """The text of a script or a style sheet."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def axis_title(column: Column) -> str:
    """What stands along an axis: `pages/s`, `p95, ms`, `failures`."""
    name = column.heading if column.heading and column.unit else column.name
    return f"{name}, ms" if column.unit == "ms" else name


def charted_of_ladders(part: Part) -> list[dict[str, object]]:
    """What charts along loads and settings read of each row."""
    names = dict.fromkeys((*CHARTED_OF_LADDERS, *part.quantities_charted))
    return [{name: getattr(row, name) for name in names} for row in part.strategies]


def _exact(value: object) -> object:
    return "" if value is None else cell(value)
