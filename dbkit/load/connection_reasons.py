"""One name for each way in which a connection fails, whatever a driver calls it.

psycopg knows no SQLSTATE of a server that lets nobody in, only its words; asyncpg leaves much to Python's own errors of
the network. What is said of other failures is left to `dbkit.load.reasons`.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from traceback import walk_tb

import asyncpg
import psycopg
import psycopg.errors

Name = tuple[str, str]
"""A kind, and words on it; these may be empty."""

LOST: Name = ("ConnectionLost", "the connection was closed by the other side")
CONNECT_TIMEOUT: Name = ("ConnectTimeout", "the server did not let the client in within the connect timeout")
NO_SUCH_HOST: Name = ("NoSuchHost", "the name of the host could not be resolved")
NO_TLS: Name = ("TlsFailed", "no encrypted connection could be agreed on with the server")
REFUSED: Name = ("ConnectionRefused", "no server listens there")
UNREACHABLE: Name = ("HostUnreachable", "the network knows no way to the host")
_OF_ERRNO: dict[int, Name] = {
    errno.ECONNREFUSED: REFUSED,
    errno.ENOENT: REFUSED,  # there is no such socket file
    errno.ETIMEDOUT: ("TcpTimeout", "the other side acknowledged nothing for as long as TCP waits"),
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.ECONNRESET: LOST,
    errno.ECONNABORTED: LOST,
    errno.EPIPE: LOST,
    errno.EMFILE: ("TooManyOpenFiles", "this process may open no further socket: see ulimit -n"),
    errno.EADDRNOTAVAIL: ("NoFreePort", "this machine has no port left for a further connection"),
}
_SQLSTATES = {
    "too many clients already|remaining connection slots are reserved|too many connections for": "53300",
    "password authentication failed|no password supplied": "28P01",
    'authentication failed|pg_hba\\.conf|not permitted to log in|^role ".*" does not exist': "28000",
    '^database ".*" does not exist': "3D000",
    "not currently accepting connections": "55000",
    "permission denied for database": "42501",
    "the database system is ": "57P03",
    "terminating connection due to administrator command": "57P01",
    "terminating connection because of crash": "57P02",
}
"""What a server says that lets nobody in, or no longer, with its SQLSTATE."""
_LOST_SQLSTATES = ("08003", "08006")
"""What drivers say themselves of a connection that is there no more."""
_AT_CONNECT = re.compile(r"(?s)connection (?:failed|is bad): (?:connection to server (?:at|on) .*? failed: )?(.*)")
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def connection_reason(error: BaseException) -> Name | None:
    """The name of what became of a connection; None where the error is of something else.

    `error` is a driver's, or one of Python's that was raised while a driver connected.
    """
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return _of_psycopg(error)
    if isinstance(error, asyncpg.PostgresError):
        return _of_asyncpg(error)
    if isinstance(error, asyncpg.InterfaceError):
        return LOST if "connection is closed" in str(error) else None
    # what asyncpg says where the connection was lost between two of its steps
    if isinstance(error, asyncpg.InternalClientError) or getattr(error, "sqlstate", None) in _LOST_SQLSTATES:
        return LOST
    if isinstance(error, OSError | TimeoutError) and _is_of_asyncpg(error):
        return _of_network(error)
    return None


def sqlstate_name(sqlstate: str) -> str:
    """An SQLSTATE with its name, such as `53300 TooManyConnections`."""
    try:
        return f"{sqlstate} {psycopg.errors.lookup(sqlstate).__name__}"
    except KeyError:
        return f"{sqlstate} (no name known)"


def _of_psycopg(error: psycopg.OperationalError) -> Name | None:
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return CONNECT_TIMEOUT
    said = str(error)
    if "failed to resolve host" in said or "could not translate host name" in said:
        return NO_SUCH_HOST
    for number, name in _OF_ERRNO.items():
        if f": {os.strerror(number)}" in said:
            return name
    found = _AT_CONNECT.match(said)
    words = found[1] if found else said
    if "server closed the connection" in words or "connection is closed" in words or "connection is lost" in words:
        return _of_words(words, LOST)
    if "EOF detected" in words or "SSL connection has been closed" in words:
        return LOST
    if found and words.startswith(("FATAL:", "fe_sendauth:")):
        return _refused(words.partition(":")[2])
    return NO_TLS if found and re.search("SSL|certificate", words) else None


def _of_asyncpg(error: asyncpg.PostgresError) -> Name | None:
    if isinstance(error, asyncpg.ConnectionDoesNotExistError | asyncpg.ConnectionFailureError):
        cause = error.__cause__
        if isinstance(sqlstate := getattr(cause, "sqlstate", None), str):  # the server's last words
            return sqlstate_name(sqlstate), ""
        return _OF_ERRNO.get(cause.errno or 0, LOST) if isinstance(cause, OSError) else LOST
    return _refused(str(error)) if _was_connecting(error) else None


def _of_network(error: OSError | TimeoutError) -> Name | None:
    if isinstance(error, ssl.SSLError) or "SSL" in str(error):
        return NO_TLS
    if isinstance(error, socket.gaierror):
        return NO_SUCH_HOST
    found = _ERRNO.search(str(error))  # that of the first address, where the host has several
    if name := _OF_ERRNO.get(error.errno or int(found[1] if found else 0)):
        return name
    if isinstance(error, TimeoutError):
        return CONNECT_TIMEOUT
    return LOST if isinstance(error, ConnectionError) and not error.errno else None


def _refused(words: str) -> Name:
    """What a server said that let nobody in. By its words on each driver, as psycopg has nothing else."""
    line = words.strip().partition("\n")[0]
    return _of_words(line, ("ServerRefused", line))


def _of_words(words: str, otherwise: Name) -> Name:
    for pattern, sqlstate in _SQLSTATES.items():
        if re.search(pattern, words):
            return sqlstate_name(sqlstate), ""
    return otherwise


def _is_of_asyncpg(error: BaseException) -> bool:
    return any(_module(frame).partition(".")[0] == "asyncpg" for frame, _ in walk_tb(error.__traceback__))


def _was_connecting(error: BaseException) -> bool:
    return any(_module(frame) == "asyncpg.connect_utils" for frame, _ in walk_tb(error.__traceback__))


def _module(frame: object) -> str:
    return str(frame.f_globals.get("__name__", ""))  # type: ignore[attr-defined]
