"""How much memory does a user take? Two thousand users of dbkit beside as many plain Locust users that read the same.

A plain user opens a session and reads the page in a `@task`. All think for 10 s on average. What a user takes is how
much more memory a process with many users has than one with few, when each user has read a page or more, divided by how
many more users there are.

    python -m benchmarks.memory [--users 2000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.table import Table

from dbkit.database.engines import find_database
from dbkit.output.terminal import output_console

FEW = 100
THINK_S = 10.0
SETTLING_S = 20.0
"""How long after the last user has come all have read a page, as none thinks for more than 15 s."""
SPAWN_RATE = 100

LOCUSTFILE = """
import random
from locust import User, task
from sqlalchemy.orm import Session
from dbkit.database.engines import find_database, make_engine
from dbkit.database.settings import Settings
from dbkit.load import Workload, page_users
from dbkit.todo.strategies import core

KEYS = [(page, 20) for page in range(1, 21)]
page_users(Workload("few pages", KEYS), stacks=["psycopg", "psycopg-async", "asyncpg"], core=core)
engine = make_engine(find_database(), Settings(pool_size=20))

class Plain(User):
    def wait_time(self):
        return THINK_S * (1 + random.uniform(-0.5, 0.5))

    @task
    def read(self):
        with Session(engine) as session:
            core(session, *random.choice(KEYS))
"""


def memory_kb(folder: Path, name: str, users: int) -> float:
    """What the process has with so many users of the class `name`."""
    (file := folder / "users.py").write_text(f"THINK_S = {THINK_S}\n{LOCUSTFILE}")
    arguments = ("-u", str(users), "-r", str(SPAWN_RATE), "--think-time", str(THINK_S), "--pool-size", "20")
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--plans", "none", *arguments, name],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(users / SPAWN_RATE + SETTLING_S)
        if process.poll() is not None:
            raise SystemExit(f"Locust ended with exit code {process.returncode}")
        return float(psutil.Process(process.pid).memory_info().rss / 1024)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure each class, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=2000, help="how many users (default 2000)")
    users = parser.parse_args().users
    find_database()  # the server stays while one process uses it
    table = Table("users", "KB a user", "to a plain one")
    plain_kb = None
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Plain", "PsycopgCore", "PsycopgAsyncCore", "AsyncpgCore"):
            few_kb, many_kb = (memory_kb(Path(folder), name, count) for count in (FEW, users))
            kb = (many_kb - few_kb) / (users - FEW)
            plain_kb = plain_kb or kb
            table.add_row(name, f"{kb:.1f}", f"{kb / plain_kb:.2f}")
    output_console(100).print(table)


if __name__ == "__main__":
    main()
