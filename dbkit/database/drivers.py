"""What each driver sends besides a statement, and what comes back: the facts that the meter counts by.

Private attributes of the drivers and of SQLAlchemy's adapters are read here, as there are no public ones; tests hold
the counts against the wire. When to count is left to `dbkit.database.meter`.
"""

from __future__ import annotations

from typing import Any, Protocol


class MeteredDriver(Protocol):
    """A driver as the meter sees it. A `connection` is the object that `connection_of` and `unwrap` return."""

    def connection_of(self, cursor: Any) -> Any:
        """The connection of a cursor that SQLAlchemy executes a statement on."""

    def unwrap(self, dbapi_connection: Any) -> Any:
        """The connection within the one that SQLAlchemy's pool keeps."""

    def in_transaction(self, connection: Any) -> bool:
        """Whether a transaction is open, so that a statement needs no BEGIN, and a ROLLBACK is sent."""

    def begins(self, connection: Any) -> int:
        """Round trips of the BEGIN that the next statement is preceded by, where no transaction is open."""

    def mark(self, connection: Any, statement: str) -> int:
        """What `prepares` needs to know from before the statement is executed."""

    def prepares(self, connection: Any, mark: int) -> int:
        """Round trips that preparing the statement took, after it was executed."""

    def rows(self, cursor: Any) -> int:
        """Rows that the executed statement returned."""

    def rollback_trips(self, connection: Any) -> int:
        """Round trips of a ROLLBACK in an open transaction."""

    def ping_trips(self, connection: Any) -> int:
        """Round trips of SQLAlchemy's pre-ping, without those that `prepares` counts."""

    def mark_ping(self, connection: Any) -> int:
        """As `mark`, for the statement of SQLAlchemy's pre-ping."""


class Psycopg:
    """psycopg's sync side, which SQLAlchemy uses as it is."""

    def connection_of(self, cursor: Any) -> Any:
        return cursor._conn

    def unwrap(self, dbapi_connection: Any) -> Any:
        return dbapi_connection

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.pgconn.transaction_status != 0)  # IDLE

    def begins(self, connection: Any) -> int:
        return 0 if connection.autocommit else 1

    def mark(self, connection: Any, statement: str) -> int:
        return int(connection._prepared._prepared_idx)

    def prepares(self, connection: Any, mark: int) -> int:
        return int(connection._prepared._prepared_idx) - mark

    def rows(self, cursor: Any) -> int:
        # psycopg makes another `description` each time it is asked for, which costs more than the rest of the meter
        return 0 if (result := cursor.pgresult) is None else int(result.ntuples)

    def rollback_trips(self, connection: Any) -> int:
        # psycopg forgets its prepared statements at a ROLLBACK and has the server forget them too
        return 2 if connection._prepared._names else 1

    def ping_trips(self, connection: Any) -> int:
        return 1  # in autocommit

    def mark_ping(self, connection: Any) -> int:
        return self.mark(connection, "")


class PsycopgAsync(Psycopg):
    """psycopg's async side behind SQLAlchemy's adapter."""

    def connection_of(self, cursor: Any) -> Any:
        return cursor._adapt_connection._connection

    def unwrap(self, dbapi_connection: Any) -> Any:
        return dbapi_connection._connection

    def rows(self, cursor: Any) -> int:
        return super().rows(cursor._cursor)


class Asyncpg:
    """asyncpg behind SQLAlchemy's adapter; the connection is the adapter's, which knows more than asyncpg's."""

    def connection_of(self, cursor: Any) -> Any:
        return cursor._adapt_connection

    def unwrap(self, dbapi_connection: Any) -> Any:
        return dbapi_connection

    def in_transaction(self, connection: Any) -> bool:
        return connection._transaction is not None

    def begins(self, connection: Any) -> int:
        return 0 if connection.autocommit else 1

    def mark(self, connection: Any, statement: str) -> int:
        cache = connection._prepared_statement_cache
        return 1 if cache is None or statement not in cache else 0

    def prepares(self, connection: Any, mark: int) -> int:
        return mark

    def rows(self, cursor: Any) -> int:
        return 0 if cursor._description is None else max(cursor._rowcount, 0)

    def rollback_trips(self, connection: Any) -> int:
        return 1

    def ping_trips(self, connection: Any) -> int:
        return 1 if connection.autocommit else 3  # in a transaction of its own

    def mark_ping(self, connection: Any) -> int:
        # a statement of asyncpg's, which has a cache of its own
        driver = connection._connection
        return 0 if driver._stmt_cache.has((";", driver._protocol.get_record_class(), False)) else 1
