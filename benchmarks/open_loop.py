"""Is the open loop right? A server that stands still, and queues whose waits are known, beside what dbkit measures.

For each stack 100 evenly spaced pages a second for 12 s, while the processes of the server that serve them stand still
for 1 s: p95 and p99 beside what the times of arrival demand. Then one user and pages that sleep: the mean wait beside
that of the same arrivals and services by Lindley's recursion (1952), which is what a queue with one server makes of
them, and beside the mean of M/D/1 and M/M/1 queues with the service time that was measured. The latter holds for long
runs: near the limit waits scatter widely, so that it is the first that has to agree.

    python -m benchmarks.open_loop [--queue-seconds 60]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import psycopg
from rich.table import Table

from dbkit.database.engines import find_database
from dbkit.output.terminal import output_console

STACKS = ("psycopg", "psycopg-threads", "psycopg-async", "asyncpg")
NAME = "dbkit-open-loop"
RATE_PER_S, SECONDS, FROZEN_S = 100, 12.0, 1.0
SERVICE_S = 0.01
SHARES = (0.5, 0.8, 0.9)

LOCUSTFILE = """
import json, os, random, time
from time import perf_counter
from dbkit.load import Rounds, Workload, page_users
from locust import events
from sqlalchemy import text

file = last = None
epoch_s = time.time() - perf_counter()
draw = random.Random(1)

def remember(rendered, key):
    global last
    last = rendered

def page(session, key):
    return sleep(session, 0.0)

def constant(session, key):
    return sleep(session, SERVICE_S)

def exponential(session, key):
    return sleep(session, draw.expovariate(1 / SERVICE_S))

def sleep(session, seconds):
    session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds}).all()
    return {"ended_s": perf_counter()}

pages = Workload("sleeps", range(100), check=remember)
page_users(pages, stacks=STACKS, page=page, constant=constant, exponential=exponential)

@events.request.add_listener
def record(start_time, response_time, context, exception, **_):
    global file
    file = file or open(os.environ["RECORDS"], "w", 1)
    page = {name: context[name] for name in ("user_class", "condition", "slot", "measured", "late", "queue_ms")}
    page |= {"asked_s": start_time - epoch_s, "response_ms": response_time, "failed": exception is not None}
    print(json.dumps(page | (last or {})), file=file)

class Compare(Rounds):
    pass
"""


class Run:
    """A Locust of `LOCUSTFILE`, and what it has measured."""

    def __init__(self, folder: Path, *arguments: str, url: str) -> None:
        self._folder = folder
        (file := folder / "sleeps.py").write_text(f"SERVICE_S = {SERVICE_S}\nSTACKS = {STACKS}\n{LOCUSTFILE}")
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(file),
            "--headless",
            "--csv",
            str(folder / "run"),
            *arguments,
        ]
        environment = os.environ | {"DBKIT_DATABASE_URL": url, "RECORDS": str(folder / "records")}
        self.process = subprocess.Popen(
            [*command, "--rounds", "1", "--warm-up", "0.5", "--plans", "none"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def pages(self) -> list[dict[str, Any]]:
        """All so far, in the order in which they were due."""
        records = self._folder / "records"
        lines = records.read_text().splitlines(keepends=True) if records.exists() else []
        return sorted((json.loads(line) for line in lines if line.endswith("\n")), key=lambda page: page["asked_s"])

    def end(self) -> list[dict[str, Any]]:
        """The rows of its slots."""
        if self.process.wait() != 0:
            raise SystemExit(f"Locust ended with exit code {self.process.returncode}")
        result = json.loads((self._folder / "run_comparison.json").read_text())
        rows: list[dict[str, Any]] = result["slots"]
        return rows


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """The server's processes that serve the run, stopped meanwhile."""
    with psycopg.connect(url, application_name="dbkit-freezer") as connection:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
        pids = [int(pid) for (pid,) in connection.execute(sql, [NAME])]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def percentile(values: Sequence[float], share: float) -> float:
    """The shortest that at least that share of all do not exceed."""
    return sorted(values)[ceil(share * len(values)) - 1]


