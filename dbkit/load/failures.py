"""What Locust's failures table says of a failed page: few, stable messages that group.

A message holds the SQLSTATE with its name, or the exception's class and a short reason; never SQL, parameters or a URL.
"""

from __future__ import annotations

import asyncpg
import psycopg
import psycopg.errors
import sqlalchemy.exc

REASON_MAX_CHARACTERS = 100


class PageFailure(Exception):
    """Why a page failed, in words that group; its `__cause__` is the exception itself where there was one."""

    @classmethod
    def of(cls, error: Exception) -> PageFailure:
        """Wrap an exception for Locust's failure table."""
        failure = cls(_message(error))
        failure.__cause__ = error
        return failure

    def __repr__(self) -> str:
        # Locust groups failures by it and shows it
        return str(self)


def _message(error: Exception) -> str:
    if isinstance(error, PageFailure):
        return str(error)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return "PoolTimeout: no connection became free within the pool timeout"
    origin = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else error
    if (sqlstate := getattr(origin, "sqlstate", None)) is not None:
        return f"{sqlstate} {_sqlstate_name(sqlstate)}"
    name = type(origin).__name__
    if isinstance(origin, psycopg.OperationalError):
        return f"{name}: the connection failed or was lost"
    if isinstance(origin, OSError):
        return f"{name}: {origin.strerror}"
    # what a driver or SQLAlchemy says of anything else may show a parameter
    if (
        isinstance(origin, psycopg.Error | asyncpg.InterfaceError | sqlalchemy.exc.SQLAlchemyError)
        or origin is not error
    ):
        return name
    reason = str(origin).partition("\n")[0][:REASON_MAX_CHARACTERS]
    return f"{name}: {reason}" if reason else name


def _sqlstate_name(sqlstate: str) -> str:
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return "(no name known)"
