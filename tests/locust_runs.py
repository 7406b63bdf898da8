"""Locust as users start it: a process with dbkit's locustfiles, its results in a folder of its own.

Each process leads a session of its own, so that whatever it leaves behind can be found.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from tests import started
from tests.started import StartedProcess, start_fresh

REPOSITORY = Path(__file__).parents[1]
USERS_FILE = "locustfiles/users.py"
LOCUST = (started.LOCUST,)
DEADLINE_S = 180
"""How long anything may take before it is taken to hang: long, as other processes may keep every core busy."""
GRACE_S = 60
POLL_S = 0.02

RECORD = '''
"""Writes each process's pages to a file of its own, as they are reported to Locust."""
import json, os, time
from locust import events

files = {}

@events.request.add_listener
def record(request_type, name, response_time, response_length, exception, context, **_):
    file = files.get(os.getpid()) or files.setdefault(os.getpid(), open(f"{RECORDS}/{os.getpid()}", "w", 1))
    message = None if exception is None else str(exception)
    page = [time.perf_counter(), request_type, name, response_time, response_length, message, context]
    print(json.dumps(page), file=file)
'''


@dataclass(frozen=True)
class Page:
    """One page, as its process reported it to Locust."""

    process: int
    reported_s: float
    """By the machine's clock of `time.perf_counter`."""
    stack: str
    strategy: str
    response_ms: float
    bytes: int
    failure: str | None
    context: dict[str, Any]


class LocustRun:
    """A running Locust, or one that has ended. Made by `locust`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes] | StartedProcess, web_url: str) -> None:
        self.folder = folder
        self.process = process
        self.web_url = web_url
        self._pages: dict[str, list[Page]] = {}
        self._read_to: Counter[str] = Counter()

    # While it runs

    def wait_until(self, reached: Callable[[], object]) -> None:
        """Wait for it to be so, while Locust runs."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            began_s = time.monotonic()
            if reached():
                return
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(max(POLL_S, 4 * (time.monotonic() - began_s)))  # what is waited for needs the cores more

    def wait_until_web_answers(self) -> None:
        def answers() -> bool:
            with suppress(requests.ConnectionError):
                return self.get("/").ok
            return False

        self.wait_until(answers)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.web_url + path, timeout=DEADLINE_S)

    def swarm(self, headers: dict[str, str] | None = None, /, **form: object) -> dict[str, Any]:
        """Press Start in the web form; the answer."""
        fields = {"user_count": 2, "spawn_rate": 100, **form}
        answer = requests.post(f"{self.web_url}/swarm", data=fields, headers=headers, timeout=DEADLINE_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def stop(self) -> dict[str, Any]:
        """Press Stop; the answer."""
        answer = requests.post(f"{self.web_url}/stop", timeout=DEADLINE_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def web_stats(self) -> dict[str, Any]:
        """Locust's own statistics, which it makes again every other second."""
        return dict(self.get("/stats/requests").json())

    def template_arguments(self) -> dict[str, Any]:
        """What the browser makes the web UI from: options, state, user_count and more, as they are now."""
        page = self.get("/").text
        start = re.search(r"window\.templateArgs\s*=\s*", page)
        assert start is not None
        arguments, _ = json.JSONDecoder().raw_decode(page[start.end() :])
        return dict(arguments)

    # Its end

    def wait(self) -> int:
        """Wait for its end; the exit code. A process that does not end is asked where it is: see faulthandler."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(DEADLINE_S)
        self.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        raise AssertionError(f"no end after {DEADLINE_S:g} s: {self.output}")

    def terminate(self) -> int:
        """End it as `kill` does, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    @property
    def output(self) -> str:
        """Everything said on stdout and stderr so far."""
        return self.stdout + self.stderr

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def rows(self, table: str = "stats") -> list[dict[str, str]]:
        """A CSV file of Locust's: `stats`, `failures`, `exceptions`."""
        with (self.folder / f"run_{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def pages(self) -> list[Page]:
        """Every page that was reported to Locust so far, in each process's order."""
        for file in (self.folder / "records").iterdir():
            pages = self._pages.setdefault(file.name, [])
            with file.open("rb") as records:
                records.seek(self._read_to[file.name])  # who waits for pages would read them again and again
                for line in records:
                    if not line.endswith(b"\n"):
                        break  # it is half written
                    self._read_to[file.name] += len(line)
                    pages.append(Page(int(file.name), *json.loads(line)))
        return [page for _, pages in sorted(self._pages.items()) for page in pages]

    def files(self) -> Iterator[Path]:
        """What it has written."""
        return (path for path in self.folder.rglob("*") if path.is_file())

    def leftovers(self) -> list[str]:
        """Processes that it started and that do not end. Locust's master does not wait for its workers to be gone."""
        deadline = time.monotonic() + GRACE_S
        while (left := self._session()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return [str(process) for process in left]

    def kill(self) -> None:
        """Kill what is left of it, children that have lost their parent too, as they are still of its session."""
        for process in self._session():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(DEADLINE_S)

    def _session(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def pages_by_class(run: LocustRun) -> dict[str, list[int]]:
    """The numbers of the pages that each user class read, in order."""
    pages: defaultdict[str, list[int]] = defaultdict(list)
    for page in run.pages:
        pages[page.context["user_class"]].append(page.context["key"][0])
    return dict(pages)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def locust(
    folder: Path,
    *arguments: str,
    url: str | None,
    locustfiles: str = USERS_FILE,
    environment: dict[str, str] | None = None,
    web: bool = False,
    wait_for_web: bool = True,
    web_path: str = "",
    record: bool = False,
    fresh: bool = False,
    command: tuple[str, ...] = LOCUST,
    cwd: Path = REPOSITORY,
) -> Iterator[LocustRun]:
    """Start Locust on free ports; whatever is left of it at the block's end is killed.

    It starts in the project's folder, or in `cwd`. `url` is the database, given by the environment, so that no list of
    processes shows it. `folder` is made; CSV files, output and, with `record`, the pages go there. With `web` it waits
    in the web UI, which is at `web_path` by its own options and answers unless not waited for; else it runs headless.
    It finds the libraries imported, which takes seconds, unless it is to be `fresh`, as a shell would start it.
    """
    folder.mkdir()
    web_port, master_port = free_port(), str(free_port())
    if record:
        (folder / "records").mkdir()
        recorder = folder / "record.py"
        recorder.write_text(f"RECORDS = {str(folder / 'records')!r}\n{RECORD}")
        locustfiles = f"{locustfiles},{recorder}"
    kept = [name for name in list(os.environ) if not re.match("DBKIT_|LOCUST_|PG", name)]
    # pytest names its test there, and may do so in another thread meanwhile
    variables = {name: value for name in kept if (value := os.environ.get(name)) is not None}
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(REPOSITORY))))
    variables |= {} if url is None else {"DBKIT_DATABASE_URL": url}
    mode = ["--web-port", str(web_port)] if web else ["--headless"]
    ports = ["--master-bind-host", "127.0.0.1", "--master-bind-port", master_port, "--master-port", master_port]
    variables |= {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"} | (environment or {})
    full_command = [*command, "-f", locustfiles, "--csv", str(folder / "run"), *mode, *ports, *arguments]
    # these variables, and other programs, count from the first import on
    fresh = fresh or command != LOCUST or any(name.startswith("LOCUST_") for name in variables)
    start = start_fresh if fresh else StartedProcess
    process = start(full_command, cwd, variables, folder / "stdout", folder / "stderr")
    run = LocustRun(folder, process, f"http://127.0.0.1:{web_port}{web_path}")
    try:
        if web and wait_for_web:
            run.wait_until_web_answers()
        yield run
    finally:
        run.kill()


def named(url: str, application_name: str) -> str:
    """`url` with a name by which the server knows its connections."""
    return f"{url}{'&' if '?' in url else '?'}application_name={application_name}"


def connections(url: str, application_name: str, state: str = "%") -> int:
    """Connections of this name that the server has, in this state."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE %s",
            [application_name, state],
        ).fetchone()
    assert row is not None
    return int(row[0])
