"""SIGINT (Ctrl-C), SIGTERM and SIGHUP (a closed terminal), from the import of `dbkit.load` to the end of the process.

The first one ends a run early, as `-t` ends it at its time: by `Runner.quit`. A test that has begun has its results
written; else one line says that there are none. The second one says what a third does: it ends the process at once.

Locust (2.47, main.py) would answer them in other ways at other times. Python raises KeyboardInterrupt in whatever
greenlet runs, a user's or the one that writes; `start_automatic_run` catches it in the main one, but not where that one
is in `runner.quit()`. SIGTERM ends the process at once until `sig_term_handler` is there, which is after a headless
schedule, and then a second `shutdown()` runs beside that of the main greenlet. `sigint_handler`, in the parent of
workers, waits for their end but does not ask for it. Nothing listens to SIGHUP. So both of Locust's handlers are left
out.

Locust stops a test; for when its results are written see `dbkit.load.outputs`.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import gevent
import psutil
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from dbkit.load.locust_patches.runner_made import on_runner_made

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GIVE_UP_AT = 3
"""So many signals end the process at once."""
PARENT_VARIABLE = "DBKIT_PARENT"
"""The process that has started this one, and without which it is to end; `dbkit diff` sets it."""
PARENT_POLL_S = 0.5
"""How often a process that ends with its parent looks whether that is still there."""


class EndedBySignal(SystemExit):
    """Ends the process, as a signal wants it."""


class Signals:
    """Answers the signals in this process and in those that it forks. Make one, in the main greenlet."""

    def __init__(self) -> None:
        self._main = gevent.getcurrent()
        self._first_process = os.getpid()
        self._environment: Environment | None = None
        self._received = 0
        self._is_set_up = False
        self._test_has_begun = False
        self._is_shutting_down = False

    def listen(self) -> None:
        """Answer the signals from now on, in the place of Python and Locust."""
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._on_signal)
        gevent.signal_handler = _but_locusts(gevent.signal_handler)
        signal.signal = _but_locusts(signal.signal)
        atexit.register(_ignore_signals)
        events.init_command_line_parser.add_listener(lambda **_: gevent.sleep(0))  # obey what came during the imports
        events.test_start.add_listener(self._on_test_start)
        on_runner_made(self._on_runner_made)

    def on_set_up(self) -> None:
        """Set-up is over. To be called as late in it as possible."""
        events.quitting.add_listener(self._on_quitting)  # fired in reverse, so before those that take their time
        self._is_set_up = True

    def _on_runner_made(self, environment: Environment) -> None:
        self._environment = environment
        atexit.register(_ignore_signals)  # again, so that it comes before what Locust has registered meanwhile
        if self._is_forked or PARENT_VARIABLE in os.environ:
            gevent.spawn(self._end_with_parent)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # Python calls this in the middle of whatever runs, so that only the hub does more
        self._received += 1
        if number == signal.SIGHUP:
            _leave_closed_terminal()
        if self._received >= GIVE_UP_AT:
            os._exit(_exit_code(number))
        gevent.get_hub().loop.run_callback_threadsafe(gevent.spawn, self._obey, number, self._received)

    def _obey(self, number: int, received: int) -> None:
        if received > 1:
            self._say("already ending; one more signal ends at once, without the results that are not written yet")
        elif not self._is_shutting_down:
            self._end(number)

    def _end(self, number: int) -> None:
        environment = self._environment
        if environment is None and (workers := _forked_workers()):
            # Locust gives the parent of workers no runner, and has it wait for their end
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.send_signal(number)
        elif environment is not None and (self._test_has_begun or self._may_end_without_test(environment)):
            self._end_run(environment, number)
        else:
            self._end_before_test(environment, number)

    def _may_end_without_test(self, environment: Environment) -> bool:
        """A worker and a web UI wait for tests; a headless run is there for one."""
        web_ui = environment.web_ui
        serves = web_ui is not None and web_ui.greenlet is not None
        return self._is_set_up and (serves or isinstance(environment.runner, WorkerRunner))

    def _end_run(self, environment: Environment, number: int) -> None:
        runner: Any = environment.runner
        if isinstance(runner, WorkerRunner):
            runner.last_received_spawn_timestamp = sys.maxsize  # no message on its way has users spawned any more
        if self._test_has_begun:
            logger.info("%s: ending the run and writing its results", signal.Signals(number).name)
        runner.quit()
        if environment.web_ui is not None:  # the main greenlet waits for its server, within a `try` for this
            self._throw(KeyboardInterrupt())

    def _end_before_test(self, environment: Environment | None, number: int) -> None:
        self._say(f"{signal.Signals(number).name} before a test had begun: ended without results")
        # Locust's master calls an exit code of its workers above 1 an error
        code = 1 if self._is_forked else _exit_code(number)
        if environment is not None:
            environment.process_exit_code = code
            if isinstance(environment.runner, MasterRunner):
                environment.runner.quit()  # has the connected workers quit, too
        self._throw(EndedBySignal(code))

    def _throw(self, error: BaseException) -> None:
        """Have `error` raised in the main greenlet, unless that one is ending the process already."""

        def throw() -> None:
            if not self._is_shutting_down:
                self._main.throw(error)

        gevent.get_hub().loop.run_callback(throw)

    def _on_test_start(self, **_: Any) -> None:
        if self._received and not self._test_has_begun:
            raise gevent.GreenletExit  # the process ends before this test
        self._test_has_begun = True

    def _on_quitting(self, **_: Any) -> None:
        self._is_shutting_down = True

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._first_process

    def _end_with_parent(self) -> None:
        wait_for_end_of(self._first_process if self._is_forked else int(os.environ[PARENT_VARIABLE]))
        if not self._received:
            self._received = 1
            self._obey(signal.SIGTERM, self._received)

    def _say(self, message: str) -> None:
        if not self._is_forked:
            print(f"dbkit: {message}", file=sys.stderr, flush=True)


def wait_for_end_of(parent: int) -> None:
    """Return when the process of that id is this one's parent no more."""
    while os.getppid() == parent:
        gevent.sleep(PARENT_POLL_S)


def _exit_code(number: int) -> int:
    """What a shell says of a process that this signal has ended."""
    return 128 + number


def _but_locusts(register: Callable[..., Any]) -> Callable[..., Any]:
    """`register`, for all handlers of signals but those of Locust's `main`."""

    def register_others(number: int, handler: Any, *arguments: Any, **options: Any) -> Any:
        if number in SIGNALS and getattr(handler, "__module__", None) == "locust.main":
            return None
        return register(number, handler, *arguments, **options)

    return register_others


def _forked_workers() -> list[psutil.Process]:
    """The workers that this process has forked. The embedded server's supervisor has another command line."""
    process = psutil.Process()
    workers = []
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            if child.cmdline() == process.cmdline():
                workers.append(child)
    return workers


def _leave_closed_terminal() -> None:
    """Have what is still to be said go nowhere, where it went to a terminal that is closed.

    Writing there raises OSError. gevent reports a greenlet's error there too, and whatever waits for that greenlet then
    waits for ever.
    """
    for descriptor in (0, 1, 2):
        with suppress(OSError):  # closed already
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _ignore_signals() -> None:
    """At the process's end: there is nothing left to end, and Python would let signals kill it from here on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


PROCESS_SIGNALS = Signals()
"""Those of this process. Nothing is answered before its `listen`."""
