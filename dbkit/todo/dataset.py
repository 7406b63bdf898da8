"""The dataset: tables filled with rows that follow from a shape alone, so that every page is known in advance.

This module makes, replaces, recognises and checks it. For the tables' definitions see `dbkit.todo.models`, for reading
pages `dbkit.paging`, for the command line `seed.py`.

dbkit marks what it made: a comment on the schema names the shape. A schema without the mark is never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psycopg
from psycopg import IsolationLevel, errors, sql
from sqlalchemy.engine import make_url
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateSchema, CreateTable, ExecutableDDLElement

from dbkit.database.server import check_server, connect_directly
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.todo.models import SCHEMA, Base
from dbkit.todo.strategies import RenderedPage

MARK = "dbkit dataset: "
"""How the comment on the schema begins; the shape follows as JSON."""

LOCK_TIMEOUT_S = 3
"""How long dropping waits for readers that hold the tables."""

OnProgress = Callable[[int, int], None]
"""Called from time to time with the number of rows sent so far and of all rows."""

_LARGEST_ID = 2**31 - 1
_ROWS_A_REPORT = 10_000
_REPLACE_HINT = "replace it with python seed.py --reset"

# parents first: the order of making them, and of locking them, since readers lock in this order
_TABLES = Base.metadata.sorted_tables
_DIALECT = make_url("postgresql+psycopg://").get_dialect()()


@dataclass(frozen=True)
class Shape:
    """How many rows there are, and whether foreign keys are indexed. Everything else follows from these.

    Raises DbkitError where a number is too small, or so large that ids would not fit an integer.
    """

    users: int = 20
    todos: int = 100
    """For each user."""
    comments: int = 2
    """For each todo; may be 0."""
    indexes: bool = True

    def __post_init__(self) -> None:
        if self.users < 1 or self.todos < 1 or self.comments < 0:
            raise DbkitError(
                "invalid shape of the dataset: expected at least 1 user, 1 todo for each user, and 0 comments"
            )
        if max(self.rows.values()) > _LARGEST_ID:
            raise DbkitError(
                f"invalid shape of the dataset, {self}: expected at most {_LARGEST_ID:,} rows in each table"
            )

    def __str__(self) -> str:
        rows = f"{self.users:,} users, {self.total_todos:,} todos, {self.rows['comment']:,} comments"
        return rows if self.indexes else f"{rows}, foreign keys not indexed"

    @property
    def total_todos(self) -> int:
        """Todos of all users together."""
        return self.users * self.todos

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each table has, by its name."""
        return {"app_user": self.users, "todo": self.total_todos, "comment": self.total_todos * self.comments}

    def pages(self, page_size: int) -> int:
        """How many pages there are, a short last one included."""
        return -(-self.total_todos // page_size)

    def expected_page(self, page: int, page_size: int) -> RenderedPage:
        """A right page, computed without the database. Pages count from 0; those past the end are empty."""
        first = page * page_size
        last = min(first + page_size, self.total_todos)
        return [
            (_title(user, task), [_body(comment, task) for comment in range(self.comments)])
            for user, task in (divmod(index, self.todos) for index in range(first, last))
        ]


def create(database: DatabaseUrl, shape: Shape, *, replace: bool, on_progress: OnProgress | None = None) -> bool:
    """Make the dataset in one transaction. Returns False where it exists already, and changes nothing then.

    `replace` drops a marked dataset that has another shape or is damaged. Where two calls come at the same time the
    second waits for the first. Raises DbkitError, and changes nothing, where the dataset must not or cannot be made.
    """
    with _connect(database, "pg_advisory_xact_lock", writes=True) as connection:
        present = _read_mark(connection, database)
        if present and not replace:
            if present != shape:
                raise DbkitError(f"{database} has {present}, not {shape}: add --reset to replace it")
            _check_last_ids(connection, database, shape)
            return False
        if present == shape and _is_right(connection, database, shape):
            return False
        if present:
            # without CASCADE: things that others made in the schema, or on its tables, are an error that names them
            connection.execute(f"DROP TABLE IF EXISTS {', '.join(table.fullname for table in _TABLES)}")
            connection.execute(f"DROP SCHEMA {SCHEMA}")
        _make(connection, shape, on_progress or (lambda done, total: None))
    return True


def read_shape(database: DatabaseUrl) -> Shape:
    """The shape of the dataset in the database, by its mark; each table's last id is checked, which is cheap.

    Raises DbkitError where there is no dataset, where the schema is not dbkit's, where tables or rows are missing.
    """
    with _connect(database, "pg_advisory_xact_lock_shared") as connection:
        shape = _require_mark(connection, database)
        _check_last_ids(connection, database, shape)
    return shape


def check(database: DatabaseUrl) -> Shape:
    """Compare every row, key and index with what follows from the marked shape, and return the shape.

    The server does it, in constant memory, reading each table once. Raises DbkitError for the first difference.
    """
    with _connect(database, "pg_advisory_xact_lock_shared") as connection:
        shape = _require_mark(connection, database)
        _check_all(connection, database, shape)
    return shape


# The rows are defined twice: in Python to make them, in SQL to check them. Users, tasks and comments count from 0.


def _title(user: int, task: int) -> str:
    return f"user{user + 1}-task-{task}"


def _body(comment: int, task: int) -> str:
    return f"c{comment + 1}-{task}"


def _rows(shape: Shape, table: str) -> Iterator[tuple[int | str | bool, ...]]:
    todos = (divmod(index, shape.todos) for index in range(shape.total_todos))
    match table:
        case "app_user":
            for user in range(shape.users):
                yield user + 1, f"user{user + 1}"
        case "todo":
            for index, (user, task) in enumerate(todos):
                yield index + 1, user + 1, _title(user, task), task % 3 == 0
        case "comment":
            for index, (_, task) in enumerate(todos):
                for comment in range(shape.comments):
                    yield index * shape.comments + comment + 1, index + 1, _body(comment, task)


# `n` is the row's place in its table, from 0. A row is right where its columns equal these.
_RIGHT_ROW = {
    "app_user": "('user' || n + 1)",
    "todo": """(
        n / %(todos)s + 1,
        'user' || n / %(todos)s + 1 || '-task-' || n %% %(todos)s,
        n %% %(todos)s %% 3 = 0
    )""",
    "comment": """(
        n / %(comments)s + 1,
        'c' || n %% %(comments)s + 1 || '-' || n / %(comments)s %% %(todos)s
    )""",
}


def _make(connection: psycopg.Connection, shape: Shape, on_progress: OnProgress) -> None:
    connection.execute(_compile(CreateSchema(SCHEMA)))
    for table in _TABLES:
        connection.execute(_compile(CreateTable(table, include_foreign_key_constraints=[])))
    _copy(connection, shape, on_progress)
    # foreign keys and their indexes come after the rows: far cheaper at once than row by row
    for table in _TABLES:
        for foreign_key in table.foreign_key_constraints:
            connection.execute(_compile(AddConstraint(foreign_key)))
        for index in table.indexes if shape.indexes else ():
            connection.execute(_compile(CreateIndex(index)))
        rows = shape.rows[table.name]
        connection.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), greatest(%s, 1), %s)", [table.fullname, rows, rows > 0]
        )
        connection.execute(f"ANALYZE {table.fullname}")
    mark = MARK + json.dumps(asdict(shape))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(SCHEMA), mark))


