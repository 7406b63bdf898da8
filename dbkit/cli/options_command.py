"""`python -m dbkit options`: print the tables of docs/options.md. For what is in them see `dbkit.cli.options`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbkit.cli.option import Command, Option
from dbkit.cli.options import options_of

COMMANDS: dict[Command, str] = {
    "locust": "locust",
    "try": "dbkit try",
    "bench": "dbkit bench",
    "serve": "dbkit serve",
    "seed": "seed.py",
}
"""The command lines, by the order of their tables, with their headings."""
HEADER = ("option", "variable", "value", "default", "meaning")


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "options",
        help="print the options of every command line as Markdown",
        description="Print the options of locust, dbkit try, bench and serve, and seed.py, with their environment "
        "variables, as the Markdown tables of docs/options.md.",
    )
    command.set_defaults(command=lambda options: print("\n".join(_lines())))


def _lines() -> Iterator[str]:
    shown: set[str] = set()
    for number, (command, heading) in enumerate(COMMANDS.items()):
        if number:
            yield ""
        yield from (f"## `{heading}`", "")
        options = options_of(command)
        if known := [f"`{option.flag}`" for option in options if option.name in shown]:
            yield f"As above: {', '.join(known)}."
        if new := [option for option in options if option.name not in shown]:
            yield from ([""] if known else [])
            yield f"| {' | '.join(HEADER)} |"
            yield "|---" * len(HEADER) + "|"
            yield from map(_row, new)
        shown |= {option.name for option in options}


def _row(option: Option) -> str:
    choices = option.type and option.type.choices
    value = " or ".join(f"`{each}`" for each in choices) if choices else option.type.unit if option.type else ""
    default = option.default_words or (option.default_text and f"`{option.default_text}`")
    meaning = "; ".join(part for part in (option.help, option.details) if part)
    return f"| `{option.flag}` | `{option.variable}` | {value} | {default} | {meaning} |"
