"""How a forked worker ended is known later, too."""

from __future__ import annotations

import os
from typing import Any

import gevent
from gevent import os as gevent_os

import dbkit.load  # noqa: F401  # patches gevent


def test_a_child_that_ended_long_ago_can_still_be_waited_for() -> None:
    known: Any = gevent_os
    first = gevent.fork()
    if not first:
        os._exit(3)
    while not isinstance(known._watched_children[first], tuple):
        gevent.sleep(0.01)
    known._watched_children[first] = (*known._watched_children[first][:2], 0.0)  # long ago
    second = gevent.fork()
    if not second:
        os._exit(0)
    for child, code in ((second, 0), (first, 3)):
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == code