def _copy(connection: psycopg.Connection, shape: Shape, on_progress: OnProgress) -> None:
    done, total = 0, sum(shape.rows.values())
    for table in _TABLES:
        columns = ", ".join(column.name for column in table.columns)
        # frozen: otherwise the first page to read a row would also write its hint bits
        statement = f"COPY {table.fullname} ({columns}) FROM STDIN (FORMAT binary, FREEZE)"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([str(column.type).lower() for column in table.columns])
            for row in _rows(shape, table.name):
                copy.write_row(row)
                done += 1
                if done % _ROWS_A_REPORT == 0:
                    on_progress(done, total)
    on_progress(total, total)


def _compile(element: ExecutableDDLElement) -> str:
    return str(element.compile(dialect=_DIALECT))


def _read_mark(connection: psycopg.Connection, database: DatabaseUrl) -> Shape | None:
    """The marked shape, or None without a schema. Raises DbkitError where the schema is not dbkit's own."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", [SCHEMA]
    ).fetchone()
    if row is None:
        return None
    comment: str = row[0] or ""
    foreign = DbkitError(
        f"{database} has a schema {SCHEMA} without dbkit's mark, which is not touched: "
        "rename it, or use another database"
    )
    if not comment.startswith(MARK):
        raise foreign
    try:
        return Shape(**json.loads(comment.removeprefix(MARK)))
    except (ValueError, TypeError, DbkitError):
        raise foreign from None


def _require_mark(connection: psycopg.Connection, database: DatabaseUrl) -> Shape:
    shape = _read_mark(connection, database)
    if shape is None:
        raise DbkitError(f"{database} has no dataset: make it with python seed.py")
    return shape


def _check_last_ids(connection: psycopg.Connection, database: DatabaseUrl, shape: Shape) -> None:
    last_ids = ", ".join(f"(SELECT coalesce(max(id), 0) FROM {table.fullname})" for table in _TABLES)
    found = connection.execute(f"SELECT {last_ids}").fetchone() or ()
    for table, last_id in zip(_TABLES, found, strict=True):
        expected = shape.rows[table.name]
        if last_id != expected:
            raise _damaged(database, f"the last id of {table.fullname} is {last_id:,}, not {expected:,}")


def _check_all(connection: psycopg.Connection, database: DatabaseUrl, shape: Shape) -> None:
    for table in _TABLES:
        expected = shape.rows[table.name]
        columns = ", ".join(column.name for column in table.columns if not column.primary_key)
        right = _RIGHT_ROW[table.name]
        # bigint: an id may be the smallest integer. None: where no comment is due there may still be one
        found = connection.execute(
            f"""
            SELECT count(*), min(id) FILTER (WHERE n NOT BETWEEN 0 AND %(last)s OR ({columns}) IS DISTINCT FROM {right})
            FROM (SELECT *, id::bigint - 1 AS n FROM {table.fullname}) AS numbered
            """,
            {"last": expected - 1, "todos": shape.todos, "comments": shape.comments or None},
        ).fetchone()
        assert found is not None
        count, wrong_id = found
        if wrong_id is not None:
            raise _damaged(database, f"the row of {table.fullname} with id {wrong_id} is not the dataset's")
        if count != expected:
            raise _damaged(database, f"{table.fullname} has {count:,} rows, not {expected:,}")
    _check_keys(connection, database, shape)


def _check_keys(connection: psycopg.Connection, database: DatabaseUrl, shape: Shape) -> None:
    # PostgreSQL's own names for keys that the models leave unnamed
    expected = {f"{table.name}_pkey" for table in _TABLES}
    expected |= {f"{key.parent.table.name}_{key.parent.name}_fkey" for table in _TABLES for key in table.foreign_keys}
    if shape.indexes:
        expected |= {str(index.name) for table in _TABLES for index in table.indexes}
    rows = connection.execute(
        """
        SELECT conname FROM pg_constraint
        WHERE connamespace = %(schema)s::regnamespace AND contype IN ('p', 'f') AND convalidated
        UNION
        SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE relnamespace = %(schema)s::regnamespace AND indisvalid
        """,
        {"schema": SCHEMA},
    ).fetchall()
    found = {name for (name,) in rows}
    if different := sorted(expected ^ found):
        names = ", ".join(f"{name} is {'missing' if name in expected else 'added'}" for name in different)
        raise _damaged(database, f"of its keys and indexes {names}")


def _is_right(connection: psycopg.Connection, database: DatabaseUrl, shape: Shape) -> bool:
    try:
        with connection.transaction():  # a savepoint: a missing table is an error of the server's
            _check_all(connection, database, shape)
    except (DbkitError, psycopg.ProgrammingError):
        return False
    return True


def _damaged(database: DatabaseUrl, what: str) -> DbkitError:
    return DbkitError(f"the dataset in {database} is damaged ({what}): {_REPLACE_HINT}")


# The errors of the server that the user can do something about, and what to do.
_HINTS: dict[type[psycopg.Error], str] = {
    errors.DependentObjectsStillExist: "it was not made by dbkit: move or drop it first",
    errors.InsufficientPrivilege: "connect as the user that made the dataset, or as one that may create a schema",
    errors.LockNotAvailable: "the dataset is in use by a load test or an open transaction: end that first",
    errors.ReadOnlySqlTransaction: "use a server and a URL that can be written to",
    # a table or column that is gone, or a column of another type
    errors.UndefinedTable: f"the dataset is damaged: {_REPLACE_HINT}",
    errors.UndefinedColumn: f"the dataset is damaged: {_REPLACE_HINT}",
    errors.UndefinedFunction: f"the dataset is damaged: {_REPLACE_HINT}",
}


@contextmanager
def _connect(database: DatabaseUrl, lock: str, *, writes: bool = False) -> Iterator[psycopg.Connection]:
    """A connection in a transaction, committed at the end. The server's errors become DbkitErrors.

    `lock` is the function that takes the dataset's lock, shared to read it or not to make it.
    """
    check_server(database)
    try:
        with connect_directly(database, writes=writes) as connection:
            # whatever the server's default is: after waiting for another seeding, this one must see what it made
            connection.isolation_level = IsolationLevel.READ_COMMITTED
            # No search path, so that the server's messages name schemas. The time limit for locks comes after the
            # dataset's lock: another seeding ends by itself, but what holds a table may not.
            connection.execute(
                f"SET LOCAL statement_timeout = 0; SET LOCAL search_path = ''; "
                f"SELECT {lock}(hashtext('{MARK}')); SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"
            )
            yield connection
    except psycopg.Error as error:
        words = (error.diag.message_primary or str(error), error.diag.message_detail or "")
        reason = " ".join(" ".join(words).split())
        raise DbkitError(f"{database}: {reason}; {_HINTS.get(type(error), 'nothing was changed')}") from None
