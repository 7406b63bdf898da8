"""dbkit's side of one Locust environment: what lasts as long as the process, and what lasts for one test.

It knows which database is to be read and checks it. It listens to nothing: `dbkit.load.plugin` calls it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from locust import User
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import configure_mappers

from dbkit.analysis.baseline import Baseline
from dbkit.analysis.condition import Variant, variants
from dbkit.analysis.plan import Schedule
from dbkit.database.application import database_of
from dbkit.database.engines import DIRECT, find_database, named_database
from dbkit.database.relay import Relays
from dbkit.database.server import ServerInfo, check_server
from dbkit.database.settings import Pooler
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load import verification
from dbkit.load.arrivals import ArrivalStream
from dbkit.load.connections import Demand, check_connections, warn_once
from dbkit.load.gate import Gate
from dbkit.load.options import TestOptions, database_of_variant
from dbkit.load.outbox import Outbox
from dbkit.load.page_class import KeysOfWorkloads, PageClass, is_page_class, page_classes, request_names
from dbkit.load.page_limits import PageLimit
from dbkit.load.places import Places
from dbkit.load.recorder import Recorder
from dbkit.load.resources import Resources
from dbkit.load.side_workers import Sides
from dbkit.load.sides import keys_verified_by, process_seed
from dbkit.load.slot_setup import SlotSetup
from dbkit.load.starvation import StarvationWatch
from dbkit.load.window import Window
from dbkit.workload import PageCheck, Workload

USERS_OF_TEST = "users_of_test"
"""Under which name a master's workers get its number of users, as Locust sends them none of its own options."""

_contexts: WeakKeyDictionary[Environment, LoadContext] = WeakKeyDictionary()


