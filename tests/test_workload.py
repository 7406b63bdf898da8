"""Workloads as odd people and odd databases have them: keys of any kind, pages of anything, objects that misbehave."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.workload import PageCheck, Workload, WrongPage, difference, page_bytes, plain, shown


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Line:
    name: str
    price: decimal.Decimal


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Array:
    """As numpy's: it compares its items."""

    def __init__(self, *items: object) -> None:
        self.items = items

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    def tolist(self) -> list[object]:
        return list(self.items)


PAGES = {
    "nothing": None,
    "a set": {1, "a", None},
    "keys that JSON has none of": {(1, 2): 3, None: 4, 1.5: 2, datetime.date(2024, 2, 29): {uuid.UUID(int=3): b"\0"}},
    "bytes": b"\xff\0",
    "a lone surrogate": "\ud800",
    "not a number": [math.nan, {"a": math.nan}],
    "a dataclass": [Line("a", decimal.Decimal("1.50"))],
    "an enumeration": [Colour.RED],
    "an array": [Array(1, 2)],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_a_size_and_is_like_itself(name: str) -> None:
    page = PAGES[name]
    assert page_bytes(page) > 0
    assert difference(page, plain(page)) is None
    check = PageCheck("verified")
    check.know((1,), page)
    assert check.check((1,), plain(page)) == page_bytes(page)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([1], [True], "[0] is 1 and True"),
        ([1], [1.0], "[0] is 1 and 1.0"),
        ({"a": [math.nan]}, {"a": [1.0]}, "['a'][0] is nan and 1.0"),
        ([Array(1, 2)], [Array(1, 3)], "[0][1] is 2 and 3"),
        ([10**5000], [10**5000 + 1], "[0] is <int> (int) and <int> (int)"),
        (["x" * 1000], ["y"], f"[0] is '{'x' * 58}… and 'y'"),
    ],
)
def test_a_difference_is_one_short_line(one: Any, other: Any, said: str) -> None:
    assert difference(one, other) == said


def test_what_is_equal_to_nothing_but_itself_is_no_page() -> None:
    async def rows() -> Any:
        yield 1

    for page in ([object()], {"query": Mute()}):
        with pytest.raises(WrongPage, match="cannot be compared: render it to plain values"):
            plain(page)
    with pytest.raises(WrongPage, match="which nobody has read yet"):
        plain(rows())


def test_anything_is_shown_on_one_short_line() -> None:
    assert shown(10**5000) == "<int>"
    assert shown((1, Mute())) == "<tuple>"
    assert shown("x" * 50_000) == f"'{'x' * 58}…"
    assert shown("a\nb\0\x1b[31m") == r"'a\nb\x00\x1b[31m'"


def test_a_page_that_is_not_compared_may_have_any_key() -> None:
    key: Any = ([1], {})
    assert PageCheck(None).check(key, [1]) == 3


def keys_of(database_url: str, keys: Any) -> list[Any]:
    return Workload("w", keys).find_keys(DatabaseUrl.parse(database_url), 20)


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        ("SELECT 'a:b', ':name' WHERE 'x%y' LIKE '%%' AND 7 % 4 = 3", [("a:b", ":name")]),
        ("SELECT ((ARRAY[1,2,3])[2:3])[1]", [(2,)]),
        ("SET LOCAL work_mem = '1MB'; SELECT current_setting('work_mem');", [("1MB",)]),
    ],
)
def test_keys_by_sql_are_what_the_server_gives_for_it_as_it_stands(
    database_url: str, sql: str, keys: list[Any]
) -> None:
    assert keys_of(database_url, sql) == keys


@pytest.mark.parametrize(
    "keys",
    [
        "INSERT INTO kept VALUES (1) RETURNING id",
        "COMMIT; INSERT INTO kept VALUES (1) RETURNING id",
        lambda session: session.scalars(text("INSERT INTO kept VALUES (1) RETURNING id")).all(),
    ],
)
def test_finding_keys_only_reads(database_url: str, keys: Any) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    with pytest.raises(DbkitError, match=r"cannot be read from .*: cannot execute INSERT in a read-only transaction"):
        keys_of(database_url, keys)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT * FROM kept").fetchall() == []


async def awaited(session: Any) -> list[int]:
    return [1]


def failing(session: Any) -> list[int]:
    raise LookupError("no such\nthing")


def failing_late(session: Any) -> Any:
    yield 1
    raise LookupError("no such thing")


class Unhashable:
    def __hash__(self) -> int:
        raise RuntimeError("no hash")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "cannot be read from"),
        ("SET search_path TO public", "the SQL gives no rows: expected a SELECT"),
        (failing, "LookupError: no such"),
        (failing_late, "LookupError: no such thing"),
        (lambda: [1], "TypeError: "),
        (awaited, "a plain function of a session that returns an iterable"),
        (lambda session: "SELECT 1", "a plain function of a session that returns an iterable"),
        (b"SELECT 1", "expected an iterable"),
        ([Unhashable()], "no hash"),
    ],
)
def test_what_is_no_source_of_keys_is_one_line(database_url: str, keys: Any, said: str) -> None:
    with pytest.raises(DbkitError) as raised:
        keys_of(database_url, keys)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_function_of_keys_may_do_what_it_likes_with_its_session(database_url: str) -> None:
    def closing(session: Any) -> list[int]:
        found = [1, 2]
        session.close()
        return found

    find: Callable[[Any], Any] = closing
    assert keys_of(database_url, find) == [(1,), (2,)]
