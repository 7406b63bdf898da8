"""A process that reads pages without load: how it ends on a signal, and the Locust environment that it needs."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from typing import Any

import gevent
from locust.env import Environment

from dbkit.load.context import context_of
from dbkit.load.signals import PARENT_VARIABLE, EndedBySignal, wait_for_end_of
from dbkit.load.try_pages.locustfile import UserClasses


def end_well_on_signals() -> None:
    """Have Ctrl-C, SIGTERM and a closed terminal end what still runs on the server, too; and the end of the parent,
    where that is to end this process.
    """
    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # it would print one before the main greenlet has it

    def end(number: int, _: object) -> None:
        raise EndedBySignal(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)
    if PARENT_VARIABLE in os.environ:
        gevent.spawn(_end_with, int(os.environ[PARENT_VARIABLE]))


def _end_with(parent: int) -> None:
    wait_for_end_of(parent)
    os.kill(os.getpid(), signal.SIGTERM)


def make_environment(options: argparse.Namespace, classes: UserClasses) -> Environment:
    """An environment with a runner that runs nothing: users, and what dbkit keeps of a test, need them.

    `options` are all of Locust's and dbkit's.
    """
    logging.getLogger("locust").setLevel(logging.ERROR)
    available: Any = classes
    environment = Environment(parsed_options=options, available_user_classes=available, host=options.host)
    runner = environment.create_local_runner()
    runner.greenlet.kill()  # Locust's watch on the CPU, in which a signal could come up
    context_of(environment).checked.set()
    return environment
