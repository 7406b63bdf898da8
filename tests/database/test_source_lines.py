"""The line of the application that sends each statement, on real engines; pages carry marks where they send one."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, lazyload, selectinload

from dbkit.database.engines import make_async_engine, make_engine
from dbkit.database.settings import Settings
from dbkit.database.source_lines import source_line
from dbkit.database.stacks import stacks_of
from dbkit.database.url import DatabaseUrl
from dbkit.paging import joined, read_page, read_page_async
from dbkit.todo.models import Todo, User

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).relative_to(REPOSITORY)
ASYNC_STACKS = stacks_of("tasks")

first_todos = select(Todo).options(lazyload(Todo.comments)).order_by(Todo.id).limit(2)
many_todos = select(Todo).options(selectinload(Todo.comments)).execution_options(yield_per=2).limit(6)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@contextmanager
def noted_engine(url: str) -> Iterator[tuple[Engine, list[str | None]]]:
    engine = make_engine(DatabaseUrl.parse(url), Settings())
    try:
        yield engine, note_lines(engine)
    finally:
        engine.dispose()


@asynccontextmanager
async def noted_async_engine(url: str, stack: str) -> AsyncIterator[tuple[AsyncEngine, list[str | None]]]:
    engine = make_async_engine(DatabaseUrl.parse(url), Settings(), stack)
    try:
        yield engine, note_lines(engine.sync_engine)
    finally:
        await engine.dispose()


def note_lines(engine: Engine) -> list[str | None]:
    """The line of each statement, as they are executed."""
    lines: list[str | None] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*_: Any) -> None:
        lines.append(source_line())

    return lines


def marked(mark: str, name: str) -> str:
    """The line of this file that ends with a mark."""
    (number,) = [
        number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"  # {mark}")
    ]
    return f"{HERE}:{number} in {name}"


def lines_of(url: str, page: Callable[[Session], Any]) -> list[str | None]:
    with noted_engine(url) as (engine, lines), Session(engine) as session:
        page(session)
    return lines


def async_lines_of(url: str, stack: str, page: Callable[[AsyncSession], Any]) -> list[str | None]:
    async def read() -> list[str | None]:
        async with noted_async_engine(url, stack) as (engine, lines), AsyncSession(engine) as session:
            await page(session)
        return lines

    return asyncio.run(read())


def lazy_page(session: Session) -> list[Any]:
    todos = session.scalars(first_todos).all()  # the todos
    return [
        [comment.body for comment in todo.comments]  # their comments
        for todo in todos
    ]


def test_a_lazily_loaded_relation_is_sent_by_the_line_that_touches_it(seeded_url: str) -> None:
    todos, *comments = lines_of(seeded_url, lazy_page)
    assert todos == marked("the todos", "lazy_page")
    assert comments == [marked("their comments", "lazy_page")] * 2


class Todos:
    def __init__(self, session: Session) -> None:
        self.session = session

    def first(self) -> Sequence[Todo]:
        return self.session.scalars(
            first_todos  # not the line of the call
        ).all()

    @property
    def title(self) -> str:
        return str(self.session.scalar(text("SELECT title FROM dbkit.todo LIMIT 1")))  # in a property


def make_page(statement: str) -> Callable[[Session], Any]:
    def page(session: Session) -> None:
        session.execute(text(statement))  # in a closure

    return page


def generate(session: Session) -> Iterator[Any]:
    for number in range(2):
        yield session.scalar(text("SELECT :number"), {"number": number})  # in a generator


def test_methods_closures_generators_and_lambdas_are_named_as_they_are_written(seeded_url: str) -> None:
    def page(session: Session) -> None:
        todos = Todos(session)
        assert todos.title
        make_page("SELECT 1")(session)
        list(generate(session))
        max((session.execute(text("SELECT 1")) for _ in range(1)), key=id)  # in an expression
        (lambda: session.execute(text("SELECT 1")))()  # in a lambda

    of_test = "test_methods_closures_generators_and_lambdas_are_named_as_they_are_written.page"
    assert lines_of(seeded_url, page) == [
        marked("in a property", "Todos.title"),
        marked("in a closure", "make_page.page"),
        *[marked("in a generator", "generate")] * 2,
        marked("in an expression", of_test),
        marked("in a lambda", f"{of_test}.<lambda>"),
    ]


def test_a_call_of_several_lines_has_a_line_of_its_own(seeded_url: str) -> None:
    (line,) = lines_of(seeded_url, lambda session: Todos(session).first())
    before = int(marked("not the line of the call", "").split(":")[1].split()[0]) - 1
    assert line == f"{HERE}:{before} in Todos.first"


def test_rows_that_are_fetched_later_are_sent_by_the_line_that_goes_on(seeded_url: str) -> None:
    def page(session: Session) -> None:
        todos = session.scalars(many_todos)  # the stream
        for _ in todos:  # its chunks
            pass

    of_test = "test_rows_that_are_fetched_later_are_sent_by_the_line_that_goes_on.page"
    stream, *comments = lines_of(seeded_url, page)
    assert stream == marked("the stream", of_test)
    assert comments == [marked("its chunks", of_test)] * 3


def test_what_a_flush_sends_has_the_line_that_flushes(seeded_url: str) -> None:
    def page(session: Session) -> None:
        session.add(User(name="new"))
        session.flush()  # the flush

    (line,) = lines_of(seeded_url, page)
    assert line == marked("the flush", "test_what_a_flush_sends_has_the_line_that_flushes.page")


async def async_helper(session: AsyncSession) -> Any:
    await asyncio.sleep(0)
    return await session.scalar(text("SELECT 1"))  # in a coroutine


def bodies_of(_: Session, todo: Todo) -> list[str]:
    return [comment.body for comment in todo.comments]  # touched


class AsyncTodos:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def bodies(self) -> list[Any]:
        todos = (await self.session.scalars(first_todos)).all()  # todos of a method
        return [
            await self.session.run_sync(bodies_of, todo)  # not the line that touches
            for todo in todos
        ]


@pytest.mark.parametrize("stack", ASYNC_STACKS)
def test_an_async_page_has_its_own_lines(seeded_url: str, stack: str) -> None:
    async def page(session: AsyncSession) -> None:
        await async_helper(session)
        await asyncio.gather(async_helper(session))  # a task of its own
        await asyncio.wait_for(async_helper(session), 60)
        await AsyncTodos(session).bodies()

    assert async_lines_of(seeded_url, stack, page) == [
        *[marked("in a coroutine", "async_helper")] * 3,
        marked("todos of a method", "AsyncTodos.bodies"),
        *[marked("touched", "bodies_of")] * 2,
    ]


@pytest.mark.parametrize("stack", ASYNC_STACKS)
def test_a_plain_function_in_an_async_session_has_its_own_lines(seeded_url: str, stack: str) -> None:
    todos, *comments = async_lines_of(seeded_url, stack, lambda session: session.run_sync(lazy_page))
    assert todos == marked("the todos", "lazy_page")
    assert comments == [marked("their comments", "lazy_page")] * 2


@pytest.mark.parametrize("stack", ASYNC_STACKS)
def test_async_streams_are_sent_by_the_line_that_goes_on(seeded_url: str, stack: str) -> None:
    async def page(session: AsyncSession) -> None:
        todos = await session.stream_scalars(many_todos)  # the async stream
        async for _ in todos:  # its async chunks
            pass

    of_test = "test_async_streams_are_sent_by_the_line_that_goes_on.page"
    stream, *comments = async_lines_of(seeded_url, stack, page)
    assert stream == marked("the async stream", of_test)
    assert comments == [marked("its async chunks", of_test)] * 3


def test_a_template_that_loads_lazily_has_the_templates_line(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "todos.html").write_text(
        "<ul>\n{% for todo in todos %}\n<li>\n{{ todo.comments[0].body }}\n{% endfor %}"
    )
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path), autoescape=True)

    def page(session: Session) -> str:
        return templates.get_template("todos.html").render(todos=session.scalars(first_todos).all())

    _, *comments = lines_of(seeded_url, page)
    assert comments == [f"{tmp_path / 'todos.html'}:4 in template"] * 2


def test_an_application_that_is_installed_has_lines_and_the_libraries_it_uses_have_none(
    seeded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lib" / "site-packages" / "shop_of_source_lines"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pages.py").write_text(
        "from contextlib import contextmanager\n"
        "from functools import reduce\n"
        "def albums_page(session):\n"
        "    return reduce(lambda _, query: session.execute(query), session.info['queries'], None)\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    pages = importlib.import_module("shop_of_source_lines.pages")

    def page(session: Session) -> None:
        session.info["queries"] = [text("SELECT 1")]
        pages.albums_page(session)

    assert lines_of(seeded_url, page) == [f"{package / 'pages.py'}:4 in albums_page.<lambda>"]
    monkeypatch.chdir(package.parent)
    assert lines_of(seeded_url, page) == ["shop_of_source_lines/pages.py:4 in albums_page.<lambda>"]


def test_dbkits_own_pages_count_as_an_application(seeded_url: str) -> None:
    with noted_engine(seeded_url) as (engine, lines):
        read_page(engine, joined, 0, 20)
    (line,) = lines
    assert line is not None and line.startswith("dbkit/todo/strategies.py:") and line.endswith(" in joined")


def test_there_is_no_line_where_no_application_sends_the_statement(seeded_url: str) -> None:
    execute: Any = Session.execute  # called with a statement and its parameters in the place of a page and its size
    statement: Any = text("SELECT CAST(:number AS integer)")
    parameters: Any = {"number": 1}
    with noted_engine(seeded_url) as (engine, lines):
        read_page(engine, execute, statement, parameters)
    assert lines == [None]

    async def read() -> None:
        async with noted_async_engine(seeded_url, "asyncpg") as (engine, lines):
            await read_page_async(engine, execute, statement, parameters)
        assert lines == [None]

    asyncio.run(read())


def test_it_works_in_greenlets_of_gevent(seeded_url: str) -> None:
    script = f"""
import locust, gevent
from {__name__} import Session, lazy_page, noted_engine
with noted_engine({seeded_url!r}) as (engine, lines):
    def read():
        with Session(engine) as session:
            lazy_page(session)
    gevent.joinall([gevent.spawn(read) for _ in range(2)], raise_error=True)
    print(*sorted(lines), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [marked("the todos", "lazy_page"), *[marked("their comments", "lazy_page")] * 2]
    assert done.stdout.splitlines() == sorted(expected * 2)
