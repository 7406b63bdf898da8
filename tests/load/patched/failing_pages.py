"""What is said of pages that fail: words that group, tracebacks, counts."""

from __future__ import annotations

import hashlib
import logging
import string
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy.exc
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.analysis.slot import UserClass
from dbkit.load.failures import FURTHER, MOST_MESSAGES, REASON_MAX_CHARACTERS, Failures, PageFailure
from dbkit.load.tracebacks import LAST_FRAMES, MOST_ERRORS, traceback_of
from dbkit.paging import read_page
from dbkit.workload import WrongPage
from tests.slots import class_row


class NoSuchAlbum(Exception):
    pass


def message(error: Exception) -> str:
    return str(PageFailure.of(error))


# Messages that group

words = st.text(string.ascii_letters, min_size=1, max_size=8)
values: dict[str, st.SearchStrategy[str]] = {
    "a number": st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(str),
    "a UUID": st.uuids().map(str),
    "a time": st.datetimes().map(lambda time: time.isoformat()),
    "a digest": st.binary().map(lambda data: f"0{hashlib.sha1(data).hexdigest()}"),
    "something quoted": st.text(max_size=20).map(repr),
    "an object": st.integers(1, 2**48).map(hex),
    "a list": st.lists(st.integers(), min_size=1, max_size=5).map(str),
    "an address": st.tuples(words, words).map(lambda names: f"{names[0]}@{names[1]}.example"),
    "a URL": st.tuples(words, words, st.integers(0)).map(
        lambda parts: "postgresql://{}:{}@host/db?id={}".format(*parts)
    ),
}


@settings(max_examples=400, deadline=None)
@given(st.data(), st.lists(words, min_size=2, max_size=4), st.sampled_from(sorted(values)))
def test_messages_that_differ_in_their_values_are_one(data: st.DataObject, around: list[str], kind: str) -> None:
    said = {message(NoSuchAlbum(f"{' '.join(around[:-1])} {data.draw(values[kind])} {around[-1]}")) for _ in range(3)}
    assert said == {f"NoSuchAlbum: {' '.join(around[:-1])} {'[…]' if kind == 'a list' else '…'} {around[-1]}"}


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=300), st.sampled_from([NoSuchAlbum, ValueError, KeyError, TypeError, OSError, WrongPage]))
def test_any_message_is_a_short_line_of_what_can_be_shown(said: str, kind: type[Exception]) -> None:
    shown = message(kind(said))
    assert shown == shown.strip() and len(shown) <= len(kind.__name__) + 2 + REASON_MAX_CHARACTERS
    assert shown.isprintable()
    assert shown.encode()
    assert message(kind(said)) == shown
    traceback_of(kind(said)).encode()