def freeze(url: str) -> Table:
    """A row a stack: the rate that was kept, p95 and p99 beside what the times of arrival demand."""
    table = Table("stack", "pages a second", "p95 ms", "demanded", "ratio", "p99 ms", "demanded", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("-u", "90", "--pool-size", "90", "--arrivals", str(RATE_PER_S), "--arrival-spacing", "even")
        for stack in STACKS:
            (at := Path(folder) / stack).mkdir()
            name = "".join(part.capitalize() for part in stack.split("-")) + "Page"
            run = Run(at, *arguments, "--slot-time", str(SECONDS), name, url=url)
            while not any(page["measured"] for page in run.pages):
                time.sleep(0.05)
                if run.process.poll() is not None:
                    raise SystemExit("Locust ended before its time")
            time.sleep(SECONDS / 3)
            with frozen(url):
                began_s = time.perf_counter()
                time.sleep(FROZEN_S)
                ended_s = time.perf_counter()
            row = run.end()[0]  # not the one that replaces it, where others disturbed it
            pages = [page for page in run.pages if page["measured"] and page["slot"] == row["slot"]]
            usual_ms = percentile([page["response_ms"] for page in pages], 0.5)
            demanded = [
                usual_ms + (max(ended_s - page["asked_s"], 0) * 1000 if page["asked_s"] > began_s else 0)
                for page in pages
            ]
            cells = [stack, f"{len(pages) / row['seconds']:.2f}"]
            for column, share in (("p95_ms", 0.95), ("p99_ms", 0.99)):
                wanted = percentile(demanded, share)
                cells += [f"{row[column]:.0f}", f"{wanted:.0f}", f"{row[column] / wanted:.3f}"]
            table.add_row(*cells)
    return table


def queues(url: str, seconds: float) -> Table:
    """A row a queue: its mean wait beside that of the same arrivals by Lindley's recursion, and that of theory."""
    table = Table("queue", "stack", "use", "pages", "wait ms", "by recursion", "ratio", "theory ms")
    for kind, square_variation in (("constant", 0), ("exponential", 1)):
        names = [f"Psycopg{kind.capitalize()}", f"Asyncpg{kind.capitalize()}"]
        with tempfile.TemporaryDirectory() as folder:
            rates = ",".join(f"{share / (SERVICE_S + 0.002):.0f}" for share in SHARES)
            arguments = ("-u", "1", "--arrivals", rates, "--slot-time", str(seconds), "--budget", "3h")
            run = Run(Path(folder), *arguments, *names, url=url)
            for row in sorted(run.end(), key=lambda row: (row["user_class"], row["arrivals_per_s"])):
                pages = [page for page in run.pages if page["slot"] == row["slot"]]
                service_ms = [page["response_ms"] - page["queue_ms"] for page in pages]
                wait_ms = [0.0]
                for before, page, took_ms in zip(pages, pages[1:], service_ms, strict=False):
                    apart_ms = (page["asked_s"] - before["asked_s"]) * 1000
                    wait_ms.append(max(wait_ms[-1] + took_ms - apart_ms, 0.0))
                measured = [place for place, page in enumerate(pages) if page["measured"]]
                found = fmean(pages[place]["queue_ms"] for place in measured)
                recursion = fmean(wait_ms[place] for place in measured)
                mean_ms = fmean(service_ms)
                use = row["arrivals_per_s"] * mean_ms / 1000
                theory = use / (1 - use) * mean_ms * (1 + square_variation) / 2 if use < 1 else float("nan")
                table.add_row(
                    *("M/M/1" if square_variation else "M/D/1", row["stack"], f"{use:.2f}", str(len(measured))),
                    *(f"{found:.2f}", f"{recursion:.2f}", f"{found / recursion:.3f}", f"{theory:.2f}"),
                )
    return table


def main() -> None:
    """Run both, and print their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queue-seconds", type=float, default=20.0, help="seconds for each queue (default 20)")
    options = parser.parse_args()
    database = find_database()
    url = os.environ.get("DBKIT_DATABASE_URL") or str(database)
    url += f"{'&' if '?' in url else '?'}application_name={NAME}"
    console = output_console(120)
    console.print(freeze(url))
    console.print(queues(url, options.queue_seconds))


if __name__ == "__main__":
    main()
