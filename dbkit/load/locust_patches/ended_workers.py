"""How a worker that `--processes` forked has ended is known to the end of the run, however long ago that was.

Locust (2.47, main.py, `kill_workers`) asks for it at the end. gevent (26.9, os.py) forgets a child that ended more than
60 seconds ago, at the end of the next one. Then Locust ends with tracebacks of `ChildProcessError`, as where a worker
was killed in the middle of a run.
"""

from __future__ import annotations

from typing import Any

from gevent import os as gevent_os


def remember_ended_workers() -> None:
    """Have gevent forget no child that ended: those of a run are few."""
    patched: Any = gevent_os
    patched._reap_children = lambda timeout=0: None
