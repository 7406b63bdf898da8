"""The page functions of the todo list: one list page, five ways to load its comments.

Pages are numbered from 0. A page past the end is empty; the last one may be short. See `dbkit.paging` for the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Text, func, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session, joinedload, lazyload, selectinload, subqueryload
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import Select

from dbkit.todo.models import Comment, Todo

RenderedPage = list[tuple[str, list[str]]]
"""A page as plain values: `[(title, [body, …]), …]`, todos and comments in the order of their ids."""


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


STRATEGIES: dict[str, Callable[[Session, int, int], RenderedPage]] = {
    function.__name__: function for function in (lazy, selectin, joined, subquery, core)
}
"""Every strategy's page function by its name."""


def _todos(page: int, page_size: int, comments: ORMOption) -> Select[Todo]:
    return select(Todo).options(comments).order_by(Todo.id).limit(page_size).offset(page * page_size)


def _render(todos: Sequence[Todo]) -> RenderedPage:
    return [(todo.title, [comment.body for comment in todo.comments]) for todo in todos]
