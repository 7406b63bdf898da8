"""The users of `benchmarks.resolution`: one class under two names, and one whose pages take some more CPU time."""

from __future__ import annotations

import os
import time

from sqlalchemy.orm import Session

from dbkit.load import Rounds, SyncPageUser
from dbkit.paging import RenderedPage, joined

ADDED_CPU_S = float(os.environ.get("ADDED_CPU_MS", "0")) / 1000


def slowed(session: Session, page: int, page_size: int) -> RenderedPage:
    """`joined`, and then some work that waits for nothing."""
    rendered = joined(session, page, page_size)
    until_at_s = time.thread_time() + ADDED_CPU_S
    while time.thread_time() < until_at_s:
        pass
    return rendered


class One(SyncPageUser):
    page_function = joined


class Twin(SyncPageUser):
    page_function = joined


class Slowed(SyncPageUser):
    page_function = slowed


class Compare(Rounds):
    """Isolated slots."""
