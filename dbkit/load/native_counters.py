"""SQLAlchemy's numbers for sessions, results and cursors, without locks of gevent's.

Its counters (2.0 and 2.1, util/langhelpers.py) hold a lock of `threading` for each number, which gevent has patched.
Greenlets, native threads and the thread of the asyncio loop that met at one waited for each other without an end.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from sqlalchemy.dialects.postgresql import _psycopg_common
from sqlalchemy.orm import loading, session


def count_natively() -> None:
    """Have the counters step without a lock, which a step of `itertools.count` does not need."""
    counters: tuple[tuple[Any, str], ...] = (
        (session, "_new_sessionid"),
        (loading, "_new_runid"),
        (_psycopg_common, "_server_side_id"),
    )
    for module, name in counters:
        setattr(module, name, count(getattr(module, name)() + 1).__next__)
