"""Reads one page by a class, in the lane of its stack, after the checks that a run begins with.

A class with tasks of its own runs each of them once, and each page that they read is kept. What is shown of it is left
to `dbkit.load.try_pages.shown`.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gevent
from locust import TaskSet
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser
from locust.user.task import DefaultTaskSet
from sqlalchemy.orm import configure_mappers

from dbkit.database.server import ServerInfo
from dbkit.database.statement_log import Statement, StatementLog
from dbkit.errors import DbkitError
from dbkit.load import verification
from dbkit.load.back_off import BackOff
from dbkit.load.checks import check_class
from dbkit.load.context import context_of
from dbkit.load.page import Page
from dbkit.load.page_class import PageClass, PageSource
from dbkit.load.reset import reset_pages
from dbkit.load.stint import Stint
from dbkit.load.try_pages.limit import TimeLimit, TookTooLong
from dbkit.load.users import PageUser
from dbkit.measure.cost import PageCost
from dbkit.paging import PageFunction
from dbkit.rollback import rolled_back
from dbkit.workload import Key, as_key, plain_key

CLOSE_TIMEOUT_S = 5
"""How long lanes may take to close; one whose page cannot be broken off never does."""


class BadKey(DbkitError):
    """The key that was asked for is none."""


@dataclass
class TriedPage:
    """A page that was read, or that failed."""

    name: str
    """What it is called in a run."""
    key: Key
    task: str | None = None
    """The task that read it."""
    cost: PageCost = field(default_factory=PageCost)
    statements: list[Statement] = field(default_factory=list)
    savepoints: int = 0
    """How many times it set, released or rolled back to a savepoint; these are among its round trips alone."""
    rendered: Any = None
    bytes: int = 0
    next_key: Any = None
    """The key of the page that follows it, in a workload whose pages do."""
    warnings: list[str] = field(default_factory=list)
    error: BaseException | None = None
    waiting_for: Statement | None = None
    """What it waited for when it was broken off."""

    @property
    def statements_seen(self) -> int:
        """How many were sent by SQLAlchemy."""
        return sum(statement.times for statement in self.statements)

    @property
    def statements_sent(self) -> int:
        """How many were sent at all, as far as it is known."""
        return max(self.statements_seen, self.cost.statements)


@dataclass
class TriedClass:
    """What became of a class."""

    name: str
    page_class: PageClass | None = None
    """None where its keys were not found."""
    has_tasks: bool = False
    """Whether it has tasks of its own."""
    rolled_back: bool = False
    pages: list[TriedPage] = field(default_factory=list)
    errors: list[tuple[str, Exception]] = field(default_factory=list)
    """What failed besides its pages, and in what: the class itself, or a task."""
    idle_tasks: list[str] = field(default_factory=list)
    """Tasks that read no page."""
    goes_on: bool = False
    """Whether what it reads could not be ended."""

    @property
    def failed(self) -> bool:
        return bool(self.errors) or any(page.error for page in self.pages)


class Trial:
    """Tries the classes of a locustfile, one after the other."""

    def __init__(self, environment: Environment, server: ServerInfo, key: str, page_timeout_s: float, writes: bool):
        self._environment = environment
        self._context = context_of(environment)
        self._server = server
        self._key = key
        self._page_timeout_s = page_timeout_s
        self._writes = writes
        self._log = StatementLog()

    def read(self, user_class: type[PageUser], begun: Callable[[TriedClass], None]) -> TriedClass:
        """Try one class. `begun` is called once it is known what is to be read.

        Raises BadKey where the key is none of its workload.
        """
        tried = TriedClass(user_class.__name__, has_tasks=PageUser.read_pages not in user_class.tasks)
        try:
            check_class(user_class.__name__, user_class)
            with self.testing(user_class, tried) as page_class:
                tried.page_class = page_class
                tried.rolled_back = page_class.writes and not self._writes
                begun(tried)
                self.prepare(page_class)
                if tried.has_tasks:
                    self._run_tasks(user_class, tried)
                else:
                    tried.pages.append(self.read_page(page_class, page_class.source, page_class.keys[0]))
        except BadKey:
            raise
        except Exception as error:
            if tried.page_class is None:
                begun(tried)
            tried.errors.append(("the class", error))
        return tried

    @contextmanager
    def testing(self, user_class: type[PageUser], tried: TriedClass) -> Iterator[PageClass]:
        """A test of this class alone, with lanes of its own."""
        self._environment.user_classes = [user_class]
        self._context.begin_test(in_slots=False)
        try:
            page_class = self._context.test.page_classes[user_class.__name__]
            if self._key and page_class.workload is not None:
                page_class.keys = [find_key(self._key, page_class.keys)]
            yield page_class
        finally:
            tried.goes_on = True
            with gevent.Timeout(CLOSE_TIMEOUT_S, False):
                self._context.end_test()
                tried.goes_on = False

    def prepare(self, page_class: PageClass) -> None:
        """What a run checks and does before its first page."""
        configure_mappers()  # once for a process, and no page's own time
        verification.check_arguments(page_class)
        resources = self._context.resources
        with TimeLimit(self._page_timeout_s):
            verification.check_database(
                page_class,
                resources,
                self._context.database,
                self._server.identity,
                self._context.test.options.round_trip,
            )
            resources.lane(page_class).open_connections(1)
        if page_class.writes and self._writes:
            reset_pages(self._context.database, page_class)

    def read_page(self, page_class: PageClass, source: PageSource, key: Key) -> TriedPage:
        """Read a page in its lane, check it, and keep what it did."""
        is_rolled_back = page_class.writes and not self._writes
        stint = Stint(
            _NobodysPages(),
            _rolled_back(source) if is_rolled_back else source,
            self._context.gate,
            lambda page: True,
            limit=1,
            key=key,
        )
        tried = TriedPage(source.name, key)
        self._log.follow(lambda: stint.in_flight.cost if isinstance(stint.in_flight, Page) else None)
        with warnings.catch_warnings(record=True) as caught:
            _listen_to_warnings()
            try:
                with TimeLimit(self._page_timeout_s):
                    self._context.resources.lane(page_class).read_pages(stint)
            except TookTooLong as error:
                tried.error, tried.waiting_for = error, self._log.waiting_for
        stint.abandon()
        if (page := stint.last) is not None:
            tried.cost, tried.rendered, tried.error = page.cost, page.rendered, page.error
        tried.statements = self._log.statements
        tried.savepoints = self._log.savepoints
        tried.warnings = list(dict.fromkeys(_in_one_line(each) for each in caught))
        if tried.error is None:
            try:
                tried.bytes = source.check.check(key, tried.rendered)
                if source.function is page_class.function:
                    tried.next_key = _next_key(page_class, tried)
            except Exception as error:
                tried.error = error
        return tried

    def _run_tasks(self, user_class: type[PageUser], tried: TriedClass) -> None:
        """Run each task of a user once."""
        page_class = tried.page_class
        assert page_class is not None
        user: Any = user_class(self._environment)
        keys = itertools.cycle(page_class.keys[:1] or [()])
        current, following = "on_start", None

        def read_page(function: PageFunction | None = None, *key: Any, name: str | None = None) -> Any:
            nonlocal following
            chosen = page_class.function if function is None else function
            if chosen is None:
                raise DbkitError(f"{tried.name} has no page_function: call read_page with a function")
            key = key or (following if function is None and following else next(keys))
            page = self.read_page(page_class, page_class.source_of(chosen, name), key)
            if function is None:
                following = None if page.next_key is None else as_key(page.next_key)
            page.task = current
            tried.pages.append(page)
            return page.rendered if page.error is None else None

        user.read_page = read_page
        user.wait_time = lambda: 0
        user._taskset_instance = DefaultTaskSet(user)  # as in `User.run`; `wait` needs it
        self._run_task(current, user.on_start, tried)
        if tried.errors:
            return
        for current, task in _tasks_of(user):
            before = len(tried.pages) + len(tried.errors)
            self._run_task(current, task, tried)
            is_idle = len(tried.pages) + len(tried.errors) == before
            if is_idle and not current.endswith((".on_start", ".on_stop")):
                tried.idle_tasks.append(current)
        current = "on_stop"
        self._run_task(current, user.on_stop, tried)

    def _run_task(self, name: str, task: Callable[[], Any], tried: TriedClass) -> None:
        try:
            with TimeLimit(self._page_timeout_s), suppress(*_ENDINGS):
                if inspect.iscoroutine(result := task()):
                    result.close()
                    raise TypeError("the task is async def, which Locust does not await: write it as a plain function")
        except Exception as error:
            tried.errors.append((f"task {name}", error))


_ENDINGS = (StopUser, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately)
"""How a task may end early, by Locust."""


class _NobodysPages:
    """A reader that has no think time, and whose pages do not follow one another: see `dbkit.load.stint.Reader`."""

    def __init__(self) -> None:
        self.keys: Iterator[Key] = iter(())
        self.pages_asked = 0
        self.back_off = BackOff()

    def key_after(self, page: Page) -> Key | None:
        return None

    def wait_time(self) -> float:
        return 0.0

    def first_wait_share(self) -> float:
        return 0.0


def _rolled_back(source: PageSource) -> PageSource:
    return replace(source, function=rolled_back(source.function, source.end), end="rollback")


def find_key(text: str, keys: list[Key]) -> Key:
    """The key that a text names: one of the `keys` as it is printed, or a Python literal. Raises BadKey."""
    for key in keys:
        if str(plain_key(key)) == text:
            return key
    try:
        found = as_key(ast.literal_eval(text))
        hash(found)
    except (ValueError, SyntaxError, TypeError):
        raise BadKey(
            f"argument --key: invalid value {text!r}: expected a Python literal such as 5, 'abc' or (2, 20),"
            " or one of the workload's keys"
        ) from None
    return found


def _tasks_of(owner: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The tasks of a user or a task set, each once, by name; those of nested sets with the set's name before them."""
    for task in dict.fromkeys(owner.tasks):
        if inspect.isclass(task) and issubclass(task, TaskSet):
            within = task(owner)
            yield f"{task.__name__}.on_start", within.on_start
            yield from ((f"{task.__name__}.{name}", each) for name, each in _tasks_of(within))
            yield f"{task.__name__}.on_stop", within.on_stop
        else:
            yield task.__name__, partial(task, owner)


def _next_key(page_class: PageClass, page: TriedPage) -> Any:
    workload = page_class.workload
    if workload is None or not workload.follows:
        return None
    return workload.next_key(page.rendered, *page.key)


def _listen_to_warnings() -> None:
    warnings.simplefilter("ignore")
    for category in (RuntimeWarning, UserWarning):  # also SQLAlchemy's
        warnings.simplefilter("always", category)


def _in_one_line(warning: warnings.WarningMessage) -> str:
    return f"{warning.category.__name__}: {str(warning.message).partition(chr(10))[0]}"
