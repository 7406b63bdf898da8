"""One page, measured: its counts, what it sent and what it gave, compared with what a test expects of it.

How a page is read on the test's engine is in `dbkit.pytest_plugin.readers`, and where costs are kept in
`dbkit.pytest_plugin.stored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from dbkit.database.server import why_unusable
from dbkit.database.settings import PageEnd
from dbkit.database.source_lines import application_traceback
from dbkit.database.statement_log import Statement, StatementLog
from dbkit.errors import DbkitError, without_secrets
from dbkit.measure.cost import COUNTS, PageCost
from dbkit.paging import PageFunction, function_name, is_async, own_session
from dbkit.pytest_plugin import UPDATE
from dbkit.pytest_plugin.readers import ConnectionFacts, pages_of
from dbkit.pytest_plugin.stored import FILE_NAME, StoredCosts
from dbkit.rollback import rolled_back
from dbkit.workload import WrongPage, difference, shown

ENDS = ("rollback", "commit")
MOST_STATEMENTS = 20
"""No more of a page's statements are shown."""
ALL_IN_ONE = (
    "dbkit reads the page within one transaction, to roll back what it writes. With keep=True it is read as in the"
    " application."
)
"""What is to be known where a page fails that makes its sessions itself: it may have several at once."""
HAS_WRITTEN = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
"""Whether the transaction has changed or locked a row so far, also within savepoints that are rolled back."""


class MeasuredPage:
    """A page that was read, and what it cost."""

    def __init__(
        self,
        reader: PageReader,
        function: PageFunction,
        key: tuple[Any, ...],
        end: PageEnd,
        rendered: Any,
        cost: PageCost,
        log: StatementLog,
    ) -> None:
        self.name = _name(function, key)
        """What it is called, such as `albums(3)`."""
        self.rendered = rendered
        """What the page function gave."""
        self.cost = cost
        """All that it cost; see `dbkit.measure.cost`."""
        self.statements: list[Statement] = log.statements
        """What it sent, but for savepoints, with the lines of the application that sent it."""
        self._savepoints = log.savepoints
        self._reader = reader
        self._function = function
        self._key = key
        self._end = end

    @property
    def counts(self) -> dict[str, int]:
        """Its counts by name: those of `dbkit.measure.cost.COUNTS`."""
        return {name: getattr(self.cost, name) for name in COUNTS}

    def costs(self, **expected: int) -> MeasuredPage:
        """Compare counts with those that are expected, exactly; without any, with those that are stored.

        Raises AssertionError where one is another, which shows the statements, and DbkitError for what is no count.
        """
        __tracebackhide__ = True
        for name, value in expected.items():
            if name not in COUNTS:
                raise DbkitError(f"costs() knows no {name!r}: expected one of {', '.join(COUNTS)}")
            if type(value) is not int or value < 0:
                raise DbkitError(f"invalid value {name}={value!r}: expected an integer of at least 0")
        if expected:
            self._compare(expected, f"write .costs({self._in_words(expected)})")
        else:
            self._compare_with_stored()
        return self

    def same_as(self, *functions: PageFunction) -> MeasuredPage:
        """Read the page of the same key by other page functions too, and compare what they give.

        Raises AssertionError for the first that gives another page, with the first place where it differs, and
        DbkitError where pages cannot be compared.
        """
        __tracebackhide__ = True
        for function in functions:
            other = self._reader.read_once(function, self._key, self._end)
            try:
                found = difference(self.rendered, other)
            except WrongPage as why:
                raise DbkitError(f"{self.name} and {_name(function, self._key)} cannot be compared: {why}") from None
            if found is not None:
                raise AssertionError(f"{self.name} and {_name(function, self._key)} give different pages: {found}")
        return self

    def _compare_with_stored(self) -> None:
        __tracebackhide__ = True
        stored = self._reader.stored
        name = stored.name_of(self.name)
        if stored.update:
            stored.put(name, self.counts)
            return
        update = f'run pytest {UPDATE} "{stored.node_id}"'
        if (expected := stored.find(name)) is None:
            raise AssertionError(f"{FILE_NAME} has no costs of {name} in this test: {update}")
        if unknown := [each for each in expected if each not in COUNTS]:
            raise DbkitError(f"{FILE_NAME} has {unknown[0]!r} of {name}, which this dbkit does not count: {update}")
        self._compare(expected, update)

    def _compare(self, expected: Mapping[str, int], how_to_accept: str) -> None:
        __tracebackhide__ = True
        measured = self.counts
        wrong = [
            f"{name} {measured[name]}, expected {value}" for name, value in expected.items() if measured[name] != value
        ]
        if wrong:
            lines = [f"{self.name}: {'; '.join(wrong)}", *self._describe(), f"If this is meant, {how_to_accept}"]
            raise AssertionError("\n".join(lines))

    def _describe(self) -> list[str]:
        """What it measured and sent, for a message."""
        lines = [f"It cost {self._in_words(COUNTS)}, and sent:"]
        for number, statement in enumerate(self.statements[:MOST_STATEMENTS], 1):
            rows = "rows in parts" if statement.rows is None else f"rows {statement.rows}"
            lines.append(f"{number:4}. × {statement.times}, {rows}, by {_listed(statement)}")
            lines += [f"      {line}" for line in statement.short_sql.splitlines()]
        if more := len(self.statements) - MOST_STATEMENTS:
            lines += [f"      and {more} other statements"] if more > 0 else []
        if self._savepoints:
            lines.append(f"Of its round trips {self._savepoints} are for savepoints, as what it writes is rolled back.")
        return lines

    def _in_words(self, names: Any) -> str:
        return ", ".join(f"{name}={self.counts[name]}" for name in names)


