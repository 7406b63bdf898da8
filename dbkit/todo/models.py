"""The three tables that pages are read from: users, their todos, the todos' comments.

They live in a database schema of their own, named in the metadata, so that no search path is needed and a table `todo`
of the user's is never touched. Making, filling and checking them is `dbkit.todo.dataset`'s; reading pages
`dbkit.paging`'s.
"""

from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

SCHEMA = "dbkit"


class Base(DeclarativeBase):
    """Declarative base of the dataset; its metadata names the schema."""

    metadata = MetaData(schema=SCHEMA, naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})


class User(Base):
    """Who owns todos. `app_user`, because `user` is a reserved word in SQL."""

    __tablename__ = "app_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    todos: Mapped[list["Todo"]] = relationship(back_populates="user", order_by="Todo.id")


class Todo(Base):
    """One line of a page."""

    __tablename__ = "todo"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    title: Mapped[str]
    done: Mapped[bool]

    user: Mapped[User] = relationship(back_populates="todos")
    comments: Mapped[list["Comment"]] = relationship(back_populates="todo", order_by="Comment.id")


class Comment(Base):
    """What a page shows below a todo, and what the loading strategies differ in fetching."""

    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    todo_id: Mapped[int] = mapped_column(ForeignKey(Todo.id), index=True)
    body: Mapped[str]

    todo: Mapped[Todo] = relationship(back_populates="comments")
