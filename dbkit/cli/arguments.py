"""What every command line of dbkit has in common: its parser, and how it ends.

Which options there are is left to `dbkit.cli.options`.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import configargparse

from dbkit.errors import DbkitError, printable


class ArgumentParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """A parser whose errors are one line, without the usage in front, with exit code 2; options are not abbreviated."""

    intermixed = False
    """Whether positional arguments may stand between options, as argparse cannot have it for subcommands."""

    after_dashes: ArgumentParser | None = None
    """The parser of what follows `--`, where that is another command line: its namespace is `after_dashes`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, add_config_file_help=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None, **kwargs: Any) -> Any:
        """See `argparse.ArgumentParser.parse_known_args`."""
        args = list(sys.argv[1:] if args is None else args)
        if self.after_dashes is not None:
            place = args.index("--") if "--" in args else len(args)
            args, others = args[:place], args[place + 1 :]
            found, unknown = super().parse_known_args(args, namespace, **kwargs)
            found.after_dashes = self.after_dashes.parse_args(others)
            return found, unknown
        return super().parse_known_args(self._positional_last(args) if self.intermixed else args, namespace, **kwargs)

    def _positional_last(self, args: list[str]) -> list[str]:
        options: list[str] = []
        positional: list[str] = []
        rest = iter(args)
        for each in rest:
            if each == "--":
                positional += rest
            elif not each.startswith("-"):
                positional.append(each)
            else:
                options.append(each)
                action = self._option_string_actions.get(each)
                if action is not None and action.nargs != 0:
                    options += itertools.islice(rest, 1)
        return [*options, *positional]

    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(f"{self.prog}: error: {message}", 2))


def exit_on_mistake(prog: str, command: Callable[[], None]) -> NoReturn:
    """Run a command and exit: 0, or 2 with one line on stderr for a `DbkitError`, or 130 on Ctrl-C, as shells say."""
    try:
        command()
    except DbkitError as mistake:
        sys.exit(_fail(f"{prog}: error: {mistake}", 2))
    except KeyboardInterrupt as ending:  # or another signal, which is its argument then
        sys.exit(_fail(f"{prog}: interrupted", 128 + (ending.args[0] if ending.args else signal.SIGINT)))
    sys.exit(0)


def _fail(message: str, code: int) -> int:
    # of what it quotes nothing is to end the line, or to do something to a terminal
    print(printable(" ".join(message.split())), file=sys.stderr)
    return code
