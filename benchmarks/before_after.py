"""How often does `dbkit diff` find a change, and how often one that is none? A repository with changes of known size.

    lazy      a relation that is loaded one by one: by its counts, without load
    cpu-10    a page takes 10 % more of the client's CPU time
    cpu-5     5 % more
    index     a condition that no index serves any more: by its plan, and by the server's CPU time
    nothing   a commit that changes a comment

The share of CPU time is that of what a page takes under load, as it is measured first. Each diff runs until it has
decided or its budget is spent. A false alarm is a difference that is shown where nothing has changed, and a wrong sign
one that is shown in the wrong direction.

    python -m benchmarks.before_after [--runs 20] [--runs-of-nothing 100] [--budget 180] [--only cpu-10,nothing]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import log, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.table import Table
from sqlalchemy import text

from dbkit.database.embedded import FOLDER_VARIABLE, embedded_folder
from dbkit.database.engines import find_database, make_engine
from dbkit.database.settings import Settings
from dbkit.output.terminal import output_console

LOCUSTFILE = """
from dbkit.load import Workload, page_users
from pages import shelves

page_users(Workload("shelves", keys=range(5)), stacks=["psycopg"], shelves=shelves)
"""

PAGES = """
from time import thread_time
from sqlalchemy import Column, ForeignKey, Integer, Text, func, select
from sqlalchemy.orm import declarative_base, lazyload, relationship, selectinload

Base = declarative_base()

class Shelf(Base):
    __tablename__ = "benchmark_shelf"
    id = Column(Integer, primary_key=True)
    name = Column(Text)
    books = relationship("Book", order_by="Book.id")

class Book(Base):
    __tablename__ = "benchmark_book"
    id = Column(Integer, primary_key=True)
    shelf_id = Column(ForeignKey("benchmark_shelf.id"))
    title = Column(Text)

BURNT_S = 0.0

def shelves(session, number):
    # a page
    until_s = thread_time() + BURNT_S
    while thread_time() < until_s:
        pass
    ids = session.scalars(select(Book.shelf_id).where(Book.shelf_id == number + 1).distinct()).all()
    query = select(Shelf).options(selectinload(Shelf.books)).where(Shelf.id.in_([*ids, *range(100, 110)]))
    return [[shelf.name, [book.title for book in shelf.books]] for shelf in session.scalars(query.order_by(Shelf.id))]
