"""How a page is read: by a page function, in a session of its own, on any stack. Also the todo list's page functions.

A page function is `(session, *key) -> rendered page`. Sync and async stacks use the same one: `read_page_async` runs it
through `AsyncSession.run_sync`, so that all stacks do the same work. It may be any callable. One that is `async def`
gets the `AsyncSession` and is awaited; one wrapped by `own_session` gets a `sessionmaker` in place of a session.

For the engine under the session see `dbkit.database`; which pages there are is in `dbkit.workload`. Timing and
repeating pages is left to the callers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import greenlet_spawn

from dbkit.database.engines import default_engine
from dbkit.database.settings import PageEnd, SessionClose
from dbkit.todo.strategies import STRATEGIES, RenderedPage, core, joined, lazy, selectin, subquery

__all__ = (
    "DEFAULT_PAGE_SIZE",
    "STRATEGIES",
    "PageFunction",
    "RenderedPage",
    "core",
    "function_name",
    "is_async",
    "joined",
    "lazy",
    "own_session",
    "page_joined",
    "page_lazy",
    "read_page",
    "read_page_async",
    "selectin",
    "subquery",
)

PageFunction = Callable[..., Any]
"""`(session, *key) -> rendered page`, plain or `async def`."""
DEFAULT_PAGE_SIZE = 20
MOST_LAYERS = 100
"""A function may claim to wrap itself."""


class own_session:
    """Wraps a page function that makes its sessions itself, as a use case or a unit of work does.

    It is called with a `sessionmaker` in place of a session, or with an `async_sessionmaker` where it is `async def`,
    and decides itself how its transactions end. `session_options` are those of the sessions, such as
    `expire_on_commit=False`.
    """

    gets_sessionmaker = True

    def __init__(self, function: PageFunction, **session_options: Any) -> None:
        functools.update_wrapper(self, function)
        self.session_options = tuple(session_options.items())
        self._function = function

    def __call__(self, make_session: Any, *key: Any) -> Any:
        return self._function(make_session, *key)


def is_async(function: PageFunction) -> bool:
    """Whether a page function is awaited: it is `async def`, or its `__call__` is, or what it wraps is."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.iscoroutinefunction(type(each).__call__)
        for each in _layers(function)
    )


def function_name(function: PageFunction) -> str:
    """What a page function is called where nobody has named it: `albums`, `Albums.page`, `make_page.page`."""
    *_, function = _layers(function)
    name = str(getattr(function, "__name__", type(function).__name__))
    long_name = str(getattr(function, "__qualname__", name)).replace("<locals>.", "")
    return long_name if long_name.endswith(name) else name  # somebody has renamed it


def _layers(function: PageFunction) -> Iterator[PageFunction]:
    """A function, and what it wraps or is a partial of, from outside to inside."""
    current: Any = function
    for _ in range(MOST_LAYERS):
        yield current
        inner = current.func if isinstance(current, functools.partial) else getattr(current, "__wrapped__", None)
        if inner is None:
            return
        current = inner


def read_page(engine: Engine, function: PageFunction, *key: Any, end: PageEnd = "rollback") -> Any:
    """Read one page in a session of its own and hand the connection back.

    `end` is how the page ends (see `dbkit.database.settings.Settings.end`). Raises what the function, the driver and
    SQLAlchemy raise, and TypeError where the function is not to be called on a sync stack.
    """
    if isinstance(function, own_session):
        return _checked(function(_maker(engine, sessionmaker, function.session_options), *key))
    with Session(engine) as session:
        rendered = _checked(function(session, *key))
        if end == "commit":
            session.commit()
    return rendered


async def read_page_async(
    engine: AsyncEngine,
    function: PageFunction,
    *key: Any,
    end: PageEnd = "rollback",
    close: SessionClose = "with",
    awaited: bool | None = None,
) -> Any:
    """`read_page` for an async engine. A page function that is `async def` gets the `AsyncSession` and is awaited.

    `close` is how the session is closed (see `dbkit.database.settings.Settings.close`). `awaited` is `is_async` of the
    function, for callers that know it already.
    """
    awaited = is_async(function) if awaited is None else awaited
    if isinstance(function, own_session):
        if awaited:
            return await function(_maker(engine, async_sessionmaker, function.session_options), *key)
        maker = _maker(engine.sync_engine, sessionmaker, function.session_options)
        return _checked(await greenlet_spawn(function, maker, *key))
    session = AsyncSession(engine)
    if close == "with":
        async with session:
            return await _read_in(session, function, key, end, awaited)
    try:
        return await _read_in(session, function, key, end, awaited)
    finally:
        await session.close()


async def _read_in(
    session: AsyncSession, function: PageFunction, key: tuple[Any, ...], end: PageEnd, awaited: bool
) -> Any:
    if awaited:
        rendered = await function(session, *key)
    else:
        rendered = _checked(await session.run_sync(function, *key))
    if end == "commit":
        await session.commit()
    return rendered


def _checked(rendered: Any) -> Any:
    if type(rendered) is CoroutineType:
        rendered.close()
        raise TypeError("the page function returned a coroutine: write it as `async def`, and await within it")
    return rendered


@functools.lru_cache(maxsize=16)
def _maker(engine: Any, kind: Callable[..., Any], session_options: tuple[tuple[str, Any], ...]) -> Any:
    # making one makes a class, which would cost more than many a page
    return kind(engine, **dict(session_options))


def page_lazy(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `lazy` from the database that `dbkit.database.engines.default_engine` finds."""
    rendered: RenderedPage = read_page(default_engine(), lazy, page, page_size)
    return rendered


def page_joined(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `joined` from the database that `dbkit.database.engines.default_engine` finds."""
    rendered: RenderedPage = read_page(default_engine(), joined, page, page_size)
    return rendered
