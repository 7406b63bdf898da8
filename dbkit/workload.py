"""What is read: the keys of a workload's pages, and how a page is known to be right.

A workload says nothing about how its pages are read: page functions do, and every one of them must give the same page
for the same key. For calling one see `dbkit.paging`. Who reads which page, and when, is left to `dbkit.load`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Set
from enum import Enum
from typing import Any, Literal

import msgspec
from sqlalchemy import Row, inspect
from sqlalchemy.orm import Session

from dbkit.database.engines import make_engine
from dbkit.database.server import connect_directly
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError, advice_on, without_secrets

Key = tuple[Hashable, ...]
"""The arguments of one page, after the session. A workload's keys may be plain values, which are one argument each."""

Keys = Iterable[Any] | str | Callable[[Session], Iterable[Any]]
"""Plain values or tuples; or SQL whose rows are the keys; or a function that finds them with a session."""

Check = Callable[..., object]
"""`(rendered, *key)`: raises, or returns False, where the page is wrong."""

MOST_KEYS = 1_000_000
"""More keys than this are refused: they may be without end."""
KNOWN_PAGES = 2048
"""How many pages a process remembers, to compare later ones with."""


class WrongPage(Exception):
    """A page is not what it must be. The message says how it differs."""


class Workload:
    """The pages that are read, by their keys.

    `keys` are a range, a list or any other iterable; or SQL text (`"SELECT id FROM customer"`), or a function of a
    session, both read once before a run. A key that is a tuple is several arguments of the page function.

    `check` is how a page is known to be right: by default each is compared with the same page as it was read before by
    any class; or by a function `(rendered, *key)` that raises, or returns False, where the page is wrong; None checks
    nothing.

    `next_key` is for keyset pages: `(rendered, *key)` gives the key of the page that follows, or None after the last
    one. Then `keys` are those of first pages. A subclass may override it as a method.
    """

    def __init__(
        self,
        name: str,
        keys: Keys,
        *,
        check: Check | Literal["verified"] | None = "verified",
        next_key: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name
        self.check = check
        if next_key is not None:
            self.next_key = next_key  # type: ignore[method-assign]
        self.follows = getattr(self.next_key, "__func__", None) is not Workload.next_key
        """Whether a page's result decides which page comes next."""
        self._keys = keys
        self._found: list[Key] | None = None

    def __repr__(self) -> str:
        return f"Workload({self.name!r})"

    def next_key(self, rendered: Any, *key: Any) -> Any:
        """The key of the page after this one; None, as here, where any page may follow."""
        return None

    def find_keys(self, database: DatabaseUrl, page_size: int) -> list[Key]:
        """All keys, in order. `page_size` is the option of that name, which only the todo list uses.

        Raises DbkitError where there are none, or where one cannot be a key.
        """
        keys: Any = self._keys
        try:
            if isinstance(keys, str):
                return self._checked(_rows_of(database, keys))
            if callable(keys):
                engine = make_engine(database, Settings(read_only=True))
                try:
                    with Session(engine) as session:
                        return self._checked(keys(session))
                finally:
                    engine.dispose()
            if self._found is None:  # an iterator can be read only once
                self._found = self._checked(keys)
            return self._found
        except DbkitError:
            raise
        except Exception as error:  # of a function or an iterable of somebody's own, too
            origin: Any = getattr(error, "orig", None) or error
            words = without_secrets(str(origin).partition("\n")[0].partition(" (Background on this error")[0])
            raise DbkitError(
                f"the keys of workload {self.name!r} cannot be read from {database}: "
                f"{'' if hasattr(origin, 'sqlstate') else f'{type(origin).__name__}: '}{words}{advice_on(origin)}"
            ) from None

    def describe(self, keys: int, page_size: int) -> str:
        """Its pages in words, for a result; `keys` is how many keys there are."""
        return f"{keys:,} {'key' if keys == 1 else 'keys'}"

    def _checked(self, found: Any) -> list[Key]:
        if isinstance(found, str | bytes) or not isinstance(found, Iterable):
            if isinstance(found, Coroutine):
                found.close()  # it would be warned of
            raise DbkitError(
                f"invalid keys of workload {self.name!r}: expected an iterable, SQL text, or a plain function of a"
                " session that returns an iterable"
            )
        keys = [as_key(each) for each in itertools.islice(found, MOST_KEYS + 1)]
        if not keys:
            raise DbkitError(f"workload {self.name!r} has no keys: give it at least one, or fill its tables first")
        if len(keys) > MOST_KEYS:
            raise DbkitError(f"workload {self.name!r} has more than {MOST_KEYS:,} keys: give it fewer")
        for key in keys:
            try:
                hash(key)
            except Exception as error:
                raise DbkitError(f"invalid key {shown(key)} of workload {self.name!r}: {error}") from None
        return keys


def _rows_of(database: DatabaseUrl, sql: str) -> list[tuple[Any, ...]]:
    """What the last statement of an SQL text gives. It may only read."""
    # by psycopg alone: SQLAlchemy would take `:name` for a parameter, and `%` for the beginning of one
    with connect_directly(database) as connection:
        cursor = connection.execute(sql.encode())
        while cursor.nextset():
            pass
        if cursor.description is None:
            raise ValueError("the SQL gives no rows: expected a SELECT")
        rows = cursor.fetchall()
        connection.rollback()
    return rows


def as_key(value: Any) -> Key:
    """A key as the arguments that it is: a tuple, or a row, is several."""
    return tuple(value) if isinstance(value, tuple | Row) else (value,)


def plain_key(key: Key) -> Any:
    """A key as people write it: a single argument alone."""
    return key[0] if len(key) == 1 else key


def shown(value: object, limit: int = 60) -> str:
    """A key, or a part of a page, for a message: no longer than `limit`, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits has no text, and somebody's own method may fail
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class PageCheck:
    """Whether the pages of one workload are right, in one process: each is one of those that it knows."""

    def __init__(self, check: Check | Literal["verified"] | None) -> None:
        self._check = check
        self._known: dict[Key, tuple[Any, int]] = {}

    def know(self, key: Key, rendered: Any) -> None:
        """Remember a page that is right."""
        if key not in self._known:
            self._known[key] = rendered, page_bytes(rendered)

    def check(self, key: Key, rendered: Any) -> int:
        """The size of a right page in bytes: see `page_bytes`. Raises WrongPage, or what the check function raises."""
        if self._check is None:
            return page_bytes(rendered)
        known = self._known.get(key)
        if known is not None and _are_equal(known[0], rendered):
            return known[1]
        if self._check == "verified":
            if known is not None:
                if (found := difference(known[0], rendered)) is not None:
                    wrong = WrongPage("wrong page: not as it was read before")
                    # not in the message, by which failures group
                    wrong.add_note(f"key {shown(plain_key(key))}: {found}")
                    raise wrong
                return known[1]
            check_plain(rendered)
        elif self._check(rendered, *key) is False:
            raise WrongPage("wrong page: refused by the check of its workload")
        size = page_bytes(rendered)
        if len(self._known) < KNOWN_PAGES:
            self._known[key] = rendered, size
        return size


def page_bytes(rendered: Any) -> int:
    """The size of a rendered page as a web application would send it: compact JSON in UTF-8."""
    return len(page_json(rendered).encode(errors="surrogatepass"))


def page_json(rendered: Any) -> str:
    """A rendered page as compact JSON. Raises TypeError or ValueError where it has no such form."""
    try:
        return _as_json(rendered)
    except TypeError:  # of keys that JSON has no form for, such as dates
        return _as_json(_with_text_keys(plain(rendered)))


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_jsonable)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(each) for key, each in value.items()}
    return [_with_text_keys(each) for each in value] if isinstance(value, list) else value


def _jsonable(value: Any) -> Any:
    """What JSON has no form for: containers as such, all else as text."""
    made = plain(value, deep=False)
    return made if isinstance(made, dict | list) else str(value)


def check_plain(rendered: Any) -> None:
    """Raise WrongPage where a page holds something that cannot be compared, such as an object of the ORM."""
    plain(rendered)


def plain(value: Any, *, deep: bool = True) -> Any:
    """A page as dicts, lists and single values: rows and tuples are lists, records are dicts.

    With `deep` also what is in it. Raises WrongPage for an object of the ORM, and for an iterator: both are read only
    later, if at all. So it does for an object that is equal to none but itself.
    """
    below: Callable[[Any], Any] = plain if deep else lambda each: each
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    if isinstance(value, list | tuple | Row):
        return [below(each) for each in value]
    if isinstance(value, Mapping):
        return {key: below(each) for key, each in value.items()}
    if isinstance(value, Set):
        return [below(each) for each in sorted(value, key=repr)]
    if isinstance(value, Iterator | AsyncIterator):
        raise WrongPage(f"a page holds {_article(value)}, which nobody has read yet: return a list")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if _is_mapped(value):
            raise _orm_object(value)
        return {each.name: below(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: below(getattr(value, name)) for name in value.__struct_fields__}
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic's
        return below(dump())
    if callable(to_list := getattr(value, "tolist", None)):  # numpy's
        return below(to_list())
    if _is_mapped(value):
        raise _orm_object(value)
    if value.__class__.__eq__ == object.__eq__ and not isinstance(value, Enum | type):
        raise WrongPage(f"a page holds {_article(value)}, which cannot be compared: render it to plain values")
    return value


def _is_mapped(value: object) -> bool:
    return hasattr(value, "_sa_instance_state") and inspect(value, raiseerr=False) is not None


def _orm_object(value: object) -> WrongPage:
    return WrongPage(
        f"a page holds {_article(value)} of the ORM: render it to plain values, such as [(album.title, …), …]"
    )


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def difference(one: Any, other: Any) -> str | None:
    """Where two pages differ first, and how, on one line; None where they are alike.

    Lists, tuples and rows with the same items are alike. Raises WrongPage for what cannot be compared.
    """
    return _difference(plain(one), plain(other), "")


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # an array of numpy's compares its items
        return False


def _difference(one: Any, other: Any, path: str) -> str | None:
    where = path or "the page"
    if isinstance(one, list) and isinstance(other, list):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if (found := _difference(mine, theirs, f"{path}[{place}]")) is not None:
                return found
        return None if len(one) == len(other) else f"{where} has {len(one)} items and {len(other)}"
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            if key in other and (found := _difference(one[key], other[key], f"{path}[{key!r}]")) is not None:
                return found
        if missing := [key for key in (*one, *other) if (key in one) is not (key in other)]:
            return f"{where} has {missing[0]!r} in one alone"
        return None
    if type(one) is not type(other) or not (_are_equal(one, other) or (one != one and other != other)):  # NaN
        mine, theirs = shown(one), shown(other)
        if mine == theirs:
            mine, theirs = f"{mine} ({type(one).__name__})", f"{theirs} ({type(other).__name__})"
        return f"{where} is {mine} and {theirs}"
    return None
