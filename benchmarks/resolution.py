"""How small a difference rounds can show, with two classes and two minutes.

    python -m benchmarks.resolution

A/A: one class runs under two names, through Locust as users run it. Half the width of the 95 % interval of their ratio
is the difference that could have been shown; the interval should hold 1, in 19 runs of 20. A/B: one of two classes
takes more CPU time a page, by a share of what it takes anyway; the difference should be found, with the right sign.
Where the rule of `dbkit.analysis.verdict` takes stolen time out, the interval stands there without that as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from dbkit.analysis.comparisons import QUANTITIES
from dbkit.analysis.verdict import MIN_ROUNDS, Comparison, Observation, compare
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import duration, integer
from dbkit.errors import DbkitError
from dbkit.output.terminal import output_console

PROG = "python -m benchmarks.resolution"
REFERENCE, TWIN, SLOWED = "One", "Twin", "Slowed"
COMPARED = {"pages_per_s": "pages/s", "client_cpu_ms": "CPU a page"}
BETWEEN_SLOTS_S = 0.1
"""About how long one class's users take to go and the next one's to come."""

Row = dict[str, Any]


def main() -> None:
    options = _parse()
    console = output_console(piped_width=100)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "ratio of", "steal"):
        table.add_column(heading, no_wrap=True)
    for heading in ("95 % interval", "half-width"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("says", no_wrap=True)
    notes = []
    for _ in range(options.runs):
        twins = run_rounds(TWIN, 0.0, options)
        add_rows(table, "A/A", TWIN, twins, {"pages_per_s": 0, "client_cpu_ms": 0})
        notes.append(scatter_of(twins))
        if options.added:
            page_cpu_ms = fmean(row["client_cpu_ms"] for row in twins)
            slowed = run_rounds(SLOWED, page_cpu_ms * options.added, options)
            add_rows(table, f"A/B, +{options.added:.0%}", SLOWED, slowed, {"pages_per_s": -1, "client_cpu_ms": 1})
        table.add_section()
    console.print(f"{options.users} users, {rounds_of(options)} rounds of two slots of {options.slot_time:g} s each")
    console.print(table)
    for note in notes:
        console.print(note)


def rounds_of(options: argparse.Namespace) -> int:
    """As many as fit into the time."""
    seconds_a_round: float = 2 * (options.slot_time + options.warm_up + BETWEEN_SLOTS_S)
    return max(MIN_ROUNDS, int(options.seconds / seconds_a_round))


def run_rounds(other: str, added_cpu_ms: float, options: argparse.Namespace) -> list[Row]:
    """The slots of a run of `REFERENCE` and `other`. Raises DbkitError where Locust fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("twins.py")), "--headless"),
            *("--users", str(options.users), "--rounds", str(rounds_of(options)), "--csv", f"{folder}/run"),
            *("--slot-time", str(options.slot_time), "--warm-up", str(options.warm_up), REFERENCE, other),
        ]
        environment = os.environ | {"ADDED_CPU_MS": str(added_cpu_ms)}
        # its progress and errors are for the user to see, its table is not what is asked for
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            raise DbkitError("Locust failed; its last words stand above")
        comparison = json.loads(Path(folder, "run_comparison.json").read_text())
    return [row for row in comparison["slots"] if not row["replaced"]]


def add_rows(table: Table, kind: str, user_class: str, slots: Sequence[Row], expected: dict[str, int]) -> None:
    for column, words in COMPARED.items():
        for steal_out in (True, False):
            observations = [
                Observation(row["user_class"], row["round"], row[column], row["steal_share"] if steal_out else None)
                for row in slots
            ]
            comparison = compare(observations, REFERENCE, QUANTITIES[column])[user_class]
            if comparison.adjusted or not steal_out:
                steal = "taken out" if comparison.adjusted else "left in"
                table.add_row(kind, words, steal, *in_words(comparison, expected[column]))


def in_words(comparison: Comparison, expected_sign: int) -> tuple[str, str, str]:
    """The interval, half its width, and whether it says what is so: a difference up (1), down (-1), or none (0)."""
    assert comparison.ratio is not None and comparison.low is not None and comparison.high is not None
    half_width = (comparison.high / comparison.low) ** 0.5 - 1
    sign = 0 if not comparison.shown else 1 if comparison.ratio > 1 else -1
    says = {1: "more", -1: "less", 0: "no difference"}[sign] + ("" if sign == expected_sign else ", wrongly")
    interval = f"{comparison.ratio:.3f} [{comparison.low:.3f}, {comparison.high:.3f}]"
    return interval, f"{half_width:.1%}", says


def scatter_of(slots: Sequence[Row]) -> str:
    """From slot to slot, what the machine did to one class."""
    logs = {column: [log(row[column]) for row in slots if row["user_class"] == REFERENCE] for column in COMPARED}
    scatters = ", ".join(f"{words} {stdev(logs[column]):.0%}" for column, words in COMPARED.items())
    steal = [row["steal_share"] for row in slots if row["steal_share"] is not None]
    other = [row["other_cpu_share"] for row in slots if row["other_cpu_share"] is not None]
    shares = [f"{name} {fmean(share):.0%}" for name, share in (("steal", steal), ("other processes", other)) if share]
    return f"scatter from slot to slot: {scatters}; of the machine's CPU time: {', '.join(shares) or 'not known'}"


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(prog=PROG, description="How small a difference rounds can show.")
    parser.add_argument(
        "--seconds",
        type=duration(positive=True),
        default=120.0,
        metavar="<seconds>",
        help="for each pair of classes; default 120",
    )
    parser.add_argument("--runs", type=integer(1), default=1, metavar="<number>", help="of all; default 1")
    parser.add_argument("--users", type=integer(1), default=10, metavar="<number>", help="default 10")
    parser.add_argument("--slot-time", type=duration(positive=True), default=1.0, metavar="<seconds>", help="default 1")
    parser.add_argument("--warm-up", type=duration(), default=0.2, metavar="<seconds>", help="default 0.2")
    parser.add_argument(
        "--added",
        type=float,
        default=0.1,
        metavar="<share>",
        help="CPU time that one class takes more, in a run of its own; 0 for no such run; default 0.1",
    )
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
