"""The result of a test: so far, while it runs, and final, when it has ended.

Nothing may hold up pages that are measured. So the result so far is made between two slots in rounds, and on request in
a run without rounds. For what a result holds see `dbkit.analysis.result`; for writing it, `dbkit.load.outputs`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

import gevent
import psycopg
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner
from sqlalchemy.exc import SQLAlchemyError

from dbkit.analysis.baseline import notes_beside, outcomes_beside
from dbkit.analysis.before_after import COMPARED
from dbkit.analysis.change_words import headline_of_revisions
from dbkit.analysis.checks import Check
from dbkit.analysis.comparisons import QUANTITIES
from dbkit.analysis.judging import judge
from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.result import FailureRow, Result, WorkloadInfo, empty_result
from dbkit.analysis.rounds import Rounds, result_of_rounds, take_verdicts
from dbkit.analysis.search import Search
from dbkit.analysis.surviving import surviving
from dbkit.analysis.warnings import warnings_of_processes
from dbkit.database.provenance import describe_client, describe_server
from dbkit.database.server import shortest_round_trip_ms
from dbkit.database.wakeups import cpu_by_wait_ms
from dbkit.errors import pooler_advice
from dbkit.load import shape
from dbkit.load.conductor import Conductor
from dbkit.load.context import LoadContext
from dbkit.load.explained import plans_of
from dbkit.load.figure_checks import figure_checks
from dbkit.load.searches import search_of
from dbkit.load.sides import read_revisions
from dbkit.load.workloads import describe_workloads

logger = logging.getLogger(__name__)

SO_FAR_S = 1.0
"""How old the result so far of a run without rounds may be before it is made again."""
VERDICTS_SHARE = 0.02
"""The share of the time that the verdicts so far may take: with many slots they are made less often."""
USERS_NOTED_S = 0.5
REPORT_MARGIN_S = 0.5
"""How much later than that a worker's report may come."""


