"""dbkit's own commands. Making the dataset is left to `seed.py`, load tests to Locust.

A subcommand is a module with `add_command`, which names the function that runs it.
"""

from __future__ import annotations

import argparse

from dbkit.cli import bench_command, options_command, report_command
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake

PROG = "python -m dbkit"
COMMANDS = (bench_command, report_command, options_command)


def main() -> None:
    """Run the command that the command line names, and exit: see `exit_on_mistake`."""
    exit_on_mistake(PROG, _run)


def _run() -> None:
    parser = ArgumentParser(prog=PROG, description="Which way of loading list pages is fastest on your PostgreSQL.")
    parser.set_defaults(command=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    for command in COMMANDS:
        command.add_command(commands)
    options: argparse.Namespace = parser.parse_args()
    options.command(options)