"""

TABLES = """
DROP TABLE IF EXISTS benchmark_book, benchmark_shelf;
CREATE TABLE benchmark_shelf (id int PRIMARY KEY, name text);
CREATE TABLE benchmark_book (id int PRIMARY KEY, shelf_id int REFERENCES benchmark_shelf, title text);
INSERT INTO benchmark_shelf SELECT n, 'shelf ' || n FROM generate_series(1, 2000) n;
INSERT INTO benchmark_book SELECT n, 1 + n % 2000, 'book ' || n FROM generate_series(1, 10000) n;
CREATE INDEX ON benchmark_book (shelf_id);
ANALYZE benchmark_shelf; ANALYZE benchmark_book
"""

CHANGES = {
    "lazy": ("selectinload(Shelf.books)", "lazyload(Shelf.books)"),
    "cpu-10": ("BURNT_S = 0.0", "BURNT_S = {burnt_10:.9f}"),
    "cpu-5": ("BURNT_S = 0.0", "BURNT_S = {burnt_5:.9f}"),
    "index": ("Book.shelf_id == number + 1", "func.abs(Book.shelf_id) == number + 1"),
    "nothing": ("# a page", "# another page"),
}
SLOWER = {"pages_per_s": False, "p50_ms": True, "p95_ms": True, "client_cpu_ms": True, "server_cpu_ms": True}
"""The compared columns, and whether more of one is slower."""
CLASS = "PsycopgShelves"
LOAD = ("-u", "2", "--slot-time", "0.5", "--warm-up", "0.1", "--verify-keys", "2", "--pool-size", "2")


@dataclass
class Outcome:
    """What all diffs of one change came to."""

    runs: int = 0
    found: int = 0
    """Exit code 3."""
    by_counts: int = 0
    """Runs whose counts, or plans, were not those of before."""
    wrong_sign: int = 0
    undecided: int = 0
    """Exit code 4."""
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """Client CPU, after ÷ before."""
    variances: list[tuple[float, float]] = field(default_factory=list)
    """Of each run, see `variances_of`."""


def git(folder: Path, *arguments: str) -> None:
    """Run git with an author of its own."""
    names = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | names, check=True, stdout=subprocess.DEVNULL)


def make_repository(folder: Path) -> None:
    """One commit, on main."""
    (folder / "pages.py").write_text(PAGES)
    (folder / "shop_load.py").write_text(LOCUSTFILE)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Shelves")


def add_branches(folder: Path, client_cpu_ms: float) -> None:
    """A branch a change."""
    burnt = {f"burnt_{percent}": client_cpu_ms / 1000 * percent / 100 for percent in (5, 10)}
    for name, (old, new) in CHANGES.items():
        git(folder, "checkout", "--quiet", "-b", name, "main")
        path = folder / "pages.py"
        content = path.read_text()
        assert old in content, name
        path.write_text(content.replace(old, new.format(**burnt) if "{" in new else new))
        git(folder, "commit", "--quiet", "--all", "--message", f"A change: {name}")


def diff(folder: Path, branch: str, results: Path, arguments: Sequence[str]) -> tuple[int, float, dict[str, Any]]:
    """Run one; its exit code, how many seconds it took, and its result."""
    began_at_s = time.perf_counter()
    command = [sys.executable, "-P", "-m", "dbkit", "diff", f"main..{branch}", "--csv", str(results), *arguments]
    done = subprocess.run(
        [*command, "--", "shop_load.py"],
        cwd=folder,
        env=os.environ | {FOLDER_VARIABLE: str(embedded_folder().absolute())},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 3, 4):
        raise SystemExit(f"{branch}: exit code {done.returncode}\n{done.stderr}")
    seconds = time.perf_counter() - began_at_s
    return done.returncode, seconds, json.loads(Path(f"{results}_comparison.json").read_text())


def client_cpu_ms(folder: Path, results: Path) -> float:
    """What a page takes under load."""
    _, _, result = diff(folder, "main", results, [*LOAD, "--rounds", "10"])
    return max(float(row["client_cpu_ms"]) for row in result["strategies"])


def add(outcome: Outcome, name: str, code: int, seconds: float, result: dict[str, Any]) -> None:
    """Count a run."""
    outcome.runs += 1
    outcome.found += code == 3
    outcome.undecided += code == 4
    outcome.seconds.append(seconds)
    (page,) = result["revisions"]["pages"]
    outcome.by_counts += page["before"] != page["after"] or bool(page["plans"])
    shown = [each for each in result["verdicts"] if each["shown"]]
    outcome.wrong_sign += any((each["ratio"] > 1) != SLOWER[each["quantity"]] for each in shown) and name != "nothing"
    if name == "nothing":  # faster is as false as slower
        outcome.found += bool(shown) and code != 3
        outcome.variances.append(variances_of(result["slots"]))
    outcome.ratios += [each["ratio"] for each in result["verdicts"] if each["quantity"] == "client_cpu_ms"]


def variances_of(slots: list[dict[str, Any]]) -> tuple[float, float]:
    """How much processes of the same code scatter in their client CPU, and slots of one process.

    Both are variances of logarithms, by the mean squares of a one-way analysis of variance of the differences of both
    sides in each part of a round. The first is negative where it is lost in the second.
    """
    rounds: dict[int, dict[str, list[float]]] = {}
    for slot in slots:
        rounds.setdefault(slot["round"], {}).setdefault(slot["condition"], []).append(log(slot["client_cpu_ms"]))
    # (rounds, sides, parts)
    differences = np.diff(
        np.array([[sides[each] for each in sorted(sides)] for _, sides in sorted(rounds.items())]), axis=1
    )[:, 0]
    of_slots = float(differences.var(axis=1, ddof=1).mean())
    of_processes = float(differences.mean(axis=1).var(ddof=1)) - of_slots / differences.shape[1]
    return of_processes / 2, of_slots / 2  # a difference has two of them


def process_scatter(outcome: Outcome) -> str:
    """The variances of all runs, as standard deviations in words."""
    of_processes, of_slots = (sqrt(max(fmean(each), 0.0)) for each in zip(*outcome.variances, strict=True))
    return (
        f"Processes of the same code scatter by {of_processes:.1%} in their client CPU, slots of one process by"
        f" {of_slots:.1%} (standard deviations)."
    )


def measure(folder: Path, runs: dict[str, int], budget_s: float) -> Iterator[dict[str, Outcome]]:
    """Run all diffs, the changes in turns; what they came to so far, after each."""
    outcomes = {name: Outcome() for name in runs}
    for number in range(max(runs.values())):
        for name in (name for name in runs if number < runs[name]):
            load = ["--counts-only"] if name == "lazy" else ["--rounds", "auto", "--budget", f"{budget_s:g}"]
            add(outcomes[name], name, *diff(folder, name, folder.parent / "results" / name, [*LOAD, *load]))
            yield outcomes


def table(outcomes: dict[str, Outcome]) -> Table:
    """What is known so far."""
    made = Table(
        "change", "runs", "exit code 3", "by counts or plan", "undecided", "wrong sign", "client CPU", "seconds"
    )
    for name, each in outcomes.items():
        if each.runs:
            ratios, seconds = sorted(each.ratios), sorted(each.seconds)
            cpu = f"{ratios[0]:.3f} to {ratios[-1]:.3f}" if ratios else ""
            times = f"{seconds[len(seconds) // 2]:.0f}, at most {seconds[-1]:.0f}"
            counts = map(str, (each.runs, each.found, each.by_counts, each.undecided, each.wrong_sign))
            made.add_row(name, *counts, cpu, times)
    return made


def main() -> None:
    """Run them all, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="diffs of each change (default 20)")
    parser.add_argument("--runs-of-nothing", type=int, default=100, help="diffs of nothing (default 100)")
    parser.add_argument("--budget", type=float, default=180.0, help="seconds of load for each (default 180)")
    parser.add_argument("--only", default=",".join(CHANGES), help="changes, with commas")
    options = parser.parse_args()
    runs = {name: options.runs_of_nothing if name == "nothing" else options.runs for name in options.only.split(",")}
    database = find_database()  # the server stays while one process uses it
    with make_engine(database, Settings()).begin() as connection:
        connection.execute(text(TABLES))
    console = output_console(120)
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        make_repository(repository)
        cpu_ms = client_cpu_ms(repository, Path(folder) / "first")
        add_branches(repository, cpu_ms)
        console.print(f"A page takes {cpu_ms:.2f} ms of the client's CPU time.")
        outcomes: dict[str, Outcome] = {}
        with suppress(KeyboardInterrupt):  # it takes hours: what is known by then is shown
            for outcomes in measure(repository, runs, options.budget):
                last = {name: each for name, each in outcomes.items() if each.runs}
                done = ", ".join(f"{name} {each.found} of {each.runs}" for name, each in last.items())
                print(done, file=sys.stderr, flush=True)
    console.print(table(outcomes))
    if "nothing" in outcomes and outcomes["nothing"].runs:
        console.print(process_scatter(outcomes["nothing"]))


if __name__ == "__main__":
    main()
