"""Proves before a run that every class of a workload gives the same pages, on its own stack and engine.

Some keys are read once by each class. What they gave is what later pages are compared with: see
`dbkit.workload.PageCheck`. Options and classes that do not fit together are found in `dbkit.load.checks`,
and connections that are too many in `dbkit.load.connections`.
"""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Iterable
from itertools import groupby
from time import perf_counter
from typing import Any

import gevent
import sqlalchemy.exc
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dbkit.database.server import IDENTITY
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError, advice_on, without_secrets
from dbkit.load.failures import PageFailure
from dbkit.load.lanes import is_of_page
from dbkit.load.page import PageTimeout
from dbkit.load.page_class import PageClass, PageSource
from dbkit.load.reasons import READ_ONLY, READ_ONLY_WORDS
from dbkit.load.resources import Resources
from dbkit.paging import own_session
from dbkit.workload import Key, PageCheck, Workload, WrongPage, check_plain, difference, page_bytes, plain_key, shown

logger = logging.getLogger(__name__)

SLOW_S = 10.0
"""A page that takes longer is spoken of, as it may never end."""

ROUND_TRIPS_TRIED = 3

Verified = dict[Workload, dict[Key, Any]]
"""The pages that are known to be right, as rendered."""


def check_arguments(page_class: PageClass) -> None:
    """Raise DbkitError unless the page function takes a session and the arguments of the keys."""
    if page_class.function is None or not page_class.keys:
        return
    key = page_class.keys[0]
    try:
        # what a decorator takes may differ from what it wraps takes; `own_session` hands all of it on
        follow = isinstance(page_class.function, own_session)
        signature = inspect.signature(page_class.function, follow_wrapped=follow)
    except (TypeError, ValueError):  # some built in C have none
        return
    try:
        signature.bind(None, *key)
    except TypeError as error:
        arguments = "a session" + "".join(f", {shown(each)}" for each in key)
        raise DbkitError(
            f"{page_class.name}: its page function takes {signature}, but is called with ({arguments}): {error}"
        ) from None


def check_database(
    page_class: PageClass, resources: Resources, database: DatabaseUrl, identity: Any, round_trip_s: float
) -> None:
    """Raise DbkitError unless the class's engine, where it has one of its own, reads from `database`.

    It must do so through the relay, where round trips are to take `round_trip_s` longer.
    """
    if page_class.engine is None:
        return

    took_s = []

    def identify(session: Any) -> Any:
        for _ in range(ROUND_TRIPS_TRIED if round_trip_s else 1):
            began_at_s = perf_counter()
            row = session.execute(text(IDENTITY)).one()
            took_s.append(perf_counter() - began_at_s)
        return tuple(row)

    source = PageSource("", identify, False, page_class.end, PageCheck(None))
    try:
        found = resources.lane(page_class).read_one(source, ())
    except DbkitError:
        raise
    except Exception as error:
        raise DbkitError(f"{page_class.name}: its engine cannot connect: {_one_line(error)}") from None
    if found != identity:
        raise DbkitError(
            f"{page_class.name}: its engine is connected to the database {found[0]!r} of another server or name than"
            f" {database}; set --database-url to the one that the engine uses"
        )
    if min(took_s) < round_trip_s / 2:
        raise DbkitError(
            f"{page_class.name}: its engine does not connect by the URL that its function is given, so that"
            " --round-trip has no effect on it; have the function use that URL"
        )


def check_keys(page_classes: Iterable[PageClass], database: DatabaseUrl, name: str, page_size: int) -> None:
    """Raise DbkitError unless another database, of that name, has the same keys: then pages can be compared."""
    for workload, keys in {each.workload: each.keys for each in page_classes if each.workload}.items():
        if workload.find_keys(database, page_size) != keys:
            raise DbkitError(
                f"the keys of workload {workload.name!r} in database={name} are not those of database=direct, so that"
                " pages cannot be compared; give both the same rows"
            )