def at_connect(words: str) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"connection failed: {words}")


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (NoSuchAlbum("no such album 20"), "NoSuchAlbum: no such album …"),
        (NoSuchAlbum("no such album 'Abbey Road'"), "NoSuchAlbum: no such album …"),
        (NoSuchAlbum("the artist's album can't be 'O'Brien's'"), "NoSuchAlbum: the artist's album can't be …"),
        (NoSuchAlbum("track20 of 12, -3.5e-7 (of 1, 2 and 3)"), "NoSuchAlbum: track… of … (of … and …)"),
        (NoSuchAlbum("\n  first line\nno such album 20"), "NoSuchAlbum: first line"),
        (NoSuchAlbum(), "NoSuchAlbum"),
        (NoSuchAlbum("x" * 200), f"NoSuchAlbum: {'x' * 99}…"),
        (NoSuchAlbum("\x1b]red"), "NoSuchAlbum: \N{REPLACEMENT CHARACTER}]red"),
        (NoSuchAlbum("cannot reach postgresql://me:s3cret@host/db now"), "NoSuchAlbum: cannot reach … now"),
        (NoSuchAlbum("host=here password=s3cret port=x"), "NoSuchAlbum: host=here password=… port=x"),
        (KeyError("title"), "KeyError: …"),
        (AttributeError("'NoneType' object has no attribute 'title'"),
         "AttributeError: 'NoneType' object has no attribute 'title'"),
        (TypeError("page() takes 2 positional arguments but 3 were given"),
         "TypeError: page() takes … positional arguments but … were given"),
        (TimeoutError(), "TimeoutError"),
        (at_connect('connection to server at "10.0.0.9", port 5432 failed: No route to host\n\tIs the server running?'),
         "HostUnreachable: the network knows no way to the host"),
        (at_connect('connection to server at "::1", port 5432 failed: could not create socket: Too many open files'),
         "TooManyOpenFiles: this process may open no further socket: see ulimit -n"),
        (at_connect('connection to server at "10.0.0.9", port 5432 failed: FATAL:  unbekannter Fehler "x"\nDETAIL:  y'),
         "ServerRefused: unbekannter Fehler …"),
        (at_connect("expected authentication request from server, but received H"),
         "OperationalError: the connection failed or was lost"),
        (psycopg.OperationalError("consuming input failed: could not receive data from server: Connection timed out"),
         "TcpTimeout: the other side acknowledged nothing for as long as TCP waits"),
        (psycopg.OperationalError("sending query failed: another command is already in progress"),
         "OperationalError: the connection failed or was lost"),
        (psycopg.OperationalError("the connection is closed"),
         "ConnectionLost: the connection was closed by the other side"),
        (asyncpg.InterfaceError("cannot call Transaction.start(): the underlying connection is closed"),
         "ConnectionLost: the connection was closed by the other side"),
        (asyncpg.InterfaceError("another operation is in progress"), "InterfaceError"),
        (asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
         "ConnectionLost: the connection was closed by the other side"),
        (asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
         "ConnectionLost: the connection was closed by the other side"),
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: Connection refused"),
        (Silent(), "Silent"),
        (ExceptionGroup("of a task group", [NoSuchAlbum("no such album 3"), ValueError("other")]),
         "ExceptionGroup: NoSuchAlbum: no such album …"),
        (sqlalchemy.exc.InvalidRequestError("The unique() method must be invoked (Background on this error at: x)"),
         "InvalidRequestError: The unique() method must be invoked"),
        (sqlalchemy.exc.StatementError("x", "SELECT :a", {"a": "hidden"}, ValueError("hidden")), "ValueError"),
        (sqlalchemy.exc.PendingRollbackError("rolled back. Original exception was: (x) Key (id)=(5)"),
         "PendingRollbackError: rolled back."),
        (NoSuchAlbum("wrapped: (x) is wrong\n[SQL: SELECT 1]"), "NoSuchAlbum: wrapped: (x) is wrong"),
        (WrongPage("wrong page: not what the dataset holds; see seed.py --check"),
         "wrong page: not what the dataset holds; see seed.py --check"),
        (PageFailure("as it is: 20"), "as it is: 20"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_messages(error: Exception, shown: str) -> None:
    assert message(error) == shown


# Tracebacks

PAGES = """
import asyncio
from sqlalchemy import text

class NoSuchAlbum(Exception):
    pass

def page(session, number):
    return find(number)

def find(number):
    raise NoSuchAlbum(f"no such album {number}")

def wraps(session, number):
    try:
        {}["title"]
    except KeyError as error:
        raise NoSuchAlbum("no title") from error

def meanwhile(session, number):
    try:
        {}["title"]
    except KeyError:
        raise NoSuchAlbum("no title")

def hides_its_cause(session, number):
    try:
        {}["title"]
    except KeyError:
        raise NoSuchAlbum("no title") from None

def deep(session, number):
    return deep(session, number)

def of_a_statement(session, number):
    hidden = "hid" + "den"
    session.execute(text("SELECT :x FROM nowhere"), {"x": hidden})

def in_a_loop(session, number):
    async def later():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
    async def fail():
        raise NoSuchAlbum("no such album 5")
    asyncio.run(later())

def shows_an_address(session, number):
    raise NoSuchAlbum("postgresql://me:s3cret@host/db")  # postgresql://me:s3cret@host/db

def notes(session, number):
    error = NoSuchAlbum("no such album 1")
    error.add_note("it was sold in 1970")
    raise error

def long_chain(session, number):
    try:
        if not number:
            raise NoSuchAlbum("the first")
        long_chain(session, number - 1)
    except NoSuchAlbum as error:
        raise NoSuchAlbum(f"number {number}") from error
"""


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `shop/pages.py` below the working directory."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "pages.py").write_text(PAGES)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("shop.pages")
    exec(compile(PAGES, str(tmp_path / "shop" / "pages.py"), "exec"), module.__dict__)
    return module


def failure_of(function: Any, *key: Any) -> Exception:
    """What a page raises, as it is read under load, on a database that holds nothing."""
    with pytest.raises(Exception) as raised:
        read_page(create_engine("sqlite://"), function, *(key or (20,)))
    error: Exception = raised.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)  # this function is no application's


