"""Repositories as users have them: a few pages in git, with a commit for each thing that a change may do to them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, inspect, text

PAGES = """
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, lazyload, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    title: Mapped[str]


def shelves(session, number):
    query = select(Shelf).options(selectinload(Shelf.books)).order_by(Shelf.id).limit(10).offset(10 * number)
    return [[shelf.name, [book.title for book in shelf.books]] for shelf in session.scalars(query)]


def titles(session, number):
    query = select(Book.title).where(Book.shelf_id == number + 1).order_by(Book.id)
    return list(session.scalars(query))
"""

LOCUSTFILE = """
from dbkit.load import Workload, page_users
from shop.pages import shelves, titles

page_users(Workload("shelves", keys=range(5)), stacks=["psycopg"], shelves=shelves)
page_users(Workload("titles", keys=range(50)), stacks=["psycopg"], titles=titles)
"""

TABLES = """
CREATE TABLE shelf (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE book (id int PRIMARY KEY, shelf_id int NOT NULL REFERENCES shelf, title text NOT NULL);
INSERT INTO shelf SELECT n, 'shelf ' || n FROM generate_series(1, 50) n;
INSERT INTO book SELECT n, 1 + n % 50, 'book ' || n FROM generate_series(1, 20000) n;
CREATE INDEX book_shelf_id ON book (shelf_id);
ANALYZE
"""

AUTHOR = {f"GIT_{who}_{what}": "someone@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
"""Without the settings of who runs the tests."""


@dataclass(frozen=True)
class Shop:
    """A repository with the pages above."""

    root: Path
    folder: Path
    """Where its code lies, and where commands are typed: the root, or a folder in it."""

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=os.environ | AUTHOR | ALONE, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def change(self, old: str, new: str, file: str = "shop/pages.py") -> None:
        """Change the code, without a commit."""
        path = self.folder / file
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))

    def branch(self, name: str, old: str, new: str, file: str = "shop/pages.py") -> None:
        """A branch with one commit that changes the code; then main again."""
        self.git("checkout", "--quiet", "-b", name)
        self.change(old, new, file)
        self.commit(f"A change: {name}")
        self.git("checkout", "--quiet", "main")

    def is_clean(self) -> bool:
        """Whether nothing is left of a command: no worktree, no branch, no file, nothing in git's folder."""
        worktrees = [line for line in self.git("worktree", "list", "--porcelain").splitlines() if "worktree " in line]
        kept = self.root / ".git" / "worktrees"
        return len(worktrees) == 1 and not (kept.exists() and [*kept.iterdir()]) and not self.git("status", "--short")


def make_shop(root: Path, folder: str = ".") -> Shop:
    """A repository with one commit, on the branch main, whose code lies in a folder of it."""
    root.mkdir(parents=True)
    shop = Shop(root, root / folder)
    (shop.folder / "shop").mkdir(parents=True)
    (shop.folder / "shop" / "__init__.py").write_text("")
    (shop.folder / "shop" / "pages.py").write_text(PAGES)
    (shop.folder / "shop_load.py").write_text(LOCUSTFILE)
    (shop.root / ".gitignore").write_text("__pycache__/\n*.log\n")
    shop.git("init", "--quiet", "--initial-branch", "main")
    shop.commit("Shelves and titles")
    return shop


LAZY = ("selectinload(Shelf.books)", "lazyload(Shelf.books)")
"""What makes the page of shelves load its books one by one."""


def make_tables(url: str) -> None:
    """The tables of the pages, filled; those that are there stay, as test files may share a server."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if not inspect(engine).has_table("shelf"):
        with engine.begin() as connection:
            connection.execute(text(TABLES))
    engine.dispose()
