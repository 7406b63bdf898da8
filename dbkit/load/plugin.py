"""Registers dbkit's listeners on Locust's events.

It checks the database before any user starts, has pages recorded and the workers' records merged, gathers the last of
them when a test ends, and then has the outputs made. What each step does is left to the rooms that it calls.
"""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.rpc import Message
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from dbkit.errors import DbkitError
from dbkit.load import worker_reports
from dbkit.load.baseline import read_baseline
from dbkit.load.checks import check_files, check_together
from dbkit.load.conductor import Conductor
from dbkit.load.context import LoadContext, context_of
from dbkit.load.figure_checks import figure_checks
from dbkit.load.locust_patches.csv_writer import track_csv_writer, write_no_formulas
from dbkit.load.locust_patches.ended_workers import remember_ended_workers
from dbkit.load.locust_patches.last_worker import end_with_last_worker
from dbkit.load.locust_patches.lost_master import end_without_master_after
from dbkit.load.locust_patches.one_stop import stop_once_at_a_time
from dbkit.load.locust_patches.percentiles import use_significant_digits
from dbkit.load.locust_patches.rates import divide_by_open_time
from dbkit.load.locust_patches.runner_made import on_runner_made
from dbkit.load.locust_patches.unwritable_files import survive_unwritable_files, take_html_report
from dbkit.load.locust_patches.unwritable_log import survive_unwritable_log
from dbkit.load.native_counters import count_natively
from dbkit.load.options import add_options
from dbkit.load.outputs import Outputs
from dbkit.load.reset import reset_pages
from dbkit.load.results import Results
from dbkit.load.shape import Rounds, quieten_locust, take_rounds
from dbkit.load.sides import check_imports, start_again_when_asked, tell_side
from dbkit.load.signals import PROCESS_SIGNALS
from dbkit.load.web.form import guard_web_form
from dbkit.load.web.tab import StrategiesTab
from dbkit.load.web.visitors import guard_visitors
from dbkit.load.worker import SlotReader

logger = logging.getLogger(__name__)


def _on_runner_made(environment: Environment) -> None:
    if environment.parsed_options is None:
        return  # not Locust's command
    context = context_of(environment)
    if context.options.sides:
        take_rounds(environment)
        context.options.processes = None  # it is 0, so that locust.conf has no say
    context.sides.listen(environment.runner)
    start_again_when_asked(environment)
    stop_once_at_a_time(environment)
    worker_reports.answer_the_master(context)
    if not isinstance(environment.runner, MasterRunner):
        SlotReader(context)


def _on_init(environment: Environment, **_: Any) -> None:
    context = context_of(environment)
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        end_without_master_after(context.options.master_timeout, runner)
    try:
        in_rounds = isinstance(environment.shape_class, Rounds)
        check_imports()
        check_together(context.options, environment.user_classes_by_name, in_rounds=in_rounds)
        if not isinstance(runner, WorkerRunner):
            check_files(context.options)
            chosen, available = environment.user_classes_by_name, environment.available_user_classes
            figure_checks(context.options, chosen, available)
            if context.options.baseline:
                context.baseline = read_baseline(context.options.baseline, chosen.values())
        context.check(context.options, environment.user_classes)
    except DbkitError as mistake:
        print(f"dbkit: error: {mistake}", file=sys.stderr)
        if isinstance(runner, WorkerRunner):  # or the master gives it users, and waits for them
            runner.client.send(Message("quit", None, runner.client_id))
        sys.exit(2)
    if in_rounds:
        quieten_locust()
        context.options.only_summary = True  # nor make the tables that nobody sees, in the time of those who read
    environment.events.request.add_listener(context.recorder.on_request)
    environment.events.reset_stats.add_listener(lambda **_: _reset_figures(environment))
    if environment.reset_stats:
        environment.events.spawning_complete.add_listener(lambda **_: _reset_figures(environment))
    if not isinstance(runner, WorkerRunner):
        conductor = Conductor(context)
        environment.events.test_stopping.add_listener(conductor.on_test_stopping)
        context.conduct = conductor.conduct
        results = Results(context, conductor)
        conductor.slot_ended.add_listener(results.on_slot_ended)
        environment.events.test_start.add_listener(results.on_test_start)
        environment.events.test_stopping.add_listener(results.on_test_stopping)
        outputs = Outputs(context, results)
        environment.events.test_stop.add_listener(outputs.on_test_stop)
        environment.events.quit.add_listener(outputs.on_quit)
        take_html_report(environment)
        end_with_last_worker(environment)
        if environment.web_ui is not None:
            guard_visitors(environment.web_ui, context.options)
            guard_web_form(environment.web_ui, context)
            tab = StrategiesTab(environment.web_ui, context, conductor, results)
            conductor.slot_ended.add_listener(tab.on_slot_ended)
    if not isinstance(runner, LocalRunner):
        worker_reports.attach_reports(context)
    # pages pay for collecting their own garbage, and not for looking through Locust's and every other module: that held
    # all users up for some 70 ms about once a second. Locust does the same where it forks
    gc.collect()
    gc.freeze()
    PROCESS_SIGNALS.on_set_up()
    context.checked.set()
    tell_side(runner)  # which may now have its first slot


def _on_test_start(environment: Environment, **_: Any) -> None:
    context = context_of(environment)
    in_slots = isinstance(environment.shape_class, Rounds)
    if in_slots:
        context.gate.close()  # until its first slot, also for a worker that joins during one
    try:
        context.begin_test(in_slots=in_slots)
        if not isinstance(environment.runner, WorkerRunner) and not in_slots:
            _reset_pages(context)
    except DbkitError as mistake:
        logger.error("%s", mistake)
        context.gate.close()  # users may be there before the test is stopped
        environment.process_exit_code = 2
        assert environment.runner is not None
        gevent.spawn(environment.runner.quit)


def _reset_pages(context: LoadContext) -> None:
    """In rounds the conductor does it before each slot."""
    for page_class in context.test.page_classes.values():
        if page_class.reset is not None:
            reset_pages(context.database, page_class)


def _reset_figures(environment: Environment) -> None:
    # slots leave their warm-up out, and are reported completely
    if not isinstance(environment.shape_class, Rounds):
        context_of(environment).reset_figures()


def _on_test_stopping(environment: Environment, **_: Any) -> None:
    context_of(environment).stop_test()


def _on_test_stop(environment: Environment, **_: Any) -> None:
    context_of(environment).end_test()


# Locust has every logger at INFO; this pool would log each connection that a stopped user leaves behind, as SQLAlchemy
# keeps only those of its own modules quiet
logging.getLogger("dbkit.load.native_pool").setLevel(logging.WARNING)

use_significant_digits()
survive_unwritable_files()
survive_unwritable_log()
track_csv_writer()
write_no_formulas()
remember_ended_workers()
count_natively()
divide_by_open_time()
events.init_command_line_parser.add_listener(add_options)
on_runner_made(_on_runner_made)
events.init.add_listener(_on_init)
events.test_start.add_listener(_on_test_start)
events.test_stopping.add_listener(_on_test_stopping)
events.test_stop.add_listener(_on_test_stop)
