"""Runs the processes of a before and after: first what is exact of both sides' pages, then their times under load.

Each side's pages are read by processes of its own, in its checkout; those under load are workers of one Locust master,
which lets them read in turns (`dbkit.load.conductor`), and has them end after each round. All of them are started here,
and started again for the next round, and none is left. The command line is in `dbkit.cli.diff_command`, checkouts in
`dbkit.sides`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from dbkit.analysis.exit_codes import BAD_INPUT, PAGES_FAILED, START_AGAIN
from dbkit.analysis.page_facts import SideFacts, compare_facts
from dbkit.analysis.revisions import Revisions, Side
from dbkit.database.url import URL_VARIABLE
from dbkit.errors import DbkitError
from dbkit.sides.checkouts import Checkout
from dbkit.sides.files import changed_file, error_of_change

POLL_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_S = 20.0
"""How long a process may take to end when it is asked to, before it is killed."""
GRACE_S = 15.0
"""How long the master may go on without one of its workers."""
LINES_SHOWN = 25
"""How many lines are shown of what a failed process said."""
_OF_WORKERS = ("--worker", "--master-host", "127.0.0.1", "--csv", "", "--html", "", "--json-file", "")
"""The master alone writes files, also where locust.conf names them."""


class Terminated(KeyboardInterrupt):
    """A signal that ends the command as Ctrl-C does; its argument is the number."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait for the end of the block: in the middle of it nobody knows of the process that it starts."""
    held: list[int] = []
    answered = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    handlers = {each: signal.signal(each, lambda number, _: held.append(number)) for each in answered}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in held:
            signal.raise_signal(number)


@dataclass(frozen=True)
class Request:
    """What is to be run in each side."""

    locustfile: str
    classes: Sequence[str]
    """The user classes that were named; none for all."""
    options: Sequence[str]
    """Options of Locust and dbkit, for each process."""
    master_options: Sequence[str]
    """Those for the master alone: outputs, and checks of the result."""
    processes: int
    """Load processes of each side."""
    databases: tuple[str, str]
    """The URLs for both sides; empty for that of the environment, the application's, or the embedded one."""


