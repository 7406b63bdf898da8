"""What to do about the usual failures of a page, in one or two sentences.

An error is known by its class, its SQLSTATE or its words, and the relation that was loaded lazily by SQLAlchemy's frame
in the traceback. For what else is said of a failure see `dbkit.load.try_pages.shown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy.exc
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.exc import DetachedInstanceError

from dbkit.database.source_lines import raised_line
from dbkit.database.stacks import STACKS, stacks_of
from dbkit.errors import pooler_advice
from dbkit.load.page_class import PageClass
from dbkit.load.try_pages.limit import TookTooLong
from dbkit.paging import is_async


@dataclass(frozen=True)
class Failure:
    """An error, and the class whose page it is."""

    error: BaseException
    page_class: PageClass | None
    database: str
    """The database's URL, without its password."""
    waiting_for: str | None = None
    """The line that sent the statement which the page waited for when it was broken off."""

    @property
    def where(self) -> str:
        line = raised_line(self.error)
        return f" at {line}" if line else ""

    @property
    def causes(self) -> Iterator[BaseException]:
        """The error and what it came from."""
        seen: set[int] = set()
        current: Any = self.error
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            current = getattr(current, "orig", None) or current.__cause__ or current.__context__

    @property
    def sqlstate(self) -> str | None:
        return next((state for each in self.causes if (state := getattr(each, "sqlstate", None))), None)

    @property
    def words(self) -> str:
        """What all of them say."""
        return "\n".join(f"{type(each).__name__}: {each}" for each in self.causes)

    @property
    def stack(self) -> str:
        return self.page_class.stack if self.page_class else ""


def origin_of(error: BaseException) -> BaseException:
    """The error of the driver, or the one that SQLAlchemy has wrapped; else itself."""
    origin: BaseException = getattr(error, "orig", None) or error
    # asyncpg's own is the cause of an adapter's
    return origin.__cause__ if getattr(origin, "sqlstate", None) and origin.__cause__ is not None else origin


def advise(failure: Failure) -> str | None:
    """What to do about a failure; None where nothing is known."""
    return next((advice for rule in _RULES if (advice := rule(failure)) is not None), None)


def _missing_greenlet(failure: Failure) -> str | None:
    if "MissingGreenlet" not in failure.words:  # pydantic has it in its words alone
        return None
    what = _attribute_loaded(failure.error)
    if what is None:
        return (
            f"The database was asked{failure.where} outside of an await, as by a plain session or connection of an"
            " async engine. Await the methods of the AsyncSession; or write the page as a plain function, which dbkit"
            " runs by run_sync."
        )
    name, is_relation = what
    if is_relation:
        owner, _, attribute = name.partition(".")
        return (
            f"{name} was loaded lazily{failure.where}, which an async function cannot wait for. Load it with the query,"
            f" such as by .options(selectinload({name})); or await {owner.lower()}.awaitable_attrs.{attribute}; or"
            " write the page as a plain function, which dbkit runs by run_sync."
        )
    return (
        f"{name} was loaded{failure.where}, outside of an await. Where a commit came before, it had expired: make the"
        " session with expire_on_commit=False, or await session.refresh(). Where it is deferred, undefer it in the"
        " query."
    )


def _unique(failure: Failure) -> str | None:
    if "unique() method must be invoked" not in failure.words:
        return None
    return (
        f"A collection is loaded by a join, so that rows repeat{failure.where}: call unique() on the result before"
        " reading it, as in session.scalars(query).unique().all(); or load the collection by selectinload."
    )


def _detached(failure: Failure) -> str | None:
    if not isinstance(failure.error, DetachedInstanceError) and "DetachedInstanceError" not in failure.words:
        return None
    what = _attribute_loaded(failure.error)
    name = what[0] if what else "An attribute"
    return (
        f"{name} was loaded{failure.where} after its session was closed, or had let go of the object. Render the page"
        " while the session is open, or load all that it shows with the query, such as by selectinload; where a commit"
        " comes before, make the session with expire_on_commit=False."
    )


def _raise_load(failure: Failure) -> str | None:
    found = re.search(r"'([\w.]+)' is not available due to lazy='raise", failure.words)
    if found is None:
        return None
    return f"{found[1]} must be loaded with the query{failure.where}, such as by .options(selectinload({found[1]}))."


def _coroutine(failure: Failure) -> str | None:
    function = failure.page_class.function if failure.page_class else None
    if "the page function returned a coroutine" in failure.words:
        if function is not None and not is_async(function):
            return (
                "The function is not async def itself, but returns the coroutine of one: give the class the async def"
                " function, or make this one async def and await the other."
            )
        return f"Stack {failure.stack} cannot await a function that is async def: use {_async_stacks()}."
    if "'coroutine' object" in failure.words or "got <coroutine object" in failure.words:
        return f"Something was not awaited{failure.where}: put await before the call whose result is used there."
    if re.search(r"can't be used in 'await' expression|requires an object with __aiter__", failure.words):
        if failure.stack not in stacks_of("tasks"):
            return f"Something was awaited{failure.where}, but on {failure.stack} the session is a plain Session."
        return (
            f"Something was awaited that is no coroutine{failure.where}. Calls of an AsyncSession are awaited, as in"
            " await session.scalars(query); their results are read without, as in .all()."
        )
    return None


