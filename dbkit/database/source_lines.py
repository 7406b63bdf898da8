"""The line of the application that sent the statement which is being executed, such as `shop/pages.py:12 in albums`.

`source_line` is to be asked for in an event of SQLAlchemy (`before_cursor_execute`), or in what SQLAlchemy calls.
Walking the frames takes some microseconds a frame: it is for a page that is looked at, not for each page under load.
The lines of an error's traceback are distinguished in the same way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import greenlet

# What may stand between an application and the driver. A library that is not here counts as the application.
_LIBRARIES = frozenset(
    (
        *("sqlalchemy", "sqlmodel", "flask_sqlalchemy", "advanced_alchemy", "sqlalchemy_utils", "fastapi_pagination"),
        *("psycopg", "psycopg_pool", "psycopg2", "asyncpg", "pg8000"),
        *("locust", "gevent", "greenlet", "uvloop", "anyio"),
        *("jinja2", "markupsafe", "pydantic", "marshmallow", "msgspec", "attr"),
        *("opentelemetry", "sentry_sdk", "ddtrace", "newrelic", "wrapt", "tenacity"),
    )
)
_STANDARD_LIBRARY = Path(os.__file__).parent
_INSTALLED = ("site-packages", "dist-packages")


def source_line() -> str | None:
    """The innermost line that is not of SQLAlchemy, a driver, the standard library, or dbkit; None if there is none.

    A file below the working directory is named relative to it. The line is also found where an `async def` page waits
    for the statement: SQLAlchemy executes it in a greenlet, whose parent has the page's frames. `dbkit.todo` counts as
    an application. In a template of Jinja it is the template's line.
    """
    in_sqlalchemy = False
    for frame in _frames():
        module = str(frame.f_globals.get("__name__", ""))
        package, _, rest = module.partition(".")
        if package == "sqlalchemy":
            in_sqlalchemy = True
        elif not in_sqlalchemy:
            continue  # what SQLAlchemy has called: the listener that asks, and the meter
        elif package == "dbkit" and not rest.startswith("todo."):
            if not rest.startswith("database."):
                return None  # it has called the page: who has called dbkit sent no statement
        elif _is_application(frame):
            return _describe(frame)
    return None


def application_traceback(error: BaseException) -> TracebackType | None:
    """The traceback of an error from the outermost line of the application on; None where it has none."""
    return next((each for each in _tracebacks(error) if _is_application(each.tb_frame)), None)


def raised_line(error: BaseException) -> str | None:
    """The innermost line of the application in the traceback of an error; None where it has none."""
    found = [each for each in _tracebacks(error) if _is_application(each.tb_frame)]
    return _describe(found[-1].tb_frame, found[-1].tb_lineno) if found else None


def innermost_line(frame: FrameType | None) -> str | None:
    """The innermost line of the application in `frame` and those that called it; None where there is none."""
    while frame is not None and not _is_application(frame):
        frame = frame.f_back
    return None if frame is None else _describe(frame)


def _tracebacks(error: BaseException) -> Iterator[TracebackType]:
    current = error.__traceback__
    while current is not None:
        yield current
        current = current.tb_next


def _is_application(frame: FrameType) -> bool:
    package, _, rest = str(frame.f_globals.get("__name__", "")).partition(".")
    if package == "dbkit":
        return rest.startswith("todo.")
    return package not in _LIBRARIES and not _is_of_python(frame.f_code.co_filename)


def _frames() -> Iterator[FrameType]:
    """The caller's frames from the innermost on, then those in which the parents of its greenlet wait."""
    current: Any = greenlet.getcurrent()
    frame: FrameType | None = sys._getframe(1)
    while current is not None:
        while frame is not None:
            yield frame
            frame = frame.f_back
        current = current.parent
        frame = current.gr_frame if current is not None else None


def _is_of_python(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<frozen "):
        return True
    return path.is_relative_to(_STANDARD_LIBRARY) and not set(_INSTALLED) & set(path.parts)


def _describe(frame: FrameType, line: int | None = None) -> str:
    code, name = frame.f_code, _readable_name(frame.f_code.co_qualname)
    line = frame.f_lineno if line is None else line
    if (template := frame.f_globals.get("__jinja_template__")) is not None:
        line, name = template.get_corresponding_lineno(line), "template"
    path = Path(code.co_filename)
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith("dbkit."):  # wherever it is installed
        return f"{module.replace('.', '/')}.py:{line} in {name}"
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line} in {name}"


def _readable_name(qualified: str) -> str:
    """`albums_page.page` of `albums_page.<locals>.page.<locals>.<listcomp>`."""
    parts = [part for part in qualified.split(".") if part not in ("<locals>", "<listcomp>", "<setcomp>", "<dictcomp>")]
    if len(parts) > 1 and parts[-1] == "<genexpr>":
        parts.pop()
    return ".".join(parts)
