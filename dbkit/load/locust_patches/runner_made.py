"""A moment that Locust has no event for: the runner is made, and no message has reached it yet.

Locust fires `init` after `WorkerRunner.__init__` has connected (`connect_to_master`, runners.py), so that a handler
which is registered at `init` misses what the master has sent meanwhile: "Unknown message type received".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locust.env import Environment
from locust.runners import Runner


def on_runner_made(callback: Callable[[Environment], object]) -> None:
    """Have `callback(environment)` called for every runner made from now on, before any message can reach it.

    `environment.runner` is there, and can `register_message`. What it lacks is what Locust gives its own kinds of
    runners later: `client_id`, `worker_index`, a connection. Callbacks are called in the order in which they came.
    """
    make: Any = Runner.__init__

    def make_and_call(runner: Runner, environment: Environment) -> None:
        make(runner, environment)
        environment.runner = runner  # as Locust itself sets it when the runner is complete
        callback(environment)

    Runner.__init__ = make_and_call  # type: ignore[method-assign, assignment]
