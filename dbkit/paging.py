"""The page functions: one list page, five ways to load its comments.

A page function is `(session, page, page_size) -> rendered page`, a plain function on a `Session`. It serves the sync
and the async stacks alike: `read_page_async` runs it through `AsyncSession.run_sync`, so that all stacks do the same
work. Which engine the session uses is `dbkit.database`'s; timing and repeating pages is left to the callers.

Pages are numbered from 0. A page past the end is empty; the last one may be short.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from sqlalchemy import Engine, Text, func, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, joinedload, lazyload, selectinload, subqueryload
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import Select

from dbkit.database import PageEnd, SessionClose, default_engine
from dbkit.models import Comment, Todo

RenderedPage = list[tuple[str, list[str]]]
"""What a page shows: `[(title, [body, …]), …]`, todos and comments in the order of their ids."""

PageFunction = Callable[[Session, int, int], RenderedPage]
AsyncPageFunction = Callable[[AsyncSession, int, int], Awaitable[RenderedPage]]
AnyPageFunction = PageFunction | AsyncPageFunction

DEFAULT_PAGE_SIZE = 20


def lazy(session: Session, page: int, page_size: int) -> RenderedPage:
    """One statement for the todos and one more for each todo's comments: the N+1."""
    return _render(session.scalars(_todos(page, page_size, lazyload(Todo.comments))).all())


def selectin(session: Session, page: int, page_size: int) -> RenderedPage:
    """Two statements: the todos, then all their comments by `WHERE todo_id IN (…)`."""
    return _render(session.scalars(_todos(page, page_size, selectinload(Todo.comments))).all())


def joined(session: Session, page: int, page_size: int) -> RenderedPage:
    """One statement: the todos of the page joined to their comments, a row for each comment."""
    return _render(session.scalars(_todos(page, page_size, joinedload(Todo.comments))).unique().all())


def subquery(session: Session, page: int, page_size: int) -> RenderedPage:
    """Two statements: the todos, then their comments by a join to the first statement as a subquery."""
    return _render(session.scalars(_todos(page, page_size, subqueryload(Todo.comments))).all())


def core(session: Session, page: int, page_size: int) -> RenderedPage:
    """One statement, comments aggregated in SQL, a row for each todo, and no ORM objects."""
    todos = select(Todo.id, Todo.title).order_by(Todo.id).limit(page_size).offset(page * page_size).subquery()
    bodies = func.array_agg(aggregate_order_by(Comment.body, Comment.id), type_=ARRAY(Text))
    statement = (
        select(todos.c.title, bodies.filter(Comment.id.is_not(None)))
        .outerjoin_from(todos, Comment, Comment.todo_id == todos.c.id)
        .group_by(todos.c.id, todos.c.title)
        .order_by(todos.c.id)
    )
    return [(title, bodies or []) for title, bodies in session.execute(statement)]


STRATEGIES: dict[str, PageFunction] = {
    function.__name__: function for function in (lazy, selectin, joined, subquery, core)
}
"""Every strategy's page function by its name."""


def read_page(
    engine: Engine, function: PageFunction, page: int, page_size: int, end: PageEnd = "rollback"
) -> RenderedPage:
    """Read one page in a session of its own and hand the connection back.

    `end` is how the page ends (see `dbkit.database.Settings.end`). Raises what the driver and SQLAlchemy raise.
    """
    with Session(engine) as session:
        rendered = function(session, page, page_size)
        if end == "commit":
            session.commit()
    return rendered


async def read_page_async(
    engine: AsyncEngine,
    function: AnyPageFunction,
    page: int,
    page_size: int,
    end: PageEnd = "rollback",
    close: SessionClose = "with",
) -> RenderedPage:
    """`read_page` for an async engine. A page function that is `async def` gets the `AsyncSession` and is awaited.

    `close` is how the session is closed (see `dbkit.database.Settings.close`).
    """
    session = AsyncSession(engine)
    if close == "with":
        async with session:
            return await _read_in(session, function, page, page_size, end)
    try:
        return await _read_in(session, function, page, page_size, end)
    finally:
        await session.close()


async def _read_in(
    session: AsyncSession, function: AnyPageFunction, page: int, page_size: int, end: PageEnd
) -> RenderedPage:
    if inspect.iscoroutinefunction(function):
        rendered = await cast(AsyncPageFunction, function)(session, page, page_size)
    else:
        rendered = await session.run_sync(cast(PageFunction, function), page, page_size)
    if end == "commit":
        await session.commit()
    return rendered


def page_lazy(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `lazy` from the database that `dbkit.database.default_engine` finds."""
    return read_page(default_engine(), lazy, page, page_size)


def page_joined(page: int, page_size: int = DEFAULT_PAGE_SIZE) -> RenderedPage:
    """One page by `joined` from the database that `dbkit.database.default_engine` finds."""
    return read_page(default_engine(), joined, page, page_size)


def _todos(page: int, page_size: int, comments: ORMOption) -> Select[Todo]:
    return select(Todo).options(comments).order_by(Todo.id).limit(page_size).offset(page * page_size)


def _render(todos: Sequence[Todo]) -> RenderedPage:
    return [(todo.title, [comment.body for comment in todo.comments]) for todo in todos]
