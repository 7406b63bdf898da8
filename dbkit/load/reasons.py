"""What an error says, without what it must not give away: SQL, parameters of SQL, passwords and URLs.

Which errors are counted together, and for whom, is left to `dbkit.load.failures`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import asyncpg
import psycopg
import sqlalchemy.exc

from dbkit.errors import PLACEHOLDER, without_secrets
from dbkit.load.connection_reasons import connection_reason, sqlstate_name
from dbkit.workload import WrongPage

QUERY_CANCELED = "57014"
PROTOCOL_VIOLATION = "08P01"
"""What PgBouncer says with all that it refuses."""
READ_ONLY = "25006"
"""SQLSTATE of what writes where that is not allowed."""
READ_ONLY_WORDS = "for a page to write, its class needs writes = True"
READ_CHARACTERS = 500
"""How much of an error's words is looked at."""
_SQL = re.compile(r"\[(?:SQL|parameters): |\(Background on this error|Original exception was: ")
"""What SQLAlchemy adds to an error's own words begins with this."""
_VALUE = re.compile(
    "|".join(
        (
            r"(?<!\w)(?P<quote>['\"`])(?P<quoted>(?:\\.|[^\\])*?)(?P=quote)(?!\w)",
            r"“[^”]*”|\u2018[^\u2019]*\u2019|«[^»]*»",
            r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b",
            r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*",
            r"(?P<name>\b[^\W\d]+)(?P<number>\d+)\b",
            r"(?<!\w)[-+]?\w*\d\w*",
        )
    )
)
"""What differs between errors that are alike: quoted text, UUIDs, addresses, and words with digits in them."""
_VALUES = re.compile(rf"{PLACEHOLDER}(?:\s*[-+.,:;/_]?\s*{PLACEHOLDER})+")
_NAME_IN_CODE = re.compile(r"[^\W\d][\w.]*")


class Reason(NamedTuple):
    """What an error says."""

    kind: str
    """Its class, or its SQLSTATE with the name of that."""
    words: str
    """Several lines at the most; empty where it says nothing, or nothing that may be shown."""
    names_code: bool = False
    """Whether what it quotes are names in code, which say more than they differ."""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.kind, self.words)))


def reason_of(error: BaseException) -> Reason:
    """Why a page failed. Of a group of errors it is the first one's."""
    if isinstance(error, BaseExceptionGroup):
        first = reason_of(error.exceptions[0])
        return first._replace(kind=f"{_name(error)}: {first.kind}")
    if isinstance(error, WrongPage):
        words = _words(error)
        return Reason("" if words else _name(error), words)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return Reason("PoolTimeout", "no connection became free within the pool timeout")
    origin = error.orig if isinstance(error, sqlalchemy.exc.StatementError) and error.orig is not None else error
    if (of_connection := connection_reason(_of_driver(origin))) is not None:
        kind, words = of_connection
        return Reason(kind, without_secrets(words))
    if isinstance(sqlstate := getattr(origin, "sqlstate", None), str):
        return Reason(sqlstate_name(sqlstate), _server_words(sqlstate, origin))
    if isinstance(origin, psycopg.OperationalError):
        return Reason(_name(origin), "the connection failed or was lost")
    # what a driver says, or SQLAlchemy of a statement, may show a parameter
    if isinstance(origin, psycopg.Error | asyncpg.InterfaceError) or isinstance(error, sqlalchemy.exc.StatementError):
        return Reason(_name(origin), "")
    if isinstance(origin, OSError) and origin.strerror:
        return Reason(_name(origin), origin.strerror)
    if isinstance(origin, sqlalchemy.exc.SQLAlchemyError):
        return Reason(_name(origin), _words(origin).partition("\n")[0], names_code=True)
    of_code = isinstance(origin, AttributeError | ImportError | NameError | TypeError)
    return Reason(_name(origin), _words(origin), names_code=of_code and type(origin).__module__ == "builtins")


def grouped(words: str, *, names_code: bool = False) -> str:
    """The first line of what an error says, with `…` in the place of values; so alike errors say the same.

    `names_code` keeps what is quoted and may be a name in code.
    """

    def placeholder(found: re.Match[str]) -> str:
        if names_code and found["quoted"] and _NAME_IN_CODE.fullmatch(found["quoted"]):
            return found[0]
        return f"{found['name']}{PLACEHOLDER}" if found["name"] else PLACEHOLDER

    line = " ".join(words.strip().partition("\n")[0].split())
    return _VALUES.sub(PLACEHOLDER, _VALUE.sub(placeholder, line))


def _words(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # its own method may fail
        return ""
    return without_secrets(_SQL.split(said, maxsplit=1)[0][:READ_CHARACTERS]).strip()


def _name(error: BaseException) -> str:
    return without_secrets(type(error).__name__)


def _of_driver(origin: BaseException) -> BaseException:
    """asyncpg's error, where SQLAlchemy has put one of its own in its place."""
    return origin.__cause__ if isinstance(origin.__cause__, asyncpg.PostgresError | asyncpg.InterfaceError) else origin


def _server_words(sqlstate: str, origin: BaseException) -> str:
    """What says more than the SQLSTATE, and has no values: which limit it was, what to add, what a pooler says."""
    if sqlstate == READ_ONLY:
        return READ_ONLY_WORDS
    line = _words(origin).partition("\n")[0]
    if sqlstate == QUERY_CANCELED:
        return "statement timeout" if line.endswith("statement timeout") else ""
    return line if sqlstate == PROTOCOL_VIOLATION else ""
