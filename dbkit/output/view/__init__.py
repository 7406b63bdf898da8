"""What people look at: the templates, script and style that the report, the summary and the web UI share.

`tables.html` holds the tables as macros, `charts.js` the charts as functions, `style.css` their looks, all of it under
the class `dbkit`. What they show is computed by `dbkit.analysis.result`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dbkit.analysis.formats import limit, number, ratio
from dbkit.output.csv_files import cell

CHARTED_OF_SLOTS = (
    *("user_class", "began_s", "seconds", "pages_per_s", "p95_ms", "steal_share", "other_cpu_share"),
    *("disturbed", "incomplete", "replaced"),
)
"""What `charts.js` reads of a slot's row."""


@cache
def templates() -> Environment:
    """The templates, with everything escaped in those of HTML.

    Filters: `number`, `ratio` and `limit` for cells as people read them, `exact` for a figure as the CSV files have it,
    `by_class` for a list of verdicts, to look one up, and `known_in` for columns of rows, to leave out empty ones.
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
    environment.filters.update(
        number=number, ratio=ratio, limit=limit, exact=_exact, by_class=_by_class, known_in=_known_in
    )
    return environment


def source(name: str) -> str:
    """The text of `charts.js` or `style.css`."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _exact(value: object) -> object:
    return "" if value is None else cell(value)


def _by_class(verdicts: list[Mapping[str, object]]) -> dict[object, Mapping[str, object]]:
    return {verdict["user_class"]: verdict for verdict in verdicts}


def _known_in(columns: Mapping[str, object], rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {name: about for name, about in columns.items() if any(row[name] is not None for row in rows)}