def _loops(failure: Failure) -> str | None:
    words = failure.words
    if re.search(r"different (event )?loop|Event loop is closed|bound to a different", words):
        return (
            f"Something belongs to another event loop{failure.where}: an engine, a connection or a lock that was made"
            " before, or in asyncio.run. Read with the session that the page function is given; give the class its own"
            " engine by engine= (page_users: async_engine=), best as a function of a URL that makes it; and do not call"
            " asyncio.run in a page."
        )
    if re.search(r"asyncio.run\(\) cannot be called|[Ll]oop is already running", words):
        return (
            f"The page starts an event loop within one{failure.where}: make the page function async def and await"
            " instead of asyncio.run."
        )
    if re.search(r"no (current|running) event loop|LoopExit|cannot switch to a different thread", words):
        return (
            f"The page mixes ways to wait{failure.where}: on {failure.stack or 'this stack'} there is"
            f" {_concurrency(failure.stack)}. Read with the session that the page function is given; asyncio needs an"
            f" async def function on {_async_stacks()}."
        )
    return None


def _one_session_twice(failure: Failure) -> str | None:
    code = getattr(failure.error, "code", None)
    in_progress = r"another (operation|command) is (already )?in progress|a new connection; concurrent operations"
    if code == "isce" or re.search(in_progress, failure.words):
        return (
            f"A session, or its connection, was used by several tasks at once{failure.where}: await one statement after"
            " the other (no asyncio.gather over one session), or make a session for each task, with own_session."
        )
    return None


def _pool(failure: Failure) -> str | None:
    if not any(isinstance(each, sqlalchemy.exc.TimeoutError) for each in failure.causes):
        return None
    return (
        f"No connection became free{failure.where}, though nobody else reads: this page holds more connections at once"
        " than the pool has. Close one session before opening another, or use the session that the page function is"
        " given; else raise --pool-size, or pool_size of the class's own engine."
    )


def _server_says(failure: Failure) -> str | None:
    database = failure.database
    match failure.sqlstate:
        case "42P01" | "3F000":
            what = re.search(r'(relation|schema) "([^"]+)" does not exist', failure.words)
            name = f"{'table' if what[1] == 'relation' else 'schema'} {what[2]}" if what else "such a table"
            return (
                f"{database} has no {name}: create and load it first (the todo list by python seed.py), or name another"
                " database by --database-url or DBKIT_DATABASE_URL."
            )
        case "42703":
            return f"A column of the models is not in {database}: run the application's migrations there."
        case "42501":
            return "The database's user may not do this: grant it the right, or name another user in the URL."
        case "57014":
            return (
                f"The server broke a statement off{failure.where}, as it took longer than --statement-timeout (or"
                " statement_timeout of the database): raise it, or make the statement faster."
            )
        case "25006":
            if failure.page_class and failure.page_class.engine is None and not failure.page_class.writes:
                return (
                    "Sessions of a class only read unless it says that it writes: give it writes = True (page_users:"
                    " writes=True)."
                )
            return "The transaction is read-only: use a database and a user that may write."
    return None


def _pooler(failure: Failure) -> str | None:
    advice = pooler_advice(f"{failure.sqlstate} {failure.words}")
    return f"{advice[0].upper()}{advice[1:]}." if advice else None


def _took_too_long(failure: Failure) -> str | None:
    if not isinstance(failure.error, TookTooLong):
        return None
    if failure.waiting_for is not None:
        return (
            f"It waited for the server to answer the statement of {failure.waiting_for}: is that slow, or does it wait"
            " for a lock? --page-timeout sets the limit."
        )
    threads = (
        " In native threads a lock or a queue of threading or queue may wait for ever, as Locust has replaced them."
        if failure.stack in stacks_of("threads")
        else ""
    )
    was = f"It was at {failure.error.line}, and did" if failure.error.line else "It did"
    return (
        f"{was} not wait for the database: does it loop, or wait for something else?{threads} --page-timeout sets the"
        " limit."
    )


def _no_row(failure: Failure) -> str | None:
    if not isinstance(failure.error, sqlalchemy.exc.NoResultFound):
        return None
    return (
        f"There is no row of this key{failure.where}. Give the workload keys that exist, such as by SQL,"
        " keys='SELECT id FROM …'; or try another by --key."
    )


def _arguments(failure: Failure) -> str | None:
    if "its page function takes" not in failure.words:
        return None
    return (
        "A page function is called with the session and the key; a key that is a tuple is several arguments. Change the"
        " function's parameters or the workload's keys."
    )


_RULES: tuple[Callable[[Failure], str | None], ...] = (
    *(_took_too_long, _missing_greenlet, _unique, _detached, _raise_load, _coroutine, _loops, _one_session_twice),
    *(_pool, _pooler, _server_says, _no_row, _arguments),
)


def _attribute_loaded(error: BaseException) -> tuple[str, bool] | None:
    """The attribute that the ORM was loading, such as `Album.tracks`, and whether it is a relation."""
    traceback, found = error.__traceback__, None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == "sqlalchemy.orm.strategies":
            attribute = getattr(frame.f_locals.get("self"), "parent_property", None)
            if attribute is not None:
                found = str(attribute), isinstance(attribute, RelationshipProperty)
        elif frame.f_globals.get("__name__") == "sqlalchemy.orm.attributes" and found is None:
            instrumented = frame.f_locals.get("self")
            if (owner := getattr(instrumented, "class_", None)) is not None:
                found = f"{owner.__name__}.{getattr(instrumented, 'key', '?')}", False
        traceback = traceback.tb_next
    return found


def _concurrency(stack: str) -> str:
    kinds = {"greenlets": "gevent, and no event loop", "threads": "a native thread, and no event loop"}
    return kinds.get(STACKS[stack].concurrency, "an event loop") if stack in STACKS else "no event loop"


def _async_stacks() -> str:
    return " or ".join(stacks_of("tasks"))