def test_frames_are_those_of_the_application_with_paths_as_people_know_them(pages: ModuleType) -> None:
    assert traceback_of(failure_of(pages.page)) == (
        '  File "shop/pages.py", line 9, in page\n'
        "    return find(number)\n"
        '  File "shop/pages.py", line 12, in find\n'
        '    raise NoSuchAlbum(f"no such album {number}")\n'
        "NoSuchAlbum: no such album 20"
    )


@pytest.mark.parametrize(
    ("name", "between"),
    [
        ("wraps", "The above exception was the direct cause of the following exception:"),
        ("meanwhile", "During handling of the above exception, another exception occurred:"),
    ],
)
def test_causes_come_first(pages: ModuleType, name: str, between: str) -> None:
    found = traceback_of(failure_of(getattr(pages, name)))
    assert found.index("KeyError: 'title'") < found.index(between) < found.index("NoSuchAlbum: no title")
    assert found.count(f"in {name}\n") == 2


def test_a_cause_that_is_hidden_stays_so(pages: ModuleType) -> None:
    assert "KeyError" not in traceback_of(failure_of(pages.hides_its_cause))


def test_of_many_frames_and_causes_few_are_shown(pages: ModuleType) -> None:
    deep = traceback_of(failure_of(pages.deep))
    assert deep.count("in deep\n") <= 12 and " more …\n" in deep
    assert deep.splitlines()[-1].startswith("RecursionError: maximum recursion depth exceeded")
    chain = traceback_of(failure_of(pages.long_chain, 9))
    assert chain.count("NoSuchAlbum: ") == MOST_ERRORS
    assert chain.endswith("NoSuchAlbum: number 9")
    assert LAST_FRAMES < 12


def test_an_error_of_a_statement_shows_neither_sql_nor_parameters_but_the_line_that_sent_it(pages: ModuleType) -> None:
    error = failure_of(pages.of_a_statement)
    assert "hidden" in str(error)
    assert traceback_of(error) == (
        '  File "shop/pages.py", line 37, in of_a_statement\n'
        '    session.execute(text("SELECT :x FROM nowhere"), {"x": hidden})\n'
        "OperationalError"
    )


def test_of_a_group_the_first_error_is_shown(pages: ModuleType) -> None:
    found = traceback_of(failure_of(pages.in_a_loop))
    assert found.index("NoSuchAlbum: no such album 5") < found.index("ExceptionGroup: NoSuchAlbum: no such album 5")
    assert "asyncio" not in found.replace("asyncio.", "")


def test_passwords_are_in_neither_words_nor_lines_of_code(pages: ModuleType) -> None:
    found = traceback_of(failure_of(pages.shows_an_address))
    assert "s3cret" not in found and found.count("…") == 3


def test_notes_are_shown(pages: ModuleType) -> None:
    assert traceback_of(failure_of(pages.notes)).endswith("NoSuchAlbum: no such album 1\nit was sold in 1970")


