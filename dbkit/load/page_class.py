"""A user class that reads pages, as one test sees it: its workload with the keys, how a page is read and checked.

What people write in a class is in `dbkit.load.users`. Whether that fits together is checked in `dbkit.load.checks`, and
with the database at hand in `dbkit.load.verification`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from locust import User

from dbkit.analysis.slot import UserClass
from dbkit.database.settings import PageEnd
from dbkit.database.url import DatabaseUrl
from dbkit.paging import PageFunction, function_name, is_async
from dbkit.todo.workload import TODO_LIST
from dbkit.workload import Key, PageCheck, Workload

MOST_SOURCES = 500
"""A task may make a function for each page; no more than these are remembered."""
OWN_TASKS = "tasks of its own"
"""What tables name as the workload of a class that has none."""


@dataclass(frozen=True, eq=False, slots=True)
class PageSource:
    """How the pages of one name are read and checked, in one process."""

    name: str
    """Locust's name of the request."""
    function: PageFunction
    is_async: bool
    end: PageEnd
    check: PageCheck


class PageClass:
    """A user class and what belongs to it in a test."""

    def __init__(self, user_class: Any, end: PageEnd, keys: list[Key], name: str) -> None:
        self.name: str = user_class.__name__
        self.stack: str = user_class.stack
        self.strategy = strategy_of(user_class)
        self.request_name = name
        self.workload = workload_of(user_class)
        self.keys = keys
        """Empty where it has no workload."""
        self.end: PageEnd = user_class.end or end
        self.engine = user_class.engine
        """The application's, or how it is made; None for dbkit's own."""
        self.writes = writes(user_class)
        self.reset: str | Callable[..., object] | None = user_class.reset
        self.function: PageFunction | None = user_class.page_function
        check = self.workload.check if self.workload else None
        if self.writes and check == "verified":
            check = None
        self.check = PageCheck(check)
        self._sources: dict[Any, PageSource] = {}

    @property
    def source(self) -> PageSource:
        """How the pages of its `page_function` are read."""
        assert self.function is not None, "it has tasks of its own"
        return self.source_of(self.function)

    def source_of(self, function: PageFunction, name: str | None = None) -> PageSource:
        """How the pages of any function are read, which a task may call; `name` is that of its requests."""
        identity = (function if isinstance(function, Hashable) else id(function)), name
        if (known := self._sources.get(identity)) is None:
            own = function is self.function
            known = PageSource(
                name=name or (self.request_name if own else function_name(function)),
                function=function,
                is_async=is_async(function),
                end=self.end,
                check=self.check if own else PageCheck(None),
            )
            if len(self._sources) < MOST_SOURCES:
                self._sources[identity] = known
        return known

    def described(self) -> UserClass:
        """The class as tables name it."""
        return UserClass(self.name, self.stack, self.strategy, self.workload.name if self.workload else OWN_TASKS)


def is_page_class(user_class: type[User]) -> bool:
    """Whether its users read pages."""
    return hasattr(user_class, "page_function")


def strategy_of(user_class: Any) -> str:
    """Its `strategy`, else its name."""
    return user_class.strategy or str(user_class.__name__)


def workload_of(user_class: Any) -> Workload | None:
    """Its `workload`, else the todo list; None for a class that has only tasks of its own."""
    return user_class.workload or (TODO_LIST if user_class.page_function is not None else None)


def writes(user_class: Any) -> bool:
    """Whether its pages write, as far as it says."""
    return bool(user_class.writes or (user_class.end == "commit" and user_class.writes is None))


def request_names(user_classes: Iterable[Any]) -> dict[str, str]:
    """Locust's name of each class's requests: the strategy, with the workload before it where there are several."""
    classes = [each for each in user_classes if is_page_class(each)]
    several = len({id(workload) for each in classes if (workload := workload_of(each))}) > 1
    names = {}
    for each in classes:
        workload = workload_of(each)
        names[each.__name__] = f"{workload.name} {strategy_of(each)}" if several and workload else strategy_of(each)
    return names


class KeysOfWorkloads:
    """The keys of workloads, each found once in `database`; none at all where that is None."""

    def __init__(self, database: DatabaseUrl | None) -> None:
        self._database = database
        self._keys: dict[tuple[Workload, int], list[Key]] = {}

    def of(self, workload: Workload | None, page_size: int) -> list[Key]:
        """The keys of a workload, empty without one. Raises DbkitError where they cannot be found."""
        if workload is None or self._database is None:
            return []
        if (workload, page_size) not in self._keys:
            self._keys[workload, page_size] = workload.find_keys(self._database, page_size)
        return self._keys[workload, page_size]


def page_classes(
    user_classes: Iterable[type[User]],
    names: Mapping[str, str],
    end: PageEnd,
    find_keys: Callable[[Workload | None], list[Key]],
    checks: dict[Workload, PageCheck],
) -> dict[str, PageClass]:
    """Those of the classes that read pages, by name; `checks` are taken and kept, as all must give the same pages.

    Raises DbkitError where keys cannot be found.
    """
    made: dict[str, PageClass] = {}
    for each in user_classes:
        if is_page_class(each):
            workload = workload_of(each)
            made[each.__name__] = page_class = PageClass(each, end, find_keys(workload), names[each.__name__])
            if workload is not None and not page_class.writes:
                page_class.check = checks.setdefault(workload, page_class.check)
    return made
