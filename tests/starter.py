"""Becomes what each line on stdin says, a program of dbkit or Locust, with the libraries imported.

`python -m tests.starter locust` patches its process first, as Locust does; `python -m tests.starter dbkit` does not.
Imports alone take a new process a second or two. Nothing of `dbkit.load` is imported here, as it looks at its process
when it is. For who asks, see `tests.started`.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import runpy
import sys
from typing import Any

LIBRARIES = {
    "locust": (
        "locust.main",  # first, as it patches the process
        *("asyncpg", "jinja2", "msgspec", "numpy", "plotly.offline", "psycopg", "rich.console", "rich.progress"),
        *("rich.table", "scipy.special", "uvloop"),
        *("dbkit.cli.main", "dbkit.plans", "dbkit.todo.strategies", "dbkit.todo.workload", "dbkit.workload"),
        *("dbkit.analysis.found", "dbkit.analysis.mixed_run", "dbkit.analysis.open_loop", "dbkit.analysis.sequential"),
        *("dbkit.database.application", "dbkit.database.pooler_limits", "dbkit.database.provenance"),
        *("dbkit.database.wakeups", "dbkit.measure.probes", "dbkit.measure.timeline"),
        *("dbkit.output.console", "dbkit.output.github", "dbkit.output.html", "dbkit.output.junit"),
    ),
    "dbkit": ("dbkit.cli.main", "dbkit.todo.dataset", "rich.progress", "rich.table"),
}
fork, waitpid = os.fork, os.waitpid
"""The system's own: gevent's begin to watch children."""


def become(request: dict[str, Any], pipe: int) -> None:
    """Have a session, files and variables as a new process would, and then say the process's number."""
    os.setsid()
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (request["stdout"], writing), (request["stderr"], writing))
    ):
        file = os.open(path, flags, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.path[1:1] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    faulthandler.enable()
    os.write(pipe, f"{os.getpid()}\n".encode())
    os.close(pipe)


def is_watched(pipe: int) -> bool:
    """Fork, and say in the pipe how that process ended. It is so in that process, and nowhere else."""
    child = fork()
    if child:
        _, status = waitpid(child, 0)
        os.write(pipe, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    return True


def reap() -> None:
    """Take note of who has ended, which would stay in the list of processes else."""
    try:
        while waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def run(program: str, *arguments: str) -> None:
    """Run Locust's script, or a module or file as Python does."""
    if not arguments[0].endswith(".py") and arguments[0] != "-m":
        sys.argv[:] = program, *arguments
        sys.path[0] = os.path.dirname(program)
        sys.exit(sys.modules["locust.main"].main())
    sys.modules.pop("locust.main", None)  # by which dbkit.load knows that Locust runs
    if arguments[0] == "-m":
        _, module, *sys.argv[1:] = arguments
        sys.path[0] = os.getcwd()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def compile_templates() -> None:
    """Those of the report, which a process compiles once."""
    from dbkit.analysis.result import empty_result  # here: Locust patches the process first
    from dbkit.output.html import report

    report(empty_result())


if __name__ == "__main__":
    for library in LIBRARIES[sys.argv[1]]:
        importlib.import_module(library)
    if sys.argv[1] == "locust":
        compile_templates()
    gc.collect()
    gc.freeze()  # what is there is shared with all that follow
    while line := sys.stdin.buffer.readline():
        reap()
        request = json.loads(line)
        if not fork() and is_watched(pipe := os.open(request["pipe"], os.O_WRONLY)):
            become(request, pipe)
            run(*request["command"])
            break
