"""Native threads that take numbers of SQLAlchemy's at the same time do not wait for each other without an end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

import gevent
import pytest
from sqlalchemy.dialects.postgresql import _psycopg_common
from sqlalchemy.orm import loading, session

import dbkit.load  # noqa: F401  # patches them
from dbkit.load.native import start_new_thread

THREADS, NUMBERS = 8, 20_000
PATIENCE_S = 120


@pytest.mark.parametrize(
    ("module", "name"),
    [(session, "_new_sessionid"), (loading, "_new_runid"), (_psycopg_common, "_server_side_id")],
)
def test_threads_take_numbers_of_their_own(module: Any, name: str) -> None:
    next_number: Callable[[], int] = getattr(module, name)
    taken: list[list[int]] = []
    for _ in repeat(None, THREADS):
        start_new_thread(lambda: taken.append([next_number() for _ in range(NUMBERS)]), ())
    with gevent.Timeout(PATIENCE_S):
        while len(taken) < THREADS:
            gevent.sleep(0.01)
    assert len({number for numbers in taken for number in numbers}) == THREADS * NUMBERS
