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
from locust.runners import MasterRunner, WorkerRunner
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.analysis.plan import Schedule
from dbkit.database.application import database_of
from dbkit.database.engines import find_database
from dbkit.database.server import check_server
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load import verification
from dbkit.load.gate import NO_SLOT, Gate
from dbkit.load.options import TestOptions
from dbkit.load.outbox import Outbox
from dbkit.load.page_class import KeysOfWorkloads, PageClass, is_page_class, page_classes, request_names
from dbkit.load.recorder import Recorder
from dbkit.load.resources import Resources

_contexts: WeakKeyDictionary[Environment, LoadContext] = WeakKeyDictionary()


class LoadTest:
    """What lasts for one test."""

    def __init__(self, options: TestOptions, classes: dict[str, PageClass], chosen: int) -> None:
        self.options = options
        """Its options, which the web form cannot change while it runs."""
        self.page_classes = classes
        """The chosen user classes that read pages, by name; the class picker may choose others for the next test."""
        self.user_classes = {name: each.described() for name, each in classes.items()}
        """The same as tables name them."""
        self.chosen = chosen
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
        self._verified: verification.Verified = {}
        self._checked: set[str] = set()
        """The names of the classes whose engines and pages have been checked."""
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
        """The database that this process was given, else that of the application's engines, else the embedded one.

        Raises DbkitError where none is to be had.
        """
        if self._url is None:
            engines = [each.engine for each in self._classes if is_page_class(each)]
            given = [each for each in engines if isinstance(each, Engine | AsyncEngine)]
            self._url = database_of(given[0]) if given else find_database()
        return self._url

    @property
    def needs_database(self) -> bool:
        """Whether this process or its children read pages. A master of separate workers may have no database."""
        return not isinstance(self.environment.runner, MasterRunner) or bool(self._url or self.options.processes)

    def check(self, options: argparse.Namespace, user_classes: Iterable[type[User]]) -> None:
        """Have classes, their engines and the database checked, and their pages verified, before any user starts.

        Raises DbkitError for the first that is wrong. A worker that a master has started verifies only what it needs.
        """
        user_classes = list(user_classes)
        if not self.needs_database:
            if resetting := [each.__name__ for each in user_classes if getattr(each, "reset", None) is not None]:
                raise DbkitError(f"{resetting[0]} has a reset, which the master runs: give it --database-url too")
            return
        test_options = TestOptions.read(options)
        chosen = list(self.page_classes(test_options, user_classes).values())
        for page_class in chosen:
            verification.check_arguments(page_class)
        resources = Resources(self.database, test_options.settings)
        try:
            self._check_with(resources, test_options, chosen)
        finally:
            resources.close()

    def _check_with(self, resources: Resources, options: TestOptions, chosen: list[PageClass]) -> None:
        server = check_server(self.database)
        unchecked = [each for each in chosen if each.name not in self._checked]
        for page_class in unchecked:
            verification.check_database(page_class, resources, self.database, server.identity)
        verification.check_connections(
            chosen,
            resources,
            options.settings,
            server.connections_allowed,
            processes=options.processes or 1,
            users=(options.num_users or 1) if self.options.headless else None,
        )
        if unchecked:
            is_forked = isinstance(self.environment.runner, WorkerRunner) and bool(options.processes)
            self._verified |= verification.verify(
                chosen, resources, self.options.verify_keys, options.seed, all_classes=not is_forked
            )
            self._checked |= {each.name for each in chosen}

    def page_classes(
        self, options: TestOptions, user_classes: Iterable[type[User]], *, with_keys: bool = True
    ) -> dict[str, PageClass]:
        """Those of the classes that read pages, by name, with keys where this process needs the database.

        Raises DbkitError where keys cannot be found.
        """
        keys = KeysOfWorkloads(self.database if with_keys and self.needs_database else None, options.page_size)
        return page_classes(user_classes, request_names(self._classes), options.end, keys)

    @property
    def _classes(self) -> list[Any]:
        """All classes of the locustfile, also those that were not chosen."""
        available = self.environment.available_user_classes
        return list(available.values() if available else self.environment.user_classes)

    def begin_test(self) -> None:
        """Forget the last test; where pages are read, take the options and the keys as they are now."""
        self.checked.wait()
        self.recorder.clear()
        options = TestOptions.read(self.options)
        classes = self.page_classes(options, self.environment.user_classes)
        for page_class in classes.values():
            if page_class.workload is not None and page_class.check is not None and not page_class.writes:
                for key, rendered in self._verified.get(page_class.workload, {}).items():
                    page_class.check.know(key, rendered)
        self._test = test = LoadTest(options, classes, len(self.environment.user_classes))
        test.planned_s = None if self.environment.shape_class else self.options.run_time
        if not isinstance(self.environment.runner, MasterRunner):
            test.resources = Resources(self.database, options.settings)
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


def context_of(environment: Environment) -> LoadContext:
    """dbkit's side of `environment`, made when it is first asked for: a worker may be given users before its `init`."""
    return _contexts.get(environment) or LoadContext(environment)
