"""A database URL, read once into a `DatabaseUrl` that means the same on every driver.

What each driver is given of it is in `dbkit.database.stacks`. Passwords stay out of everything printable.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from dbkit.database.settings import POOLERS, Pooler
from dbkit.errors import DbkitError

URL_VARIABLE = "DBKIT_DATABASE_URL"
URL_EXAMPLE = "postgresql://user:password@host:5432/database"
MOST_KEEPALIVE_S = 32_767
SOCKET_FOLDERS = ("/var/run/postgresql", "/run/postgresql", "/tmp")
_TLS_KEYS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_TCP_KEYS = {
    "keepalives": 1,
    "keepalives_idle": MOST_KEEPALIVE_S,
    "keepalives_interval": MOST_KEEPALIVE_S,
    "keepalives_count": 127,
    "tcp_user_timeout": 2**31 - 1,
}
"""With the largest value that systems take."""
_OTHER_KEYS = ("host", "port", "user", "password", "dbname", "application_name", "connect_timeout", "options", "pooler")


@dataclass(frozen=True)
class DatabaseUrl:
    """A PostgreSQL database, read from a URL. `str()` of it shows no password and none of the URL's options."""

    host: str
    """Host name, address, or the folder of a Unix socket."""
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    application_name: str = "dbkit"
    options: str = ""
    """Command-line options for the server, such as `-c work_mem=64MB`."""
    connect_timeout_s: int | None = None
    """0 is without limit, None as the settings have it."""
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)
    """libpq's `ssl…` parameters, by their names."""
    tcp: Mapping[str, int] = field(default_factory=dict, repr=False)
    """libpq's parameters of keepalives, and its `tcp_user_timeout`, by their names."""
    pooler: Pooler = "none"
    """Through what it is reached: nothing, or a pooler, by when that hands a connection to the server on."""

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Read any of the usual forms; a driver's name and `async` are accepted and dropped.

        What a URL leaves out is filled in by libpq's rules, so that every driver gets the same: the user is the
        operating system's, the database has the user's name, the host is a local socket where one is, else localhost.

        Raises DbkitError where the URL is malformed, names another kind of database, or has a part that the drivers
        would understand differently.
        """
        text = text.strip()
        if not text.isprintable() or "\0" in unquote(text):
            raise DbkitError("the database URL has a character that cannot be printed: write it percent-encoded")
        before_query, _, query_text = text.partition("?")
        if before_query.count("@") > 1 or "@" in query_text:
            # otherwise a part of the password would be taken for a host, a database or an option
            raise DbkitError("the database URL has more than one @: write an @ in a password as %40, and a ? as %3F")
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            # the text is not shown: a malformed URL may show its password
            raise DbkitError(f"the database URL is malformed: write it like {URL_EXAMPLE}") from None
        backend = url.drivername.split("+")[0]
        if backend not in ("postgresql", "postgres"):
            raise DbkitError(
                f"the database URL names {backend!r}, but dbkit works with PostgreSQL: write it like {URL_EXAMPLE}"
            )

        query = _read_query(url.query)
        host = query.get("host") or unquote(url.host or "")
        port = _read_number("port", query.get("port"), 5432 if url.port is None else url.port)
        if not 1 <= port <= 65535:
            raise DbkitError(f"invalid port {port} in the database URL: expected 1 to 65535")
        user = query.get("user") or url.username or getpass.getuser()
        name = query.get("dbname") or url.database or user
        if not f"{host}{user}{name}".isprintable():
            raise DbkitError("the host, user or database in the database URL has a character that cannot be printed")
        if "," in host:
            raise DbkitError("the database URL names several hosts: name only the one to measure")
        return cls(
            host=host or _local_host(port),
            port=port,
            user=user,
            password=query.get("password", url.password),
            database=name,
            application_name=query.get("application_name", cls.application_name),
            options=query.get("options", cls.options),
            connect_timeout_s=_read_number("connect_timeout", query["connect_timeout"], 0)
            if "connect_timeout" in query
            else None,
            tls={key: query[key] for key in _TLS_KEYS if key in query},
            tcp={key: _read_number(key, query[key], 0, most) for key, most in _TCP_KEYS.items() if key in query},
            pooler=_read_pooler(query.get("pooler", cls.pooler)),
        )

    def __str__(self) -> str:
        if self.is_socket:
            return f"postgresql://{self.user}@/{self.database}?host={quote(self.host)}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"

    def through(self, pooler: Pooler) -> DatabaseUrl:
        """The same database, reached through a pooler of that kind; with `none` through what the URL says."""
        return self if pooler == "none" else replace(self, pooler=pooler)

    @property
    def is_socket(self) -> bool:
        """Whether the host is the folder of a Unix socket."""
        return self.host.startswith(("/", "@"))


def _read_query(query: Mapping[str, str | tuple[str, ...]]) -> dict[str, str]:
    """The URL's query by libpq's names. Raises DbkitError for an option that only one of the drivers understands."""
    read: dict[str, str] = {}
    for key, value in query.items():
        name = {"ssl": "sslmode", "database": "dbname"}.get(key, key)
        if not isinstance(value, str) or name in read:
            raise DbkitError(f"the database URL has {key!r} more than once: give it once")
        if name in (*_TLS_KEYS, *_TCP_KEYS, *_OTHER_KEYS):
            read[name] = value
        elif name != "async":
            known = ", ".join((*_OTHER_KEYS, *_TCP_KEYS, *_TLS_KEYS))
            raise DbkitError(
                f"{key!r} in the database URL does not mean the same to every driver: remove it (usable: {known})"
            )
    return read


def _read_pooler(text: str) -> Pooler:
    for pooler in POOLERS:
        if text == pooler:
            return pooler
    raise DbkitError(f"invalid pooler {text!r:.20} in the database URL: expected one of {', '.join(POOLERS)}")


def _read_number(name: str, text: str | None, default: int, most: int | None = None) -> int:
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,9}", text) or (most is not None and int(text) > most):
        expected = "an integer of at least 0" if most is None else f"an integer from 0 to {most}"
        raise DbkitError(f"invalid {name} {text!r:.20} in the database URL: expected {expected}")
    return int(text)


def _local_host(port: int) -> str:
    for folder in SOCKET_FOLDERS:
        if Path(folder, f".s.PGSQL.{port}").exists():
            return folder
    return "localhost"
