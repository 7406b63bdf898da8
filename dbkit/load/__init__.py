"""The Locust side of dbkit: importing it makes dbkit's options, users and shapes part of the locustfile that does.

    from dbkit.load import AsyncPageUser, SyncPageUser

Locust must have patched the process before psycopg is imported: psycopg picks how it waits at import, and unpatched
it blocks every user at each statement. So this package imports Locust first, and refuses to run where psycopg came
earlier.
"""

import sys

import locust  # noqa: F401  # patches the process

from dbkit.load.signals import PROCESS_SIGNALS

if "locust.main" in sys.modules:  # else a program of somebody's own, which has its own way with signals
    PROCESS_SIGNALS.listen()

import psycopg.waiting
from gevent import monkey

if not monkey.is_module_patched("select") or psycopg.waiting.wait is psycopg.waiting.wait_c:
    print(
        "dbkit: error: psycopg was imported before gevent patched the process, so that each statement would block all"
        " users; import locust (or dbkit.load) first, before psycopg, sqlalchemy engines and dbkit's other modules",
        file=sys.stderr,
    )
    sys.exit(2)

from dbkit.load import plugin  # noqa: F401  # listens to Locust's events from here on
from dbkit.load.page_users import page_users
from dbkit.load.shape import Rounds
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser, ThreadPageUser
from dbkit.paging import own_session
from dbkit.workload import Workload

__all__ = (
    "AsyncPageUser",
    "PageUser",
    "Rounds",
    "SyncPageUser",
    "ThreadPageUser",
    "Workload",
    "own_session",
    "page_users",
)
