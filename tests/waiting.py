"""Waits for a state: a test that waits for a time fails on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_S = 0.01


def wait_until(reached: Callable[[], object], deadline_s: float) -> None:
    """Wait for it to be so, no longer than `deadline_s`."""
    until_at_s = time.monotonic() + deadline_s
    while True:
        began_s = time.monotonic()
        if reached():
            return
        assert time.monotonic() < until_at_s, "still waiting"
        time.sleep(max(POLL_S, 4 * (time.monotonic() - began_s)))  # what is waited for needs the cores more