def keys_to_verify(keys: list[Key], count: int, seed: int) -> list[Key]:
    """So many of the keys: the first, the last and random ones, in order; all where there are no more."""
    if len(keys) <= count:
        return list(dict.fromkeys(keys))
    if count < 2:
        return keys[:count]
    places = random.Random(seed).sample(range(1, len(keys) - 1), count - 2)
    return list(dict.fromkeys(keys[place] for place in (0, *sorted(places), len(keys) - 1)))


def verify(
    page_classes: Iterable[PageClass],
    resources: Resources,
    count: int,
    seed: int,
    *,
    all_classes: bool,
    known: Verified,
    among: str,
) -> Verified:
    """Read `count` keys of each workload by every class, or by one class alone; return the pages with those `known`.

    It leaves out workloads that are checked in another way, or not at all. Raises DbkitError where a page fails, cannot
    be compared, differs between two classes, or, `among` settings that vary, from the known page of its key.
    """
    verified = dict(known)
    if not count:
        return verified
    chosen = [each for each in page_classes if each.workload is not None and each.function is not None]
    chosen = [each for each in chosen if each.workload and each.workload.check == "verified" and not each.writes]
    chosen.sort(key=lambda each: id(each.workload))
    for _, group in groupby(chosen, key=lambda each: id(each.workload)):
        members = list(group)
        first, workload = members[0], members[0].workload
        assert workload is not None
        keys = keys_to_verify(first.keys, count, seed)
        pages = {key: _read(first, resources, key) for key in keys}
        before = known.get(workload, {})
        for key in before.keys() & pages.keys():
            if (found := difference(before[key], pages[key])) is not None:
                raise DbkitError(
                    f"pages differ: of key {shown(plain_key(key))} with {among or 'these settings'} and with others,"
                    f" {found}; they must be alike"
                )
        for other in members[1:] if all_classes else []:
            for key in keys:
                _compare(first, other, key, pages[key], _read(other, resources, key))
        verified[workload] = before | pages
    return verified


def _read(page_class: PageClass, resources: Resources, key: Key) -> Any:
    said = gevent.spawn_later(SLOW_S, _say_slow, page_class, key)
    try:
        with gevent.Timeout(resources.page_timeout_s, PageTimeout()):
            rendered = resources.lane(page_class).read_one(page_class.source, key)
        check_plain(rendered)
        page_bytes(rendered)  # what has no form in JSON fails now, and not each time that it is read
    except DbkitError:
        raise
    except BaseException as error:
        if not is_of_page(error):
            raise
        raise DbkitError(
            f"{page_class.name} cannot read the page of key {shown(plain_key(key))}: {_one_line(error)};"
            " see dbkit try for where"
        ) from None
    finally:
        said.kill(block=False)
    return rendered


def _say_slow(page_class: PageClass, key: Key) -> None:
    logger.warning(
        "%s has been reading the page of key %s for %.0f s, which is verified before the run; see dbkit try for where",
        page_class.name,
        shown(plain_key(key)),
        SLOW_S,
    )


def _compare(first: PageClass, other: PageClass, key: Key, page: Any, others: Any) -> None:
    try:
        found = difference(page, others)
    except Exception as error:  # of a method of somebody's own
        found = f"they cannot be compared: {_one_line(error)}"
    if found is not None:
        raise DbkitError(
            f"pages differ: of key {shown(plain_key(key))} by {first.name} and {other.name}, {found}; they must be"
            " alike, or their workload needs a check of its own, or check=None"
        )


def _one_line(error: BaseException) -> str:
    """An error as somebody who is about to start a run needs it: in the server's own words."""
    origin: Any = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(error, WrongPage | sqlalchemy.exc.TimeoutError):
        return str(PageFailure.of(error))
    if getattr(origin, "sqlstate", None) and origin.__cause__ is not None:
        origin = origin.__cause__  # the driver's, not an adapter's
    words = " ".join(str(origin).partition("\n")[0].split())
    advice = f"; {READ_ONLY_WORDS}" if getattr(origin, "sqlstate", None) == READ_ONLY else advice_on(origin)
    return f"{type(origin).__name__}: {without_secrets(words)}{advice}"
