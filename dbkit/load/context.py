"""dbkit's side of one Locust environment: what lasts as long as the process, and what lasts for one test.

It knows which database is to be read and checks it. It listens to nothing: `dbkit.load.plugin` calls it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from locust import User
from locust.env import Environment
from locust.runners import MasterRunner

from dbkit.analysis.plan import Schedule
from dbkit.analysis.slot import UserClass
from dbkit.database.engines import find_database
from dbkit.database.server import check_server
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load.gate import NO_SLOT, Gate
from dbkit.load.options import TestOptions
from dbkit.load.outbox import Outbox
from dbkit.load.recorder import Recorder
from dbkit.load.resources import Resources
from dbkit.todo.dataset import read_shape

_contexts: WeakKeyDictionary[Environment, LoadContext] = WeakKeyDictionary()


class LoadTest:
    """What lasts for one test."""

    def __init__(self, environment: Environment, options: TestOptions) -> None:
        self.options = options
        """Its options, which the web form cannot change while it runs."""
        users = page_users(environment.user_classes)
        self.user_classes = {
            each.__name__: UserClass(each.__name__, each.stack, each.page_function.__name__) for each in users
        }
        """The chosen user classes that read pages, by name; the class picker may choose others for the next test."""
        self.page_functions = {each.__name__: each.page_function for each in users}
        """Their page functions, by the class's name."""
        self.chosen = len(environment.user_classes)
        """How many user classes are chosen, also such that read no pages."""
        self.began_at_s = time.perf_counter()
        """When it began, by `time.perf_counter`."""
        self.ended_at_s = self.began_at_s
        """When it was stopped, by the same."""
        self.planned_s: float | None = None
        """After how many seconds it is to be stopped; None where nothing stops it, or a shape does."""
        self.resources: Resources | None = None
        """What its users share, in a process that reads pages."""
        self.reset_figures()

    def reset_figures(self) -> None:
        """Pages count from now on."""
        self.counts_from_at_s, self.counts_from_at = time.perf_counter(), time.time()


class LoadContext:
    """What dbkit keeps for an environment. Made once, when Locust has parsed its options."""

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        self.environment = environment
        self.options: argparse.Namespace = environment.parsed_options
        """Locust's, as they are now; for those of a test see `test`."""
        self.gate = Gate()
        self.outbox = Outbox(environment)
        self.recorder = Recorder()
        self.conduct: Callable[[Schedule, TestOptions], None] | None = None
        """Runs a schedule, in a process that may: see `dbkit.load.conductor`."""
        self.checked = Event()
        """Set once the database has been checked."""
        self.written = Event()
        """Set where no test's results are still to be written."""
        self.written.set()
        # out of the options before anything is sent or shown; a master's would also overwrite its workers'
        self._url: DatabaseUrl | None = vars(self.options).pop("database_url", None)
        self._test: LoadTest | None = None
        _contexts[environment] = self

    @property
    def test(self) -> LoadTest:
        """The running test, or the last one."""
        assert self._test is not None, "no test has begun"
        return self._test

    @property
    def resources(self) -> Resources:
        """What the users of the running test share."""
        assert self._test is not None and self._test.resources is not None, "this process reads no pages"
        return self._test.resources

    @property
    def reads_pages(self) -> bool:
        """Whether a test is running, and this process has a part in it."""
        return self._test is not None and self._test.resources is not None

    @property
    def database(self) -> DatabaseUrl:
        """The database that this process was given, else the embedded one."""
        if self._url is None:
            self._url = find_database()
        return self._url

    @property
    def needs_database(self) -> bool:
        """Whether this process or its children read pages. A master of separate workers may have no database."""
        return not isinstance(self.environment.runner, MasterRunner) or bool(self._url or self.options.processes)

    def check(self, settings: Settings, user_classes: Iterable[type[User]]) -> None:
        """Raise DbkitError unless the database is there, holds the dataset and allows `user_classes` their pools."""
        if self.needs_database:
            read_shape(self.database)
            self._check_pools(settings, len({user_class.stack for user_class in page_users(user_classes)}))

    def _check_pools(self, settings: Settings, stacks: int) -> None:
        allowed = check_server(self.database).connections_allowed
        processes = self.options.processes or 1
        of_one_stack = processes * settings.pool_capacity
        if self.options.headless:
            of_one_stack = min(of_one_stack, self.options.num_users or 1)
        if stacks * of_one_stack > allowed:
            raise DbkitError(
                f"the pools could open {stacks * of_one_stack} connections ({processes} processes, {stacks} stacks,"
                f" pools of {settings.pool_size} + {settings.max_overflow}), but the server allows {allowed};"
                " lower --pool-size or --max-overflow, choose classes of fewer stacks, or raise max_connections"
            )

    def begin_test(self) -> None:
        """Forget the last test; where pages are read, take the options and the dataset as they are now."""
        self.checked.wait()
        self.recorder.clear()
        self._test = test = LoadTest(self.environment, TestOptions.read(self.options))
        test.planned_s = None if self.environment.shape_class else self.options.run_time
        if not isinstance(self.environment.runner, MasterRunner):
            test.resources = Resources(
                self.database, test.options.settings, read_shape(self.database), test.options.page_size
            )
            self.outbox.open()

    def reset_figures(self) -> None:
        """Forget all pages so far, as Locust does with its own statistics when they are reset."""
        self.recorder.clear()
        if self._test is not None:
            self._test.reset_figures()

    def stop_test(self) -> None:
        """Note when the test was stopped; Locust stops one also where none has begun."""
        if self._test is not None:
            self._test.ended_at_s = time.perf_counter()

    def end_test(self) -> None:
        """Close what the test had open. Its users are gone."""
        self.outbox.close()
        if self._test is not None and self._test.resources is not None:
            resources, self._test.resources = self._test.resources, None
            # in a greenlet of its own: on a signal Locust kills the one that is stopping the test
            gevent.spawn(resources.close).get()
        self.gate.open(NO_SLOT)


def page_users(user_classes: Iterable[type[User]]) -> list[Any]:
    """Those of the user classes that read pages."""
    return [each for each in user_classes if hasattr(each, "stack") and hasattr(each, "page_function")]


def context_of(environment: Environment) -> LoadContext:
    """dbkit's side of `environment`, made when it is first asked for: a worker may be given users before its `init`."""
    return _contexts.get(environment) or LoadContext(environment)
