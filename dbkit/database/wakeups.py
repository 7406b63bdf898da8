"""What it costs a client to have waited for the database: a piece of its work takes more CPU time the longer it slept.

Caches cool down meanwhile, or are used by others, most of all where a machine is shared. A load process sleeps between
two pieces of its work, the longer the farther away the database is; see `dbkit.analysis.forecast` for what follows.
"""

from __future__ import annotations

import time
from statistics import median

from sqlalchemy import bindparam, func, literal, select

from dbkit.database.engines import make_engine
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl

SLEEPS_MS = (0.5, 1.0, 3.0, 10.0)
TURNS = 4
"""Sleeps take turns, as processors change their speed."""
IN_A_TURN = 5
"""So many of one kind follow one another; the first of them does not count."""


def cpu_by_wait_ms(database: DatabaseUrl) -> dict[str, float]:
    """CPU ms of this thread for a statement that the server answers so many ms later; `0` for at once.

    The median counts. It takes about half a second, and needs no table. Raises sqlalchemy.exc.SQLAlchemyError.
    """
    statement = select(func.pg_sleep(bindparam("seconds")), *(literal(n).label(f"column{n}") for n in range(8)))
    at_once_ms: list[float] = []
    ratios: dict[float, list[float]] = {wait_ms: [] for wait_ms in SLEEPS_MS}
    engine = make_engine(database, Settings(read_only=True))
    try:
        with engine.connect() as connection:

            def taken_ms(wait_ms: float) -> float:
                began_s = time.thread_time()
                connection.execute(statement, {"seconds": wait_ms / 1000}).all()
                return (time.thread_time() - began_s) * 1000

            def turn(wait_ms: float) -> list[float]:
                return [taken_ms(wait_ms) for _ in range(IN_A_TURN)][1:]

            turn(0.0)  # prepared, and compiled
            for _ in range(TURNS):
                now_ms = median(turn(0.0))
                at_once_ms.append(now_ms)
                for wait_ms, its in ratios.items():
                    its += [each / now_ms for each in turn(wait_ms)]
    finally:
        engine.dispose()
    cpu_ms = median(at_once_ms)
    return {"0": round(cpu_ms, 4)} | {f"{wait_ms:g}": round(cpu_ms * median(its), 4) for wait_ms, its in ratios.items()}