@dataclass
class Processes:
    """Processes that were started here; `stop` leaves none of them."""

    folder: Path
    """For what they say."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, name: str, side: Checkout, arguments: Sequence[str], variables: Mapping[str, str], starts: int = 0
    ) -> Started:
        """Start a Python of that side in its folder; what it says is kept in a file.

        So many `starts` of the same have been made before it.
        """
        said = self.folder / f"{name}.log"
        again = {"DBKIT_SIDE_AGAIN": str(starts)} if starts else {}
        with said.open("wb") as log, signals_held():
            process = subprocess.Popen(
                [str(side.python), "-P", *arguments],
                cwd=side.directory,
                env=self._environment(side, {**variables, **again}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the command, which ends them in order
            )
            self.running.append(process)
        return Started(side, process, said, partial(self.start, name, side, arguments, variables, starts + 1))

    def start_here(
        self, side: Checkout, arguments: Sequence[str], revisions: Revisions, **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a Python of that side in the user's folder and terminal, for the result; it gets the `revisions`."""
        record = self.folder / "revisions.json"
        record.write_bytes(msgspec.json.encode(revisions))
        with signals_held():
            process = subprocess.Popen(
                [str(side.python), "-P", *arguments],
                env=self._environment(side, variables) | {"DBKIT_REVISIONS_FILE": str(record)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.running.insert(0, process)
        return process

    def _environment(self, side: Checkout, variables: Mapping[str, str]) -> dict[str, str]:
        # they end with this process, also where that is killed
        return {**os.environ, **side.variables(), **variables, "DBKIT_PARENT": str(os.getpid())}

    def stop(self) -> None:
        """End all of them that are still there. Another signal meanwhile kills them."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        until_s = time.monotonic() + STOP_S
        try:
            for process in self.running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(until_s - time.monotonic(), 0.0))
        finally:
            for process in self.running:
                process.kill()  # does nothing to one that has ended
                process.wait()


@dataclass
class Started:
    """A process, and what it says."""

    side: Checkout
    process: subprocess.Popen[bytes]
    said: Path
    again: Callable[[], Started]
    """Start another one as this one was."""

    @property
    def has_ended(self) -> bool:
        """Whether it is there no more, and not to be started again."""
        return self.process.poll() not in (None, START_AGAIN)

    def failure(self, what: str) -> DbkitError:
        """The last thing it said, as the error of this command; what it said before goes to stderr.

        Where its code has changed since the run began, that is the error.
        """
        killed = _killed(self.process)
        if not killed and (changed := changed_file(self.side.route)):
            return error_of_change(changed)
        lines = self.said.read_text(errors="replace").splitlines()
        said = [line for line in lines if line.strip() and "/INFO/" not in line]
        *before, last = said or [f"it ended with exit code {self.process.returncode}, and said nothing of a reason"]
        for line in before[-LINES_SHOWN:]:
            print(line, file=sys.stderr)
        reason = last.removeprefix("dbkit: error: ").removeprefix("dbkit diff: error: ")
        return DbkitError(f"{self.side.name}: {what}: {killed or reason}")


def _killed(process: subprocess.Popen[bytes]) -> str:
    """By what a process was killed, as the system does where memory is short; empty where it was not."""
    code = process.returncode or 0
    return f"it was killed by {signal.Signals(-code).name}" if code < 0 else ""


@contextmanager
def started_processes(side: Checkout) -> Iterator[Processes]:
    """Processes that end with the block, with a private folder for what they say, beside what each side imports."""
    with TemporaryDirectory(prefix="processes-", dir=side.imports.parent) as folder:
        processes = Processes(Path(folder))
        try:
            yield processes
        finally:
            processes.stop()


def read_facts(sides: tuple[Checkout, Checkout], request: Request) -> Revisions:
    """What is exact of the pages of both sides. Raises DbkitError where a side cannot read any."""
    with started_processes(sides[0]) as processes:
        started = []
        for place, side in enumerate(sides):
            output = processes.folder / f"facts-{place}.json"
            locustfile = str(side.located(Path(request.locustfile)))
            arguments = [str(output), str(Path.cwd()), locustfile, *request.options, *request.classes]
            program = ["-m", "dbkit.load.page_facts", *arguments]
            started.append((output, processes.start(f"facts-{place}", side, program, _database(request, place))))
        facts = []
        for output, each in started:
            if each.process.wait() != 0:
                raise each.failure(f"its pages cannot be read (exit code {each.process.returncode})")
            facts.append(msgspec.json.decode(output.read_bytes(), type=SideFacts))
    described = [_described(side, each) for side, each in zip(sides, facts, strict=True)]
    return compare_facts(facts[0], facts[1], (described[0], described[1]))


def _described(side: Checkout, facts: SideFacts) -> Side:
    return Side(name=side.name, commit=side.commit, subject=side.subject, lock=side.lock, versions=facts.versions)


def _database(request: Request, place: int) -> dict[str, str]:
    """The variables of a side's database: a URL on a command line is everybody's to see."""
    url, of_before = request.databases[place], request.databases[0]
    variables = {URL_VARIABLE: url} if url else {}
    # for the master, which looks at the servers of both sides
    return variables | ({f"{URL_VARIABLE}_BEFORE": of_before} if of_before not in ("", request.databases[1]) else {})


def run_load(sides: tuple[Checkout, Checkout], request: Request, revisions: Revisions, classes: Sequence[str]) -> int:
    """Read the pages of both sides in turns; the exit code of the master, which has the result.

    Raises DbkitError where a process of a side ends before.
    """
    with started_processes(sides[0]) as processes:
        port = _free_port()
        variables = {"DBKIT_SIDES": msgspec.json.encode([side.name for side in sides]).decode()}
        workers = [
            processes.start(
                f"worker-{place}-{number}",
                side,
                ["-m", "locust", *_locust(side, request, classes), *_OF_WORKERS, "--master-port", str(port)],
                {
                    **variables,
                    **_database(request, place),
                    "DBKIT_SIDE_NAME": side.name,
                    "DBKIT_SIDE_PROCESS": str(number),
                },
            )
            for place, side in enumerate(sides)
            for number in range(request.processes)
        ]
        arguments = [
            *("-m", "locust", *_locust(sides[1], request, classes), "--master", "--master-bind-host", "127.0.0.1"),
            *("--master-bind-port", str(port), "--headless", "--expect-workers", str(len(workers))),
            *(*request.master_options, "--plans", "none"),
        ]
        master = processes.start_here(sides[1], arguments, revisions, **variables, **_database(request, 1))
        return _watch(master, workers)


def judge_counts(
    sides: tuple[Checkout, Checkout], request: Request, revisions: Revisions, classes: Sequence[str]
) -> int:
    """Have what is exact judged and written without load; the exit code."""
    with started_processes(sides[0]) as processes:
        locustfile = str(sides[1].directory / sides[1].located(Path(request.locustfile)))
        options = [*request.options, *request.master_options, *classes]
        arguments = ["-m", "dbkit.load.counts_result", locustfile, *options]
        return _watch(processes.start_here(sides[1], arguments, revisions), [])


def _locust(side: Checkout, request: Request, classes: Sequence[str]) -> list[str]:
    locustfile = side.located(Path(request.locustfile))
    return ["-f", str(side.directory / locustfile), "--processes", "0", *request.options, *classes]


def _watch(master: subprocess.Popen[bytes], workers: list[Started]) -> int:
    """Wait for the end of the master, which has its workers end; a signal is handed on to it. Its exit code.

    A worker that it wants started again is, and takes the place of the one that has ended among the `workers`.

    Raises DbkitError where a worker ends and the master does not, as it waits for all of them at the beginning.
    """
    lost_at_s, asked = None, None
    while True:
        try:
            while master.poll() is None:
                if asked is None:
                    _start_again(workers)
                ended = [worker for worker in workers if worker.has_ended]
                lost_at_s = lost_at_s or (time.monotonic() if ended else None)
                if lost_at_s and time.monotonic() > lost_at_s + GRACE_S and master.poll() is None:
                    raise ended[0].failure("a load process has ended")
                time.sleep(POLL_S)
            failed = [worker for worker in workers if worker.has_ended and worker.process.returncode]
            if failed and master.returncode == BAD_INPUT:
                raise failed[0].failure("a load process has ended")
            if killed := _killed(master):
                if asked is not None:  # before it answered signals in its own way
                    raise asked
                raise DbkitError(f"the process that makes the result has ended: {killed}")
            if master.returncode == PAGES_FAILED:  # or it could not import the locustfile
                changed = [file for worker in workers if (file := changed_file(worker.side.route))]
                if changed:
                    raise error_of_change(changed[0])
            return master.returncode
        except KeyboardInterrupt as ending:
            asked = ending
            if master.poll() is not None:
                raise
            # it writes what has been measured; the third one ends it at once
            master.send_signal(ending.args[0] if isinstance(ending, Terminated) else signal.SIGINT)


def _start_again(workers: list[Started]) -> None:
    """Start those again that ended for it, in any order, so that no side is always the first."""
    for place, worker in random.sample([*enumerate(workers)], len(workers)):
        if worker.process.poll() == START_AGAIN:
            workers[place] = worker.again()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
