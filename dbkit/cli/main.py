"""dbkit's own commands: `dbkit`, or `python -m dbkit`. Making the dataset is left to `seed.py`, load tests to Locust.

A subcommand is a module with `add_command`, which names the function that runs it.
"""

from __future__ import annotations

import argparse

from dbkit.cli import (
    bench_command,
    diff_command,
    forecast_command,
    options_command,
    report_command,
    serve_command,
    try_command,
)
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake

COMMANDS = (
    try_command,
    diff_command,
    bench_command,
    report_command,
    forecast_command,
    serve_command,
    options_command,
)


def main(prog: str = "dbkit") -> None:
    """Run the command that the command line names, and exit: see `exit_on_mistake`.

    `prog` is what the user typed, for messages.
    """
    exit_on_mistake(prog, lambda: _run(prog))


def _run(prog: str) -> None:
    parser = ArgumentParser(prog=prog, description="Which way of loading list pages is fastest on your PostgreSQL.")
    parser.set_defaults(command=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    for command in COMMANDS:
        command.add_command(commands)
    options: argparse.Namespace = parser.parse_args()
    options.command(options)
