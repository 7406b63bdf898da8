"""dbkit: which way of loading SQLAlchemy list pages is fastest on your PostgreSQL, and why.

The names below are public. They are plain SQLAlchemy and run in any script or web application; `dbkit.load` adds
Locust's users. Importing `dbkit` alone imports no driver: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbkit.database.engines import find_database, make_async_engine, make_engine
    from dbkit.database.meter import meter
    from dbkit.database.settings import Settings
    from dbkit.database.url import DatabaseUrl
    from dbkit.errors import DbkitError
    from dbkit.measure.cost import PageCost
    from dbkit.paging import read_page, read_page_async

__all__ = (
    "DatabaseUrl",
    "DbkitError",
    "PageCost",
    "Settings",
    "find_database",
    "make_async_engine",
    "make_engine",
    "meter",
    "read_page",
    "read_page_async",
)

_MODULES = {
    "DatabaseUrl": "dbkit.database.url",
    "DbkitError": "dbkit.errors",
    "PageCost": "dbkit.measure.cost",
    "Settings": "dbkit.database.settings",
    "find_database": "dbkit.database.engines",
    "make_async_engine": "dbkit.database.engines",
    "make_engine": "dbkit.database.engines",
    "meter": "dbkit.database.meter",
    "read_page": "dbkit.paging",
    "read_page_async": "dbkit.paging",
}

if not TYPE_CHECKING:  # or a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