class LoadTest:
    """What lasts for one test."""

    def __init__(self, setups: Mapping[Variant, SlotSetup], chosen: int) -> None:
        self.setups = setups
        """What users read with in the slots of each variant, and under `()` without any."""
        self.options = setups[()].options
        """Its options, which the web form cannot change while it runs."""
        self.page_classes = setups[()].page_classes
        """The chosen user classes that read pages, by name; the class picker may choose others for the next test."""
        self.user_classes = {name: each.described() for name, each in self.page_classes.items()}
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
        self.arrivals: dict[str, ArrivalStream] = {}
        """The pages that each class is asked for in an open loop without a schedule."""
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
        self.relays = Relays()
        """What makes the server farther away for the pages of this process."""
        self.sides = Sides()
        """The workers of two revisions, in their master."""
        self.last_reports: set[str] = set()
        """The workers that have sent their last report of the present test, by their Locust ids, in their master."""
        self.conduct: Callable[[Schedule, TestOptions], None] | None = None
        """Runs a schedule, in a process that may: see `dbkit.load.conductor`."""
        self.checked = Event()
        """Set once the database has been checked."""
        self.written = Event()
        """Set where no test's results are still to be written."""
        self.written.set()
        # out of the options before anything is sent or shown; a master's would also overwrite its workers'
        self._url: DatabaseUrl | None = vars(self.options).pop("database_url", None)
        self.baseline: Baseline | None = None
        """The earlier run beside which tests of this process are seen."""
        self.pooler_warnings: list[str] = []
        """What is known before a test of how it fits the pooler that it reads through."""
        self._verified: verification.Verified = {}
        self._checked: set[tuple[str, Hashable]] = set()
        """The classes whose engines and pages have been checked: their names, with the settings that bear on it."""
        self._test: LoadTest | None = None
        self._watches: tuple[PageLimit | StarvationWatch, ...] = ()
        """They look at pages in flight while a test runs."""
        self._slot: tuple[str | None, Variant] = (None, ())
        """The key of the condition that is run, and its variant."""
        _contexts[environment] = self

    @property
    def test(self) -> LoadTest:
        """The running test, or the last one."""
        assert self._test is not None, "no test has begun"
        return self._test

    @property
    def slot(self) -> SlotSetup:
        """What the users of the present slot read with; without a schedule, those of the test."""
        condition, variant = self._slot
        return replace(self.test.setups[variant], condition=condition)

    def begin_slot(self, condition: str, variant: Variant) -> None:
        """The users of a slot are about to come; the first slot's before the test has begun in this process."""
        self._slot = condition, variant

    def arrivals(self, user_class: str) -> ArrivalStream | None:
        """The pages that a class is asked for, in this process, in an open loop; None in a closed one."""
        if self.gate.window.slot is not None:
            return self.gate.window.arrivals
        options = self.test.options
        if options.arrivals and user_class not in self.test.arrivals:
            runner: Any = self.environment.runner
            seed = f"{options.seed}/{process_seed(runner)}/{user_class}/arrivals"
            self.test.arrivals[user_class] = ArrivalStream(options.arrivals_to_compare[0], seed)
        return self.test.arrivals.get(user_class)

    @contextmanager
    def counted_in(self, arrivals: ArrivalStream) -> Iterator[None]:
        """One user more is there to read the pages of a stream. In a slot all are there from its beginning."""
        if self.gate.window.slot is not None:
            yield  # each change of the number wakes up the user that waits for the next page
            return
        arrivals.add_users(1)
        try:
            yield
        finally:
            arrivals.add_users(-1)

    def use_settings(self) -> None:
        """Read with the settings of the present slot. The users of the last one are gone."""
        slot = self.slot
        assert slot.database is not None
        self.resources.use(slot.database, slot.options.settings)

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

        It is for what is no page, and so through the strictest pooler that pages are read through. Raises DbkitError
        where none is to be had.
        """
        return self.database_named(DIRECT)

    def database_named(self, name: str) -> DatabaseUrl:
        """The database of that name: see `dbkit.database.engines`. Raises DbkitError where none is to be had."""
        return self._as_given(name).through(TestOptions.read(self.options).strictest_pooler)

    def _as_given(self, name: str) -> DatabaseUrl:
        if name != DIRECT:
            return named_database(name)
        if self._url is None:
            engines = [each.engine for each in self._classes if is_page_class(each)]
            given = [each for each in engines if isinstance(each, Engine | AsyncEngine)]
            self._url = database_of(given[0]) if given else find_database()
        return self._url

    @property
    def needs_database(self) -> bool:
        """Whether this process or its children read pages. A master of separate workers may have no database."""
        is_alone = bool(self._url or self.options.processes or self.options.sides)
        return not isinstance(self.environment.runner, MasterRunner) or is_alone

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
        setups = self._setups(test_options, user_classes)
        for page_class in setups[()].page_classes.values():
            verification.check_arguments(page_class)
        servers: dict[str, ServerInfo] = {}
        self.pooler_warnings.clear()
        for setup in [setups[()]] if len(setups) == 1 else list(setups.values())[1:]:
            name = database_of_variant(setup.variant)
            if name not in servers:
                assert setup.database is not None
                servers[name] = check_server(setup.database)
            self._check_setup(setup, servers[name])

    def _check_setup(self, setup: SlotSetup, server: ServerInfo) -> None:
        """Check the classes with the settings of one variant."""
        assert setup.database is not None
        options, chosen = setup.options, list(setup.page_classes.values())
        name = database_of_variant(setup.variant)
        settings = options.settings
        of_engines = tuple(settings.server_options.items()), settings.round_trip_s > 0
        with_these = name, options.page_size, options.end, of_engines, setup.database.pooler
        unchecked = [each for each in chosen if (each.name, with_these) not in self._checked]
        resources = Resources(setup.database, settings, self.relays, options.page_timeout)
        try:
            for page_class in unchecked:
                verification.check_database(
                    page_class, resources, setup.database, server.identity, settings.round_trip_s
                )
            warnings = check_connections(setup.database, server, chosen, resources, settings, self._demand(setup))
            is_forked = isinstance(self.environment.runner, WorkerRunner) and bool(options.processes)
            warn_once(warnings, self.pooler_warnings, is_quiet=is_forked)
            if unchecked:
                if name != DIRECT:
                    verification.check_keys(unchecked, setup.database, name, options.page_size)
                self._verified = verification.verify(
                    chosen,
                    resources,
                    keys_verified_by(self.environment.runner, self.options),
                    options.seed,
                    all_classes=not is_forked,
                    known=self._verified,
                    among=setup.words,
                )
                self._checked |= {(each.name, with_these) for each in chosen}
        finally:
            resources.close()

    def _most_users(self, options: TestOptions) -> int | None:
        """How many users' connections there can be at a time; None where nobody knows."""
        if options.loads or options.max_users or self.options.headless:
            return options.most_users * (2 if options.sides else 1)  # one side's stay open in the other's slots
        return None

    def _demand(self, setup: SlotSetup) -> Demand:
        options = setup.options
        # as far as this process knows
        of_sides = options.sides and isinstance(self.environment.runner, MasterRunner)
        processes = int(self.options.expect_workers) if of_sides else options.processes or 1
        in_rounds = self.environment.shape_class is not None
        return Demand(processes, self._most_users(options), in_rounds, setup.words if options.are_many else "")

    def _setups(self, options: TestOptions, user_classes: Iterable[type[User]]) -> dict[Variant, SlotSetup]:
        """What users read with without a variant, and in each. Raises DbkitError where keys cannot be found."""
        user_classes = list(user_classes)
        database = self._as_given(DIRECT).through(options.strictest_pooler) if self.needs_database else None
        keys = KeysOfWorkloads(database)
        checks: dict[Workload, PageCheck] = {}
        setups = {}
        for variant in dict.fromkeys(((), *variants(options.variations))):
            changed = options.of_variant(variant)
            setups[variant] = SlotSetup(
                condition=None,
                variant=variant,
                options=changed,
                page_classes=self._page_classes(user_classes, changed, keys, checks),
                database=self._database_of(variant, changed.pooler) if self.needs_database else None,
            )
        return setups

    def _database_of(self, variant: Variant, pooler: Pooler) -> DatabaseUrl:
        """The database of a variant; a pooler that varies goes before what the URL says."""
        database = self._as_given(database_of_variant(variant))
        return replace(database, pooler=pooler) if "pooler" in dict(variant) else database.through(pooler)

    def page_classes_without_keys(
        self, options: TestOptions, user_classes: Iterable[type[User]]
    ) -> dict[str, PageClass]:
        """Those of the classes that read pages, by name."""
        return self._page_classes(user_classes, options, KeysOfWorkloads(None), {})

    def _page_classes(
        self,
        user_classes: Iterable[type[User]],
        options: TestOptions,
        keys: KeysOfWorkloads,
        checks: dict[Workload, PageCheck],
    ) -> dict[str, PageClass]:
        find_keys = partial(keys.of, page_size=options.page_size)
        return page_classes(user_classes, request_names(self._classes), options.end, find_keys, checks)

    @property
    def _classes(self) -> list[Any]:
        """All classes of the locustfile, also those that were not chosen."""
        available = self.environment.available_user_classes
        return list(available.values() if available else self.environment.user_classes)

    def begin_test(self, *, in_slots: bool) -> None:
        """Forget the last test; where pages are read, take the options and the keys as they are now.

        `in_slots` says whether a schedule runs; the first slot may have been announced by then. Raises DbkitError where
        keys or a database cannot be found.
        """
        self.checked.wait()
        self.recorder.clear()
        if isinstance(self.environment.runner, WorkerRunner):
            self.options.num_users = getattr(self.options, USERS_OF_TEST, self.options.num_users)
        else:
            setattr(self.options, USERS_OF_TEST, self.options.num_users)
        setups = self._setups(TestOptions.read(self.options), self.environment.user_classes)
        for page_class in setups[()].page_classes.values():  # their checks are those of all variants
            if page_class.workload is not None and not page_class.writes:
                for key, rendered in self._verified.get(page_class.workload, {}).items():
                    page_class.check.know(key, rendered)
        if not in_slots:
            self._slot = None, ()
        self._test = test = LoadTest(setups, len(self.environment.user_classes))
        test.planned_s = None if self.environment.shape_class else self.options.run_time
        if not isinstance(self.environment.runner, MasterRunner):
            # before several lanes do it at once: SQLAlchemy's lock is a patched one, and does not keep threads apart;
            # what is wrong with models fails each page, in its own words
            with suppress(Exception):
                configure_mappers()
            places = test.options.max_in_flight
            self.gate.places = Places(places) if places else None
            timeout_s = test.options.page_timeout
            test.resources = Resources(self.database, test.options.settings, self.relays, timeout_s)
            self._watches = PageLimit(self.gate, timeout_s), StarvationWatch(self.gate, self.recorder.starved.note)
            for watch in self._watches:
                watch.start()
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
            if self.gate.window.slot is None:
                self.gate.window.measured_until_at_s = self._test.ended_at_s
            for arrivals in self._test.arrivals.values():
                arrivals.close(self._test.ended_at_s)

    def end_test(self) -> None:
        """Close what the test had open. Its users are gone."""
        if self._test is not None:
            for user_class, arrivals in self._test.arrivals.items():
                self.recorder.add_not_begun(Window(None), arrivals.drop(), user_class)
            self._test.arrivals.clear()
        watches, self._watches = self._watches, ()
        for watch in watches:
            watch.stop()
        self.outbox.close()
        if self._test is not None and self._test.resources is not None:
            resources, self._test.resources = self._test.resources, None
            # in a greenlet of its own: on a signal Locust kills the one that is stopping the test
            gevent.spawn(resources.close).get()
        self.gate.open(Window(None))


def context_of(environment: Environment) -> LoadContext:
    """dbkit's side of `environment`, made when it is first asked for: a worker may be given users before its `init`."""
    return _contexts.get(environment) or LoadContext(environment)