class Results:
    """The result of the running test, or of the last one, in a single process or a master."""

    def __init__(self, context: LoadContext, conductor: Conductor) -> None:
        self.result: Result | None = None
        """None until something has been measured."""
        self.finished = True
        """Whether no test is running, so that `result` is final."""
        self.version = ""
        """Changes with every new `result`, also when the process is started again."""
        self._context = context
        self._conductor = conductor
        self._rounds: Rounds | None = None
        self._checks: list[Check] = []
        self._measured_on: dict[str, Any] = {}
        self._due_at_s = 0.0
        self._noting_users: gevent.Greenlet | None = None
        self._most_users = 0
        self._revisions = read_revisions() if context.options.sides else None

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        """Forget the last result; describe what is measured on."""
        context = self._context
        context.written.clear()
        self._measured_on = {**describe_client(), "server": self._server(), "options": context.test.options.reported()}
        self._due_at_s = 0.0
        self._most_users = 0
        chosen, available = environment.user_classes_by_name, environment.available_user_classes
        self._checks = figure_checks(context.options, chosen, available)
        self._rounds = None
        if isinstance(environment.shape_class, shape.Rounds):
            test = context.test
            self._rounds = Rounds(
                test.user_classes,
                end=test.options.end,
                reference=test.options.reference or None,
                workloads=self._workloads(),
                variations=test.options.variations,
                search=self._search(),
            )
        else:
            self._noting_users = gevent.spawn(self._note_users)
        self._set(None, finished=False)

    def on_slot_ended(self, **_: Any) -> None:
        """Take in the slots that have been run since the last time."""
        if self._rounds is not None:
            for slot in self._conductor.slots[len(self._rounds) :]:
                self._rounds.add(slot)

    def make_so_far(self) -> None:
        """Make the result so far of rounds. It holds pages up: to be called where none is in flight."""
        if self._rounds is None:
            return
        began_at_s = time.perf_counter()
        if began_at_s >= self._due_at_s:
            result = self._rounds_so_far(["pages_per_s"])
            self._due_at_s = began_at_s + (time.perf_counter() - began_at_s) / VERDICTS_SHARE
        else:
            result = self._rounds_so_far([], earlier=self.result)
        self._set(result, finished=False)

    def complete_so_far(self) -> Result | None:
        """As `so_far`, with all verdicts. In rounds it may be called between two slots only, as it takes a while."""
        if self._rounds is not None and len(self._rounds) and not self.finished:
            return self._rounds_so_far(QUANTITIES)
        return self.so_far()

    def so_far(self) -> Result | None:
        """The result as it is now, or was a moment ago."""
        now_at_s = time.perf_counter()
        if not self.finished and self._rounds is None and now_at_s >= self._due_at_s:
            result = self._mixed_run(now_at_s, is_final=False)
            if not result.strategies:
                result.headline = []  # there may be pages in a moment
            _mark_running(result, f"{now_at_s - self._context.test.began_at_s:.0f} seconds so far")
            self._set(result, finished=False)
            self._due_at_s = time.perf_counter() + SO_FAR_S
        return self.result

    def on_test_stopping(self, **_: Any) -> None:
        """Users are about to leave."""
        if self._noting_users is not None:
            self._noting_users.kill()
            self._noting_users = None
            self._note_users_once()

    def finish(self) -> None:
        """Make the final result; all pages have been reported. What of it cannot be made is `missing` in it."""
        test, baseline = self._context.test, self._context.baseline
        result = empty_result()
        with surviving(result, "the tables"):
            result = self._mixed_run(test.ended_at_s, is_final=True) if self._rounds is None else self._of_rounds()
        result.warnings += warnings_of_processes(self._context.recorder.lost_processes)
        result.warnings += self._context.recorder.starved.warnings()
        with surviving(result, "why pages failed"):
            self._add_failures(result)
            result.warnings += [*self._context.pooler_warnings, *_reasons_of_failures(result)]
        with surviving(result, "the before and after"):
            self._add_revisions(result)
        with surviving(result, "the outcomes of checks"):
            result.checks = judge(result, self._checks, test.user_classes, baseline)
        if baseline is not None:
            with surviving(result, "what is beside the baseline"):
                result.checks += outcomes_beside(result, baseline)
                result.warnings += notes_beside(result, baseline)
        self._set(result, finished=True)

    def _of_rounds(self) -> Result:
        test = self._context.test
        return result_of_rounds(
            self._conductor.collect(),
            test.user_classes,
            end=test.options.end,
            planned_slots=self._conductor.planned,
            measured_on=self._describe(),
            reference=test.options.reference or None,
            workloads=self._workloads(),
            variations=test.options.variations,
            search=self._search(),
            quantities=self._quantities,
            error=self._error,
        )

    def add_plans(self) -> None:
        """Have the statements of every strategy that served a page explained, which may take a while."""
        result = self.result
        if result is None or not self._context.needs_database:
            return
        classes = self._context.test.page_classes
        served = dict.fromkeys(row.user_class for row in result.strategies if row.pages > row.failures)
        with surviving(result, "plans"):
            result.plans = plans_of([classes[name] for name in served], self._context)

    def _workloads(self) -> list[WorkloadInfo]:
        test = self._context.test
        return describe_workloads(test.page_classes.values(), test.options, self._context.options.verify_keys)

    @property
    def _quantities(self) -> Collection[str]:
        """What conditions are compared by."""
        return COMPARED if self._context.test.options.sides else QUANTITIES

    @property
    def _error(self) -> float | None:
        """The error that the intervals of one quantity may have; None for that of any result."""
        schedule = self._conductor.schedule
        return schedule.error() if schedule is not None and schedule.error is not None else None

    def _search(self) -> Search | None:
        test = self._context.test
        return search_of(test.user_classes, test.options)

    def _add_failures(self, result: Result) -> None:
        rows = (*result.strategies, *result.slots)
        result.failures = self._context.recorder.failures.rows(rows, self._context.test.user_classes)

    def _add_revisions(self, result: Result) -> None:
        result.revisions = self._revisions
        if result.revisions is not None:
            result.headline = headline_of_revisions(result)

    def _mixed_run(self, ended_at_s: float, *, is_final: bool) -> Result:
        recorder, test = self._context.recorder, self._context.test
        # what workers have not reported yet would look like a dip, and lower the rates
        reported_until_at_s = ended_at_s if is_final else min(ended_at_s, recorder.merged_at_s or ended_at_s)
        complete_s = ended_at_s - test.counts_from_at_s - (0 if is_final else self._reports_late_s)
        result = result_of_mixed_run(
            {key.condition: tally for key, tally in recorder.tallies.items()},
            test.user_classes,
            seconds=max(reported_until_at_s - test.counts_from_at_s, 0.0),
            users=self._most_users,
            chosen=test.chosen,
            end=test.options.end,
            measured_on=self._describe(),
            ran_s=ended_at_s - test.began_at_s,
            planned_s=test.planned_s if is_final else None,
            timeline=recorder.timeline.columns(test.counts_from_at, test.counts_from_at + complete_s),
            workloads=self._workloads(),
            open_loop=bool(test.options.arrivals),
        )
        self._add_failures(result)
        if not is_final:
            result.warnings += recorder.starved.warnings()
        return result

    def _rounds_so_far(self, quantities: Collection[str], earlier: Result | None = None) -> Result:
        """With new verdicts on the `quantities`, or else with those of an `earlier` result."""
        assert self._rounds is not None
        done, test = self._rounds.counted, self._context.test
        result = self._rounds.result(done, self._describe(), quantities, goes_on=True, error=self._error)
        if earlier is not None:
            take_verdicts(result, earlier)
        self._add_failures(result)
        result.warnings += self._context.recorder.starved.warnings()
        of_all = "" if test.options.limit else f" of {self._conductor.planned}"
        _mark_running(result, f"{done}{of_all} slots so far")
        measured, chosen = len({row.user_class for row in result.strategies}), len(test.user_classes)
        if measured < chosen:
            result.headline.insert(0, f"So far {measured} of {chosen} classes have been measured.")
        return result

    @property
    def _reports_late_s(self) -> float:
        is_master = isinstance(self._context.environment.runner, MasterRunner)
        return WORKER_REPORT_INTERVAL + REPORT_MARGIN_S if is_master else 0.0

    def _set(self, result: Result | None, *, finished: bool) -> None:
        self.result, self.finished = result, finished
        self.version = str(time.time_ns())

    def _describe(self) -> dict[str, Any]:
        pages = sum(tally.pages for tally in self._context.recorder.tallies.values())
        return {**self._measured_on, "pages_in_all": pages}

    def _server(self) -> dict[str, Any] | None:
        if not self._context.needs_database:
            return None
        try:
            database = self._context.database
            of_pages = self._context.relays.to(database, self._context.test.options.round_trip)
            known = {**describe_server(database), "round_trip_ms": round(shortest_round_trip_ms(of_pages), 4)}
            if isinstance(self._context.environment.shape_class, shape.Rounds):
                known["cpu_by_wait_ms"] = cpu_by_wait_ms(database)
            return known
        except (psycopg.Error, SQLAlchemyError) as error:
            logger.warning("the server could not be asked for its settings: %s", type(error).__name__)
            return None

    def _note_users(self) -> None:
        while True:
            self._note_users_once()
            gevent.sleep(USERS_NOTED_S)

    def _note_users_once(self) -> None:
        runner: Any = self._context.environment.runner
        self._most_users = max(self._most_users, runner.user_count)
        self._context.recorder.timeline.note_users(runner.user_count)


def _reasons_of_failures(result: Result) -> list[str]:
    """What the pages of each class that failed most often failed with."""
    first: dict[str, FailureRow] = {}
    for failure in result.failures:
        first.setdefault(failure.condition, failure)
    reasons = [
        f"{row.label} failed most often with: {first[row.condition].message}"
        for row in result.strategies
        if row.failures and row.condition in first
    ]
    by_pooler = [(failure.label, advice) for failure in result.failures if (advice := pooler_advice(failure.message))]
    return reasons + [f"{label} failed as {advice}" for label, advice in by_pooler[:1]]


def _mark_running(result: Result, how_far: str) -> None:
    result.state = "running"
    result.warnings.insert(0, f"still running: {how_far}")
