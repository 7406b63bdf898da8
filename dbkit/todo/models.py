"""The three tables that pages are read from: users, their todos, the todos' comments.

They are in a database schema of their own, named in the metadata, so that no search path is needed and a user's own
table `todo` is never touched. For making, filling and checking them see `dbkit.todo.dataset`; for reading pages,
`dbkit.paging`.
"""

from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

SCHEMA = "dbkit"


class Base(DeclarativeBase):
    """Declarative base of the dataset; its metadata names the schema."""

    metadata = MetaData(schema=SCHEMA, naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})


class User(Base):
    """An owner of todos. The table is `app_user`, because `user` is a reserved word in SQL."""

    __tablename__ = "app_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    todos: Mapped[list["Todo"]] = relationship(back_populates="user", order_by="Todo.id")


class Todo(Base):
    """A todo: one line of a page."""

    __tablename__ = "todo"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    title: Mapped[str]
    done: Mapped[bool]

    user: Mapped[User] = relationship(back_populates="todos")
    comments: Mapped[list["Comment"]] = relationship(back_populates="todo", order_by="Comment.id")


class Comment(Base):
    """A comment, which a page shows below its todo. The loading strategies differ in how they fetch these."""

    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    todo_id: Mapped[int] = mapped_column(ForeignKey(Todo.id), index=True)
    body: Mapped[str]

    todo: Mapped[Todo] = relationship(back_populates="comments")
