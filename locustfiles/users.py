"""Every user class: one stack with one loading strategy. Ramp them in the web UI, or name some on the command line.

    locust                                                      # the web UI, all classes
    locust --headless -u 20 -r 20 -t 20s PsycopgJoined AsyncpgJoined

Classes that run at once in one process hold each other up, and their ranking can change: such a run is for watching.
To compare classes, run them one at a time with rounds.py. A class of your own is two lines, as below, with any function
`(session, page, page_size) -> rendered page`.
"""

from dbkit.load import AsyncPageUser, SyncPageUser, ThreadPageUser
from dbkit.paging import core, joined, lazy, selectin, subquery


class PsycopgLazy(SyncPageUser):
    page_function = lazy


class PsycopgSelectin(SyncPageUser):
    page_function = selectin


class PsycopgJoined(SyncPageUser):
    page_function = joined


class PsycopgSubquery(SyncPageUser):
    page_function = subquery


class PsycopgCore(SyncPageUser):
    page_function = core


class PsycopgAsyncLazy(AsyncPageUser):
    stack = "psycopg-async"
    page_function = lazy


class PsycopgAsyncSelectin(AsyncPageUser):
    stack = "psycopg-async"
    page_function = selectin


class PsycopgAsyncJoined(AsyncPageUser):
    stack = "psycopg-async"
    page_function = joined


class PsycopgAsyncSubquery(AsyncPageUser):
    stack = "psycopg-async"
    page_function = subquery


class PsycopgAsyncCore(AsyncPageUser):
    stack = "psycopg-async"
    page_function = core


class AsyncpgLazy(AsyncPageUser):
    stack = "asyncpg"
    page_function = lazy


class AsyncpgSelectin(AsyncPageUser):
    stack = "asyncpg"
    page_function = selectin


class AsyncpgJoined(AsyncPageUser):
    stack = "asyncpg"
    page_function = joined


class AsyncpgSubquery(AsyncPageUser):
    stack = "asyncpg"
    page_function = subquery


class AsyncpgCore(AsyncPageUser):
    stack = "asyncpg"
    page_function = core


class PsycopgThreadsLazy(ThreadPageUser):
    page_function = lazy


class PsycopgThreadsSelectin(ThreadPageUser):
    page_function = selectin


class PsycopgThreadsJoined(ThreadPageUser):
    page_function = joined


class PsycopgThreadsSubquery(ThreadPageUser):
    page_function = subquery


class PsycopgThreadsCore(ThreadPageUser):
    page_function = core
