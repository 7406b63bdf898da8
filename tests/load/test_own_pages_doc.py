"""The code of docs/own-pages.md runs as it is written there, beside the application of a library."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from markdown_it import MarkdownIt
from psycopg import sql

from dbkit.database.url import DatabaseUrl
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.started import TRY_PAGES, finished

LIBRARY = {
    "models.py": """
from datetime import date
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    copies: Mapped[list["Copy"]] = relationship(order_by="Copy.id")

class Copy(Base):
    __tablename__ = "copy"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
    shelf: Mapped[str]

class Loan(Base):
    __tablename__ = "loan"
    id: Mapped[int] = mapped_column(primary_key=True)
    copy_id: Mapped[int] = mapped_column(ForeignKey("copy.id"))
    member_id: Mapped[int]
    lent_on: Mapped[date]
""",
    "db.py": """
import os
from contextlib import nullcontext
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker
from library.models import Book

URL = os.environ["LIBRARY_URL"].removeprefix("postgresql")
engine = create_engine(f"postgresql+psycopg{URL}", pool_pre_ping=True)
async_engine = create_async_engine(f"postgresql+asyncpg{URL}")

class app:
    app_context = nullcontext

def list_books(number):
    with sessionmaker(engine)() as session:
        books = session.query(Book).order_by(Book.id).limit(20).offset(20 * number)
        return [(book.title, [copy.shelf for copy in book.copies]) for book in books]
""",
    "repository.py": """
from dataclasses import dataclass
from sqlalchemy import select
from library.models import Book

@dataclass
class BookOut:
    title: str

class BookRepository:
    def __init__(self, session):
        self.session = session

    async def list_page(self, number):
        titles = await self.session.scalars(select(Book.title).order_by(Book.id).limit(20).offset(20 * number))
        return [BookOut(title=title) for title in titles]
""",
}
TABLES = """
CREATE TABLE book (id serial PRIMARY KEY, title text NOT NULL);
CREATE TABLE copy (id serial PRIMARY KEY, book_id int NOT NULL REFERENCES book, shelf text NOT NULL);
CREATE INDEX ON copy (book_id);
CREATE TABLE member (id serial PRIMARY KEY);
CREATE TABLE loan (
    id serial PRIMARY KEY, copy_id int NOT NULL REFERENCES copy, member_id int NOT NULL, lent_on date NOT NULL
);
INSERT INTO book (title) SELECT 'Book ' || n FROM generate_series(1, 5000) n;
INSERT INTO copy (book_id, shelf) SELECT 1 + n % 5000, chr(65 + n % 20) FROM generate_series(0, 9999) n;
INSERT INTO member SELECT FROM generate_series(1, 2000);
INSERT INTO loan (copy_id, member_id, lent_on) SELECT n, 1 + n % 50, '2024-01-01' FROM generate_series(1, 1000) n;
SELECT setval('loan_id_seq', 100000);
"""
PRELUDE = """
from datetime import date
from dbkit.load import AsyncPageUser, SyncPageUser, Workload, own_session, page_users
from sqlalchemy import func, literal, select
from sqlalchemy.orm import joinedload, selectinload
from library.db import app, async_engine, engine, list_books
from library.models import Book, Loan
from library_load import books, books_page
"""
READ_BY_KEYS = """
for number, each in enumerate([books, shelves, members, busy]):
    read = lambda session, key: session.scalar(select(literal(key)))
    page_users(each, stacks=["psycopg"], prefix=f"Of{number}", key=read)
"""


def code_of_sections() -> dict[str, list[str]]:
    """The blocks of Python below each heading of the page, in order."""
    sections: dict[str, list[str]] = {}
    heading = ""
    tokens = MarkdownIt().parse((REPOSITORY / "docs" / "own-pages.md").read_text())
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            heading = token.content
        elif token.type == "code_block" and re.search(r"^(from|class|def|page_users)\b", token.content, re.MULTILINE):
            sections.setdefault(heading, []).append(token.content)
    return sections


CODE = code_of_sections()
FIRST = "The first answer"


@pytest.fixture(scope="module")
def library(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with the application and the two files of the first answer, and the environment to run them in."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "library").mkdir()
    for name, text in {"__init__.py": "", **LIBRARY}.items():
        (folder / "library" / name).write_text(text)
    for name, text in zip(("library_load.py", "rounds.py"), CODE[FIRST], strict=True):
        (folder / name).write_text(text)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE library")
        server = DatabaseUrl.parse(server_url)
        url = f"postgresql://{server.user}@/library?host={server.host}&port={server.port}"
        with psycopg.connect(url) as own:
            own.execute(TABLES)
        yield folder, {**os.environ, "PYTHONPATH": str(REPOSITORY), "DBKIT_DATABASE_URL": url, "LIBRARY_URL": url}
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier("library")))


def run(library: tuple[Path, dict[str, str]], *command: str) -> str:
    """What it printed; it must have ended well."""
    folder, environment = library
    full = (sys.executable, "-m", *command)
    done = finished(full, folder, environment, DEADLINE_S, fresh=full[:4] != (sys.executable, *TRY_PAGES))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_answer(library: tuple[Path, dict[str, str]]) -> None:
    assert len([line for block in CODE[FIRST] for line in block.splitlines() if line]) <= 15
    assert "The 6 classes give the same page of books for key 0." in run(library, "dbkit", "try", "library_load.py")
    files = ("-f", "library_load.py,rounds.py", "--headless", "-u", "2")
    run(library, "locust", *files, *("--rounds", "1", "--slot-time", "0.1", "--csv", "results/books"))
    assert (library[0] / "results" / "books_comparison.json").exists()


@pytest.mark.parametrize("heading", [heading for heading in CODE if heading != FIRST])
def test_the_code_of_each_section(library: tuple[Path, dict[str, str]], heading: str) -> None:
    before = after = ""
    if heading == "Keys: which pages are read":
        after = READ_BY_KEYS
    elif heading == "Users with tasks of their own":  # which read the page of the section before
        before = CODE["Pages that write"][0].partition("lendings =")[0]
    name = re.sub(r"\W+", "_", heading).lower()
    (library[0] / f"{name}.py").write_text("\n".join((PRELUDE, before, *CODE[heading], after)))
    assert "failed" not in run(library, *TRY_PAGES[1:], f"{name}.py")
