"""The terminal: a console that is wide enough where it is piped, and a bar while something takes long.

What is printed, and what takes long, is left to the callers.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


def output_console(piped_width: int) -> Console:
    """A console on standard output: as wide as the terminal, or `piped_width` cells where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=piped_width)


def progress_bar(console: Console, **options: Any) -> Progress:
    """A bar with its description, how many of how many, and the time left. It is gone at the end.

    `options` are those of `rich.progress.Progress`.

    Where the line is too short the description is cut, never the numbers.
    """
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=max(console.width - 24, 1))),
        BarColumn(bar_width=None, table_column=Column(max_width=40)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, transient=True, **options)
