"""Whether the harness chooses the winner: each stack beside psycopg as rounds compare them, and bare.

    python -m benchmarks.stacks

For each strategy two things take turns: `locust -f locustfiles/rounds.py` with the classes of all stacks, as users run
it, and bare readers (`benchmarks.readers`) of all stacks, each in a process of its own. From both the ratios of pages a
second to psycopg are made, with intervals that hold together (`dbkit.analysis.verdict`). Exit code 1 where the two
intervals of a pair do not overlap.

Every turn has processes of its own, and is one observation: see `benchmarks.through_locust`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.readers import Slot, bare_reader, user_class
from dbkit.analysis.verdict import MIN_ROUNDS, PAGES_PER_S, Comparison, Observation, compare
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import duration, integer
from dbkit.database.engines import find_database
from dbkit.database.stacks import STACKS
from dbkit.errors import DbkitError
from dbkit.output.terminal import output_console
from dbkit.paging import STRATEGIES
from dbkit.todo.dataset import read_shape

PROG = "python -m benchmarks.stacks"
REFERENCE: str = "psycopg"
STRATEGIES_READ = ("joined", "core", "lazy")


def main() -> None:
    options = _parse()
    read_shape(find_database())
    console = output_console(piped_width=110)
    table = Table(
        title=f"pages/s ÷ {REFERENCE}, {options.users} users, {options.turns} turns of {options.rounds} rounds"
    )
    for heading in ("strategy", "stack", "in rounds", "bare", "overlap"):
        table.add_column(heading)
    apart = []
    for strategy in options.strategies:
        in_rounds, bare = _measure(strategy, options)
        for stack in STACKS:
            if stack != REFERENCE:
                overlap = _overlap(in_rounds[stack], bare[stack])
                table.add_row(strategy, stack, _cell(in_rounds[stack]), _cell(bare[stack]), "yes" if overlap else "NO")
                if not overlap:
                    apart.append(f"{strategy} on {stack}")
    console.print(table)
    if apart:
        console.print(f"The harness changes the answer: {', '.join(apart)}.")
        sys.exit(1)


def _measure(strategy: str, options: argparse.Namespace) -> tuple[Mapping[str, Comparison], Mapping[str, Comparison]]:
    """Each stack compared with the reference, as rounds do and bare."""
    in_rounds: list[Observation] = []
    bare: list[Observation] = []
    for turn in track(range(options.turns), strategy, console=Console(stderr=True), transient=True):
        in_rounds += _rounds(strategy, turn, options)
        bare += _bare(strategy, turn, options)
    return compare(in_rounds, REFERENCE, PAGES_PER_S), compare(bare, REFERENCE, PAGES_PER_S)


def _bare(strategy: str, turn: int, options: argparse.Namespace) -> list[Observation]:
    """What bare readers did in one turn."""
    slots: dict[str, list[Slot]] = {stack: [] for stack in STACKS}
    with ExitStack() as readers:
        read_for = {stack: readers.enter_context(bare_reader(stack, strategy, options.users)) for stack in STACKS}
        for read in read_for.values():
            read(options.slot_time)
        for _ in range(options.rounds):
            for stack in random.sample([*STACKS], len(STACKS)):
                slots[stack].append(read_for[stack](options.slot_time))
    together = {stack: Slot.together(its_slots) for stack, its_slots in slots.items()}
    return [Observation(stack, turn, slot.pages / slot.seconds, slot.steal) for stack, slot in together.items()]


def _rounds(strategy: str, turn: int, options: argparse.Namespace) -> list[Observation]:
    """What rounds through Locust measured in one turn."""
    classes = [user_class(stack, strategy) for stack in STACKS]
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder, "run")
        command = [
            *(sys.executable, "-m", "locust", "-f", "locustfiles/rounds.py", "--headless", "--csv", str(prefix)),
            *("--users", str(options.users), "--rounds", str(options.rounds), "--slot-time", str(options.slot_time)),
            *("--seed", str(turn), *classes),
        ]
        environment = {"DBKIT_POOL_SIZE": str(options.users)} | os.environ
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        if run.returncode:
            raise DbkitError(f"Locust ended with {run.returncode}: {run.stderr.strip()}")
        comparison = json.loads(Path(f"{prefix}_comparison.json").read_text())
    slots = [row for row in comparison["slots"] if not row["replaced"]]
    observations = []
    for stack in STACKS:
        its_slots = [row for row in slots if row["stack"] == stack]
        steals = [row["steal_share"] for row in its_slots if row["steal_share"] is not None]
        rate = fmean(row["pages_per_s"] for row in its_slots)
        observations.append(Observation(stack, turn, rate, fmean(steals) if steals else None))
    return observations


def _overlap(one: Comparison, other: Comparison) -> bool:
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None
    return one.low <= other.high and other.low <= one.high


def _cell(comparison: Comparison) -> str:
    return f"{comparison.ratio:.3f} [{comparison.low:.3f}, {comparison.high:.3f}]"


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROG,
        description=f"Each stack's pages/s ÷ {REFERENCE}'s, in rounds and bare. Settings are read from the "
        "environment, as DBKIT_END=commit.",
    )
    parser.add_argument("--users", type=integer(1), default=10, metavar="<number>", help="default 10")
    parser.add_argument("--strategies", choices=tuple(STRATEGIES), nargs="+", default=STRATEGIES_READ)
    parser.add_argument("--turns", type=integer(MIN_ROUNDS), default=8, metavar="<number>", help="default 8")
    parser.add_argument("--rounds", type=integer(1), default=2, metavar="<number>", help="in a turn; default 2")
    parser.add_argument(
        "--slot-time", type=duration(positive=True), default=1.0, metavar="<seconds>", help="of each side; default 1"
    )
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
