"""A signal in every phase of a run: all outputs or none, the exit code that docs/ci.md promises, nothing left running.

The runs signal themselves, where they reach the phase. `python -m tests.soak_signals` does it at random moments.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.locust_runs import DEADLINE_S, LOCUST, REPOSITORY, LocustRun, connections, free_port, locust, named

OUTPUTS = ("run_strategies.csv", "run_slots.csv", "run_comparison.json", "report.html", "summary.md")
WITHOUT_RESULTS = "before a test had begun: ended without results"
ENDING_ALREADY = "dbkit: already ending; one more signal ends at once"

LOCUSTFILE = '''
"""Users whose pages wait, and a leading process that signals itself at PHASE."""

import os

import gevent
from locust import events
from locust.rpc import zmqrpc
from locust.runners import WorkerRunner

PHASE, NUMBER, RELEASED = os.environ.get("PHASE"), int(os.environ["NUMBER"]), os.environ.get("RELEASED", "")

if PHASE == "silent":  # a master that is lost before its first answer to its workers
    send_to_client = zmqrpc.Server.send_to_client
    zmqrpc.Server.send_to_client = (
        lambda server, message: None if message.type == "heartbeat" else send_to_client(server, message)
    )

def reached(phase):
    if phase == PHASE:
        os.kill(os.getpid(), NUMBER)

def reach_first(phase, function):
    def reach_and_call(*arguments, **options):
        reached(phase)
        return function(*arguments, **options)
    return reach_and_call

def leads(environment):
    return not isinstance(environment.runner, WorkerRunner)

@events.init.add_listener
def init(environment, runner, **_):
    if not leads(environment):
        wait_for_users(runner)
        return
    reached("init")
    send = runner.send_message
    def send_message(message, *arguments, **options):
        send(message, *arguments, **options)
        reached(message)
    runner.send_message = send_message
    outputs.write_outputs = reach_first("writing", outputs.write_outputs)
    explained.explain_pages = reach_first("plans", explained.explain_pages)

def wait_for_users(runner):
    """With PHASE=slow, until the master has sent this worker its users; with PHASE=hasty, end instead.

    With PHASE=late it is sent users once more when it has stopped.
    """
    if PHASE == "hasty":
        runner.quit()
    handle = runner.handle_message
    received = []
    def handle_message(message):
        if message.type == "spawn" and any(message.data["user_classes_count"].values()):
            received.append(message)
        handle(message)
    runner.handle_message = handle_message
    while PHASE == "slow" and not received:
        gevent.sleep(0.01)
    if PHASE == "late":
        stop = runner.stop
        def stop_and_receive():
            stop()
            received[-1].data["timestamp"] += 3600
            handle(received[-1])
            gevent.sleep(0.01)
        runner.stop = stop_and_receive

@events.test_stop.add_listener
def test_stop(environment, **_):
    while leads(environment) and PHASE == "held":
        gevent.sleep(0.01)

@events.quitting.add_listener
def quitting(environment, **_):
    if leads(environment):
        reached("quitting")

@events.quit.add_listener
def quit(**_):
    reached("quit")

from dbkit.load import AsyncPageUser, Rounds, SyncPageUser, explained, outputs
from dbkit.paging import joined
from sqlalchemy import text

@events.test_start.add_listener
def test_start(environment, **_):
    if leads(environment):
        print("the test has begun", flush=True)
        reached("test_start")
        while PHASE == "deserted" and environment.runner.worker_count:
            gevent.sleep(0.01)
        gevent.sleep(2 if PHASE == "deserted" else 0)  # longer than Locust's `quit` takes

if os.getpid() == os.getsid(0):  # and no forked worker
    reached("import")

def nap(session, page, page_size):
    session.execute(text("SELECT pg_sleep(0.02)"))
    return joined(session, page, page_size)

class PsycopgNap(SyncPageUser):
    strategy = "nap"
    page_function = nap

class AsyncpgNap(AsyncPageUser):
    stack = "asyncpg"
    strategy = "nap"
    page_function = nap
'''
ROUNDS = "\nclass Compare(Rounds): pass\n"

BEFORE_A_TEST = ("import", "init", "dbkit_slot_park")
CUT_SHORT = ("test_start", "dbkit_slot_open", "dbkit_slot_measure", "dbkit_slot_close")
AFTER_THE_LAST_PAGE = ("writing", "plans", "quitting", "quit")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Start = Callable[..., AbstractContextManager[LocustRun]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, seeded_url: str) -> Start:
    """Start Locust, which signals itself with `number` at `phase`; with two users, and a round of short slots."""
    folder = tmp_path_factory.mktemp("signals")
    rounds, mixed = folder / "rounds.py", folder / "mixed.py"
    rounds.write_text(LOCUSTFILE + ROUNDS)
    mixed.write_text(LOCUSTFILE)
    numbers = iter(range(1000))

    @contextmanager
    def start(
        *arguments: str, phase: str = "", number: int = signal.SIGTERM, in_rounds: bool = True, **kwargs: Any
    ) -> Iterator[LocustRun]:
        own = folder / str(next(numbers))
        slots = ("--rounds", "1", "--slot-time", "0.3", "--warm-up", "0.1") if in_rounds else ("-t", "1s")
        files = ("--report", str(own / "report.html"), "--summary", str(own / "summary.md"))
        options = ("-u", "2", "-r", "2", *slots, *files, *arguments)
        environment = {"PHASE": phase, "NUMBER": str(int(number))}
        locustfile = str(rounds if in_rounds else mixed)
        with locust(own, *options, url=seeded_url, locustfiles=locustfile, environment=environment, **kwargs) as run:
            yield run

    return start


def written(run: LocustRun) -> list[str]:
    return [name for name in OUTPUTS if (run.folder / name).exists()]


def assert_ended(run: LocustRun, exit_code: int) -> None:
    assert run.wait() == exit_code, run.output
    for unwanted in ("Traceback", "Exception ignored", "Uncaught", "Bad response code"):
        assert unwanted not in run.output, run.output
    assert run.leftovers() == []


def assert_ended_without_results(run: LocustRun, number: int) -> None:
    assert_ended(run, 128 + number)
    assert written(run) == []
    assert run.stderr.count(WITHOUT_RESULTS) == 1, run.output


# Headless, in each phase


@pytest.fixture(scope="module", params=["one process", "two processes"])
def runs(request: pytest.FixtureRequest, start: Start) -> dict[str, tuple[LocustRun, int]]:
    """A run of rounds for each phase, when it has ended, and by which signal."""
    options = ("--processes", "2") if request.param == "two processes" else ()
    runs: dict[str, tuple[LocustRun, int]] = {}
    with ExitStack() as exits:
        for index, phase in enumerate((*BEFORE_A_TEST, *CUT_SHORT, *AFTER_THE_LAST_PAGE)):
            number = SIGNALS[(index + len(options)) % len(SIGNALS)]
            fresh = phase in ("import", "quit")  # the first moment and the last are those of a shell's process
            runs[phase] = exits.enter_context(start(*options, phase=phase, number=number, fresh=fresh)), number
        for run, _ in runs.values():
            run.wait()
            run.leftovers()
    return runs


@pytest.mark.parametrize("phase", BEFORE_A_TEST)
def test_before_a_test_has_begun_a_signal_leaves_one_line(runs: dict[str, tuple[LocustRun, int]], phase: str) -> None:
    assert_ended_without_results(*runs[phase])


@pytest.mark.parametrize("phase", CUT_SHORT)
def test_in_a_test_a_signal_ends_it_with_all_outputs(runs: dict[str, tuple[LocustRun, int]], phase: str) -> None:
    run, _ = runs[phase]
    assert_ended(run, 0)
    assert written(run) == list(OUTPUTS)
    assert "cut short: 0 of 2 slots were run" in run.stdout
    assert run.rows("failures") == []


@pytest.mark.parametrize("phase", AFTER_THE_LAST_PAGE)
def test_after_a_test_a_signal_changes_nothing(runs: dict[str, tuple[LocustRun, int]], phase: str) -> None:
    run, _ = runs[phase]
    assert_ended(run, 0)
    assert written(run) == list(OUTPUTS)
    assert "cut short" not in run.stdout
    assert run.stdout.count("report: ") == 1
    assert "nap" in (run.folder / "report.html").read_text().partition("Seq Scan")[0]


# Other kinds of runs


@pytest.mark.parametrize("phase", ["test_start", "writing", "plans", "quitting"])
@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_run_without_rounds_ends_as_well(start: Start, phase: str, processes: tuple[str, ...]) -> None:
    with start(*processes, phase=phase, in_rounds=False) as run:
        assert_ended(run, 0)
        assert {*written(run)} >= {*OUTPUTS} - {"run_slots.csv"}


def test_a_master_that_waits_for_workers_ends_without_results(start: Start) -> None:
    with start("--master", "--expect-workers", "2", "--loglevel", "DEBUG") as run:
        run.wait_until(lambda: "Waiting for workers" in run.output)
        run.process.send_signal(signal.SIGINT)
        assert_ended_without_results(run, signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_web_ui_that_waits_for_a_test_ends_well_and_writes_nothing(start: Start, number: int) -> None:
    with start(web=True) as run:
        run.process.send_signal(number)
        assert_ended(run, 0)
        assert written(run) == []


@pytest.mark.parametrize("phase", ["dbkit_slot_measure", "plans"])
def test_a_web_ui_ends_when_the_results_of_its_test_are_written(start: Start, phase: str) -> None:
    with start(phase=phase, web=True) as run:
        assert run.swarm()["success"]
        assert_ended(run, 0)
        assert written(run) == list(OUTPUTS)


def test_the_parent_of_workers_has_them_end(start: Start) -> None:
    port = str(free_port())
    leading, following = ("--master", "--master-bind-port", port), ("--worker", "--master-port", port)
    with (
        start(*leading, "--expect-workers", "2", "--slot-time", "60") as master,
        start(*following, "--processes", "2") as workers,
    ):
        master.wait_until(lambda: "the test has begun" in master.output)
        workers.process.send_signal(signal.SIGTERM)
        assert_ended(workers, 0)
        assert_ended(master, 0)  # it has no workers any more
        assert written(master) == list(OUTPUTS)


def test_a_test_whose_workers_leave_as_it_begins_has_its_outputs(start: Start) -> None:
    port = str(free_port())
    with (
        start("--master", "--master-bind-port", port, "--expect-workers", "1", phase="deserted") as master,
        start("--worker", "--master-port", port) as worker,
    ):
        master.wait_until(lambda: "the test has begun" in master.output)
        worker.process.send_signal(signal.SIGTERM)
        assert_ended(worker, 0)
        assert_ended(master, 0)
        assert written(master) == list(OUTPUTS)


def test_a_message_of_more_users_that_comes_as_a_worker_ends_is_dropped(start: Start) -> None:
    with start("--processes", "2", phase="late") as run:
        assert_ended(run, 0)
        assert written(run) == list(OUTPUTS)


def test_a_worker_that_ends_in_its_set_up_leaves_no_traceback_of_its_files(start: Start) -> None:
    port = str(free_port())
    leading, following = ("--master", "--master-bind-port", port), ("--worker", "--master-port", port)
    with start(*leading, "--expect-workers", "2") as master, start(*following, phase="hasty") as worker:
        assert_ended(worker, 0)
        master.process.send_signal(signal.SIGTERM)
        assert_ended_without_results(master, signal.SIGTERM)


def test_forked_workers_end_when_their_master_is_killed(start: Start) -> None:
    with start("--processes", "2", "--slot-time", "60") as run:
        run.wait_until(lambda: "the test has begun" in run.output)
        run.process.kill()
        run.wait()
        assert run.leftovers() == []


@pytest.mark.parametrize("phase", ["", "silent"])
def test_a_worker_ends_when_its_master_on_another_machine_was_killed(start: Start, seeded_url: str, phase: str) -> None:
    port, mine = str(free_port()), "reads without a master"
    leading = ("--master", "--master-bind-port", port, "--expect-workers", "2", "--slot-time", "600")
    following = ("--worker", "--master-port", port)
    with (
        start(*leading, phase=phase) as master,
        start(*following, "--master-timeout", "2", "--database-url", named(seeded_url, mine)) as worker,
        start(*following) as patient,
    ):
        master.wait_until(lambda: connections(seeded_url, mine) > 0)
        master.process.kill()
        worker.wait()
        assert connections(seeded_url, mine) == 0
        assert "Traceback" not in worker.output, worker.output
        assert "Didn't get heartbeat from master in over 2s" in worker.stderr
        assert patient.process.poll() is None  # it is Locust's default that it waits for


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_closed_terminal_ends_a_run_with_its_results(
    seeded_url: str, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    ours, theirs = pty.openpty()
    port = str(free_port())
    ports = ("--master-bind-port", port, "--master-port", port)
    options = ("--headless", "-u", "2", "--csv", str(tmp_path / "run"), *ports)
    child = subprocess.Popen(
        [*LOCUST, "-f", "locustfiles/rounds.py", *options, *processes, "--rounds", "1000", "PsycopgJoined"],
        cwd=REPOSITORY,
        env={**os.environ, "DBKIT_DATABASE_URL": seeded_url},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        said = b""
        while b"round 2 of" not in said:
            said += os.read(ours, 4096)
        os.close(ours)
        assert child.wait(DEADLINE_S) == 0, said
        warnings = json.loads((tmp_path / "run_comparison.json").read_text())["warnings"]
        assert warnings[0].startswith("cut short")
    finally:
        child.kill()


# More than one signal


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_second_signal_says_what_a_third_one_does(start: Start, processes: tuple[str, ...]) -> None:
    with start(*processes, "--slot-time", "60", phase="held") as run:
        run.wait_until(lambda: "the test has begun" in run.output)
        run.process.send_signal(signal.SIGTERM)
        run.wait_until(lambda: "SIGTERM: ending the run" in run.output)
        assert ENDING_ALREADY not in run.output
        run.process.send_signal(signal.SIGTERM)
        run.wait_until(lambda: ENDING_ALREADY in run.output)
        run.process.send_signal(signal.SIGINT)
        assert_ended(run, 130)


# Workers hear every message


def test_a_worker_that_is_slow_to_set_up_misses_no_message(start: Start) -> None:
    with start("--processes", "2", "--rounds", "3", phase="slow") as run:
        assert_ended(run, 0)
        assert "Unknown message" not in run.output, run.output
        slots = run.rows("slots")
        assert {row["incomplete"] for row in slots} == {"no"}
        assert sum(int(row["pages"]) + int(row["warm_up_pages"]) for row in slots) == int(
            run.rows()[-1]["Request Count"]
        )