def test_without_code_of_theirs_all_frames_are_shown_but_not_of_a_wrong_page() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(sqlalchemy.exc.OperationalError) as raised, engine.connect() as connection:
        exec("connection.execute(text('SELECT no'))", {"connection": connection, "text": text, "__name__": "dbkit.x"})
    raised.value.__traceback__ = raised.value.__traceback__ and raised.value.__traceback__.tb_next
    assert "sqlalchemy" in traceback_of(raised.value)
    wrong = WrongPage("wrong page: not as it was read before")
    try:
        exec("raise wrong", {"wrong": wrong, "__name__": "dbkit.load.outbox"})
    except WrongPage:
        assert wrong.__traceback__ is not None
        wrong.__traceback__ = wrong.__traceback__.tb_next
    assert traceback_of(wrong) == "wrong page: not as it was read before"


# Counted, in any processes

USER_CLASSES = {name: UserClass(name, "psycopg", name, "albums") for name in ("One", "Other")}


def failing(said: str) -> PageFailure:
    """A page's failure with a traceback that names it."""
    error = NoSuchAlbum(said)
    return PageFailure.of(error)


steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(sorted(USER_CLASSES)), st.sampled_from("abcd"), st.booleans()),
    max_size=40,
)


@given(steps)
def test_counts_add_up_in_whichever_processes_and_the_first_traceback_stays(taken: list[Any]) -> None:
    processes, master = [Failures() for _ in range(3)], Failures()
    expected: Counter[tuple[str, str]] = Counter()
    for place, name, said, reports in taken:
        processes[place].add(f"{name}, 2 users", name, failing(f"{said} {place}"))
        expected[name, f"NoSuchAlbum: {said} …"] += 1
        if reports:
            master.merge_message(processes[place].take_message())
    for process in processes:
        master.merge_message(process.take_message())
        assert process.take_message() == []
    rows = master.rows([], USER_CLASSES)
    assert Counter({(row.user_class, row.message): row.count for row in rows}) == expected
    for row in rows:
        assert row.traceback and row.traceback.startswith(row.message.removesuffix(" …"))
        assert (row.workload, row.label, row.condition) == ("albums", row.user_class, f"{row.user_class}, 2 users")


def test_of_a_failure_that_is_known_the_first_traceback_is_kept() -> None:
    failures = Failures()
    for number in (20, 30):
        failures.add("One", "One", failing(f"no such album {number}"))
    [row] = failures.rows([], USER_CLASSES)
    assert (row.message, row.count, row.traceback) == (
        "NoSuchAlbum: no such album …",
        2,
        "NoSuchAlbum: no such album 20",
    )


def test_rows_are_in_the_order_of_the_classes_and_the_most_frequent_first() -> None:
    failures = Failures()
    for name, said, times in (("One", "rare", 1), ("One", "often", 3), ("Other", "once", 1)):
        for _ in range(times):
            failures.add(name, name, failing(said))
    rows = failures.rows([class_row("Other"), class_row("One", label="One, 5 users")], USER_CLASSES)
    assert [(row.label, row.message, row.count) for row in rows] == [
        ("Other", "NoSuchAlbum: once", 1),
        ("One, 5 users", "NoSuchAlbum: often", 3),
        ("One, 5 users", "NoSuchAlbum: rare", 1),
    ]


def test_messages_that_never_end_are_counted_together() -> None:
    failures, master = Failures(), Failures()
    said = [f"{'x' * length}" for length in range(1, 80)]
    for words_of_one in said:
        failures.add("One", "One", failing(words_of_one))
    master.merge_message(failures.take_message())
    for each in (failures, master):
        rows = {row.message: row for row in each.rows([], USER_CLASSES)} if each is master else {}
        assert len(each.of_conditions["One"]) == MOST_MESSAGES + 1
        if rows:
            assert sum(row.count for row in rows.values()) == len(said)
            assert rows[FURTHER].traceback is None


def test_each_message_is_logged_once_with_its_traceback(pages: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with caplog.at_level(logging.WARNING):
        for number in (20, 30):
            for name in USER_CLASSES:
                failures.add(name, name, PageFailure.of(failure_of(pages.page, number)))
    [record] = caplog.records
    first, *lines = record.getMessage().splitlines()
    assert first == "a page of One failed: NoSuchAlbum: no such album …"
    assert lines[0] == '  File "shop/pages.py", line 9, in page'
    assert "Traceback" not in record.getMessage()
