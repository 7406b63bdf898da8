"""Hangs dbkit onto Locust's events: the only place that listens to them.

It checks the database before any user starts, keeps its URL out of what Locust shows and sends, gives each test its
resources and takes them away again. What is done with them is left to the rooms it calls.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any
from weakref import WeakKeyDictionary

from gevent.event import Event
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner

from dbkit.arguments import read_settings
from dbkit.database import DatabaseUrl, Settings, check_server, find_database
from dbkit.dataset import read_shape
from dbkit.errors import DbkitError
from dbkit.load.gate import Gate
from dbkit.load.options import add_options, guard_web_form
from dbkit.load.resources import Resources

_loads: WeakKeyDictionary[Environment, Load] = WeakKeyDictionary()


class Load:
    """dbkit's side of one Locust environment: what is there for as long as the process, and for one test."""

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        self.environment = environment
        self.options: argparse.Namespace = environment.parsed_options
        self.gate = Gate()
        self.checked = Event()
        """Set once the database has been found good."""
        # out of the options before anything is sent or shown; a master's would also overwrite its workers'
        self._url: DatabaseUrl | None = vars(self.options).pop("database_url")
        self._resources: Resources | None = None

    @property
    def resources(self) -> Resources:
        """What the users of the running test share."""
        assert self._resources is not None, "no test is running"
        return self._resources

    @property
    def reads_pages(self) -> bool:
        """Whether this process or its children read pages, so that its own database must be good.

        A master of separate workers may have none.
        """
        return not isinstance(self.environment.runner, MasterRunner) or bool(self._url or self.options.processes)

    def check(self) -> None:
        """Raise DbkitError unless the database is there, holds the dataset and allows the pools."""
        read_shape(self.database)
        self.check_pools(read_settings(self.options))

    def check_pools(self, settings: Settings) -> None:
        """Raise DbkitError where the pools could open more connections than the server allows."""
        allowed = check_server(self.database).connections_allowed
        stacks = len({user_class.stack for user_class in self.environment.user_classes if hasattr(user_class, "stack")})
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

    @property
    def database(self) -> DatabaseUrl:
        """The database that this process was given, else the embedded one."""
        if self._url is None:
            self._url = find_database()
        return self._url

    def start_test(self) -> None:
        """Take the options as they are now, and the dataset as it is now."""
        self.checked.wait()
        self._resources = Resources(
            self.database, read_settings(self.options), read_shape(self.database), self.options.page_size
        )

    def stop_test(self) -> None:
        """Close what the test had open."""
        if self._resources is not None:
            self._resources.close()
            self._resources = None


def load_of(environment: Environment) -> Load:
    """dbkit's side of `environment`."""
    return _loads[environment]


def _on_init(environment: Environment, **kwargs: Any) -> None:
    load = _loads[environment] = Load(environment)
    if environment.web_ui is not None:
        guard_web_form(environment.web_ui, load.check_pools)
    if load.reads_pages:
        try:
            load.check()
        except DbkitError as mistake:
            print(f"dbkit: error: {mistake}", file=sys.stderr)
            sys.exit(2)
    load.checked.set()


def _on_test_start(environment: Environment, **kwargs: Any) -> None:
    if not isinstance(environment.runner, MasterRunner):
        load_of(environment).start_test()


def _on_test_stop(environment: Environment, **kwargs: Any) -> None:
    load_of(environment).stop_test()


# Locust has every logger at INFO; the pools would tell of each connection that a stopped user leaves behind
logging.getLogger("dbkit.cost").setLevel(logging.WARNING)

events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(_on_init)
events.test_start.add_listener(_on_test_start)
events.test_stop.add_listener(_on_test_stop)
