"""What a native thread asks of the hub is done, or it gets an error: it never waits for what nobody does."""

from __future__ import annotations

import gevent.event
import pytest

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.load.hub import HubInbox, HubInboxClosed

DEADLINE_S = 60


def test_what_came_before_the_close_is_done_and_what_comes_after_it_is_an_error() -> None:
    inbox, done, is_done = HubInbox(), [], gevent.event.Event()
    inbox.put(lambda: done.append("first"))
    inbox.put(is_done.set)
    inbox.close()
    with pytest.raises(HubInboxClosed):
        inbox.put(lambda: done.append("late"))
    assert is_done.wait(DEADLINE_S)
    assert done == ["first"]
