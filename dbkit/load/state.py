"""dbkit's side of one Locust environment: what lasts as long as the process, and what lasts for one test.

It knows which database is to be read and whether it is good. It listens to nothing: `dbkit.load.plugin` calls it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from locust import User
from locust.env import Environment
from locust.runners import MasterRunner

from dbkit.analysis.slot import UserClass
from dbkit.cli.arguments import read_settings
from dbkit.database.engines import find_database
from dbkit.database.server import check_server
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load.gate import NO_SLOT, Gate
from dbkit.load.outbox import Outbox
from dbkit.load.recorder import Recorder
from dbkit.load.resources import Resources
from dbkit.todo.dataset import read_shape

_loads: WeakKeyDictionary[Environment, Load] = WeakKeyDictionary()


class Load:
    """What dbkit keeps for an environment. Made once, when Locust has parsed its options."""

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        self.environment = environment
        self.options: argparse.Namespace = environment.parsed_options
        self.gate = Gate()
        self.outbox = Outbox(environment)
        self.recorder = Recorder()
        self.checked = Event()
        """Set once the database has been found good."""
        self.written = Event()
        """Set where no test's results are still to be written."""
        self.written.set()
        self.test_options = self.options
        """The options of the running or the last test, which the web form cannot change while it runs."""
        self.began_s = self.ended_s = 0.0
        """When the test began, and when it was stopped, by `time.perf_counter`."""
        self.measured_from_s = self.measured_from_at = 0.0
        """Since when its pages count, by `time.perf_counter` and by `time.time`: later where they were reset."""
        self.planned_s: float | None = None
        """After how many seconds it is to be stopped; None where nothing stops it, or a shape does."""
        # out of the options before anything is sent or shown; a master's would also overwrite its workers'
        self._url: DatabaseUrl | None = vars(self.options).pop("database_url", None)
        self._resources: Resources | None = None
        _loads[environment] = self

    @property
    def resources(self) -> Resources:
        """What the users of the running test share."""
        assert self._resources is not None, "no test is running"
        return self._resources

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

    @property
    def user_classes(self) -> dict[str, UserClass]:
        """The chosen user classes that read pages, by name."""
        return {
            user_class.__name__: UserClass(user_class.__name__, user_class.stack, user_class.page_function.__name__)
            for user_class in _page_users(self.environment.user_classes)
        }

    @property
    def page_functions(self) -> dict[str, Any]:
        """Their page functions, by the class's name."""
        users = _page_users(self.environment.user_classes)
        return {user_class.__name__: user_class.page_function for user_class in users}

    def check(self, settings: Settings, user_classes: Iterable[type[User]]) -> None:
        """Raise DbkitError unless the database is there, holds the dataset and allows `user_classes` their pools."""
        if self.needs_database:
            read_shape(self.database)
            self._check_pools(settings, len({user_class.stack for user_class in _page_users(user_classes)}))

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
        self.measure_anew()
        self.began_s = self.measured_from_s
        self.planned_s = None if self.environment.shape_class else self.options.run_time
        self.test_options = argparse.Namespace(**vars(self.options))
        if not isinstance(self.environment.runner, MasterRunner):
            self._resources = Resources(
                self.database, read_settings(self.test_options), read_shape(self.database), self.test_options.page_size
            )
            self.outbox.open()

    def measure_anew(self) -> None:
        """Forget all pages so far, as Locust does with its own statistics when they are reset."""
        self.recorder.clear()
        self.measured_from_s, self.measured_from_at = time.perf_counter(), time.time()

    def end_test(self) -> None:
        """Close what the test had open. Its users are gone."""
        self.outbox.close()
        resources, self._resources = self._resources, None
        if resources is not None:
            # in a greenlet of its own: on a signal Locust kills the one that is stopping the test
            gevent.spawn(resources.close).get()
        self.gate.open(NO_SLOT)


def _page_users(user_classes: Iterable[type[User]]) -> list[Any]:
    return [each for each in user_classes if hasattr(each, "stack") and hasattr(each, "page_function")]


def load_of(environment: Environment) -> Load:
    """dbkit's side of `environment`, made when it is first asked for: a worker may be given users before its `init`."""
    return _loads.get(environment) or Load(environment)