class PageReader:
    """Measures pages of one engine, in one test: the fixture `dbkit_page`."""

    def __init__(self, engine: Engine | AsyncEngine, stored: StoredCosts) -> None:
        """Raises DbkitError where pages cannot be measured on the engine."""
        self.stored = stored
        self._engine = engine
        self._pages = pages_of(engine)
        self._connection: ConnectionFacts | None = None

    def __call__(
        self, function: PageFunction, *key: Any, end: PageEnd = "rollback", keep: bool = False
    ) -> MeasuredPage:
        """Read the page of a key until it is warm, and then once more to measure it.

        `function` is called as `dbkit.paging` says. `end` is how the page ends: `commit` commits the session after it.
        What the page writes is rolled back, unless `keep` says that it is read as in the application.

        Raises what the page raises, and DbkitError where the database cannot be connected to, or where the page does
        not read with the session that it is given.
        """
        __tracebackhide__ = True
        if end not in ENDS:
            raise DbkitError(f"invalid end {end!r}: expected one of {', '.join(ENDS)}")
        self._pages.check(function)
        connection = self._connected()
        to_read, end_of_read = function, end
        if not keep and self._writes(function, key, end):
            to_read, end_of_read = self._rolled_back(function, end), "rollback"
        for _ in range(connection.reads_until_warm):
            self._read(to_read, key, end_of_read)
        log, cost = StatementLog(), PageCost()
        log.follow(lambda: cost)
        try:
            with cost:
                rendered = self._read(to_read, key, end_of_read)
        finally:
            log.close()
        page = MeasuredPage(self, function, key, end, rendered, cost, log)
        _check_engine_of(page)
        return page

    def read_once(self, function: PageFunction, key: tuple[Any, ...], end: PageEnd) -> Any:
        """What a page gives; what it writes is rolled back."""
        __tracebackhide__ = True
        self._pages.check(function)
        return self._read(self._rolled_back(function, end), key, "rollback")

    def close(self) -> None:
        """Close the connections that pages had."""
        self._pages.close()

    def _connected(self) -> ConnectionFacts:
        __tracebackhide__ = True
        if self._connection is None:
            try:
                self._connection = self._pages.connect()
            except DbkitError:
                raise
            except Exception as error:
                url = self._engine.url
                server = url.set(query={name: url.query[name] for name in ("host", "port") if name in url.query})
                why = without_secrets(why_unusable(getattr(error, "orig", None) or error))
                raise DbkitError(
                    f"the engine of the fixture dbkit_engine, {server.render_as_string()}, cannot connect: {why}"
                ) from None
        return self._connection

    def _rolled_back(self, function: PageFunction, end: PageEnd) -> PageFunction:
        return rolled_back(function, "autocommit" if self._connected().is_autocommit else end)

    def _writes(self, function: PageFunction, key: tuple[Any, ...], end: PageEnd) -> bool:
        """Read the page once, with its writes rolled back, to see whether it has any."""
        __tracebackhide__ = True
        read = self._rolled_back(function, end)

        def plain(session: Session, *key: Any) -> bool:
            read(session, *key)
            return bool(session.scalar(HAS_WRITTEN))

        async def awaited(session: AsyncSession, *key: Any) -> bool:
            await read(session, *key)
            return bool(await session.scalar(HAS_WRITTEN))

        try:
            return bool(self._read(awaited if is_async(function) else plain, key, "rollback"))
        except Exception as error:
            if isinstance(function, own_session):
                error.add_note(ALL_IN_ONE)
            raise

    def _read(self, function: PageFunction, key: tuple[Any, ...], end: PageEnd) -> Any:
        __tracebackhide__ = True
        try:
            return self._pages.read(function, key, end)
        except BaseException as error:
            # what is not of the page is of no use to who reads the traceback
            error.__traceback__ = application_traceback(error)
            raise


def _check_engine_of(page: MeasuredPage) -> None:
    """Raise DbkitError where a page has sent something that was not measured."""
    __tracebackhide__ = True
    for statement in page.statements:
        if not statement.is_measured:
            raise DbkitError(
                f"{page.name} read by another session than the one that it is given, where it is not measured, by"
                f" {_listed(statement)}: read with that session, or with the sessionmaker that own_session gives"
            )


def _name(function: PageFunction, key: tuple[Any, ...]) -> str:
    return f"{function_name(function)}({', '.join(shown(each) for each in key)})"


def _listed(statement: Statement) -> str:
    """The lines that sent a statement."""
    lines = statement.lines
    return ", ".join(f"{line}{f' × {times}' if len(lines) > 1 else ''}" for line, times in lines.items())
