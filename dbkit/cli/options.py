"""The table of options that `locust`, `dbkit bench` and `seed.py` have: one entry an option.

Flags, environment variables, help, the labels of the web form and the tables of docs/options.md come from it. How the
text of a value is read is left to `dbkit.cli.values`. `seed.py` adds the options of the dataset's shape itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dbkit.cli.bench import BENCH_STACKS
from dbkit.cli.values import ValueType, database_url, duration, integer, share, text
from dbkit.database.settings import PAGE_ENDS, SESSION_CLOSES, Settings
from dbkit.paging import DEFAULT_PAGE_SIZE, STRATEGIES

Command = Literal["seed", "bench", "locust"]

PAGE_ORDERS = ("random", "sequential")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of one or several command lines."""

    name: str
    """The name of its attribute in parsed options, such as `slot_time`."""
    help: str
    """What it sets, in a few words with the unit: the web form has no room for more."""
    details: str = ""
    """What else there is to say, for `--help` and the documentation."""
    unit: str = ""
    """What stands for its value in `--help`."""
    type: ValueType | None = None
    """How its value is read; None for one of its `choices`, or for a switch that is either given or not."""
    choices: tuple[str, ...] = ()
    default: Any = None
    default_words: str = ""
    """What happens where it is not given, if its default does not show that."""
    commands: tuple[Command, ...] = ("locust",)
    in_form: bool = True
    """Whether Locust's web form has it."""
    reported: bool = True
    """Whether results name it, because it bears on their figures."""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"DBKIT_{self.name.upper()}"

    @property
    def default_text(self) -> str:
        """What happens where it is not given, as it is written; empty where that needs no words."""
        if self.default_words or self.default is None or self.default is False:
            return self.default_words
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def add_to(self, parser: Any) -> None:
        """Add it to a parser of ConfigArgParse, such as Locust's."""
        value: dict[str, Any] = {"default": self.default}
        if self.choices:
            value["choices"] = self.choices
        elif self.type:
            value |= {"type": self.type, "metavar": f"<{self.unit}>"}
        else:
            value["action"] = "store_true"
        default = self.default_text and f"default {self.default_text}"
        words = "; ".join(part for part in (self.help, self.details, default) if part)
        action = parser.add_argument(self.flag, env_var=self.variable, help=words, **value)
        action.include_in_web_ui = self.in_form  # see locust.argument_parser.LocustArgumentParser


_DEFAULT = Settings()

_OF_DATABASE = (
    Option(
        name="database_url",
        help="PostgreSQL to use, as postgresql://user:password@host:port/database",
        unit="url",
        type=database_url(),
        default_words="an embedded server, with its data in .dbkit/",
        commands=("seed", "bench", "locust"),
        in_form=False,
        reported=False,
    ),
)

_OF_PAGES = (
    Option(
        name="page_size",
        help="todos on a page",
        unit="todos",
        type=integer(1),
        default=DEFAULT_PAGE_SIZE,
        commands=("bench", "locust"),
    ),
    Option(
        name="page_order",
        help="which page a user reads next",
        details="any one, or each in turn from the first",
        choices=PAGE_ORDERS,
        default="random",
    ),
    Option(
        name="think_time",
        help="seconds that a user waits between two pages, on average",
        unit="seconds",
        type=duration(),
        default=0.0,
    ),
    Option(
        name="think_time_spread",
        help="share of the think time by which a wait may differ from it",
        details="0 is a constant wait; with 0.5 a wait is from half to one and a half of the think time",
        unit="share",
        type=share(),
        default=0.5,
    ),
    Option(
        name="seed",
        help="number from which random choices start",
        details="the same number gives the same pages and slots in the same order",
        unit="number",
        type=integer(),
        default=1,
    ),
)

_OF_SETTINGS = (
    Option(
        name="pool_size",
        help="connections that each pool keeps",
        details="there is one pool for each stack in each process",
        unit="connections",
        type=integer(1),
        default=_DEFAULT.pool_size,
        commands=("bench", "locust"),
    ),
    Option(
        name="max_overflow",
        help="connections that a pool may open beyond its size",
        details="they are closed on return",
        unit="connections",
        type=integer(0),
        default=_DEFAULT.max_overflow,
        commands=("bench", "locust"),
    ),
    Option(
        name="pool_timeout",
        help="seconds that a page waits for a connection before it fails",
        unit="seconds",
        type=duration(positive=True),
        default=_DEFAULT.pool_timeout_s,
        commands=("bench", "locust"),
    ),
    Option(
        name="statement_timeout",
        help="seconds that the server lets a statement run, 0 for no limit",
        unit="seconds",
        type=duration(),
        default=_DEFAULT.statement_timeout_s,
        commands=("bench", "locust"),
    ),
    Option(
        name="end",
        help="how a page ends",
        details="rollback is what closing a session does, commit costs the same round trip, autocommit opens no "
        "transaction",
        choices=PAGE_ENDS,
        default=_DEFAULT.end,
        commands=("bench", "locust"),
    ),
    Option(
        name="session_close",
        help="how async sessions are closed",
        details="by `async with`, as people write it, or by `await session.close()` in a `finally`, which saves a task "
        "a page",
        choices=SESSION_CLOSES,
        default=_DEFAULT.close,
        commands=("bench", "locust"),
    ),
)

_OF_ROUNDS = (
    Option(
        name="rounds",
        help="number of rounds, each with one turn of every class",
        unit="number",
        type=integer(1),
        default=5,
    ),
    Option(
        name="slot_time",
        help="seconds measured in each turn, at least",
        unit="seconds",
        type=duration(positive=True),
        default=1.0,
    ),
    Option(
        name="max_slot_time",
        help="seconds to which a turn may grow",
        details="a turn grows until each user has read 3 pages in it",
        unit="seconds",
        type=duration(),
        default=10.0,
    ),
    Option(
        name="warm_up",
        help="seconds of reading before each turn that count in no figure",
        unit="seconds",
        type=duration(),
        default=0.3,
    ),
    Option(
        name="drain_timeout",
        help="seconds that a page may go on after its turn",
        details="then it is cut off and counted as unfinished",
        unit="seconds",
        type=duration(),
        default=10.0,
    ),
    Option(
        name="calibrate",
        help="measure each page function called bare as well",
        details="to see what the harness takes; doubles the time",
        default=False,
    ),
    Option(
        name="reference",
        help="class that the others are compared with",
        unit="class",
        type=text("the name of a user class"),
        default="",
        default_words="the slowest",
        reported=False,
    ),
)

_OF_FILES = (
    Option(
        name="report",
        help="file for an HTML report",
        details="one file that opens anywhere",
        unit="filename",
        type=text("a file name"),
        default="",
        in_form=False,
        reported=False,
    ),
    Option(
        name="summary",
        help="file for a summary in Markdown",
        details="for a pull request or a CI job's page",
        unit="filename",
        type=text("a file name"),
        default="",
        in_form=False,
        reported=False,
    ),
)

_OF_BENCH = (
    Option(
        name="pages",
        help="pages to read, from the first on",
        details="after the dataset's last page comes the first again",
        unit="number",
        type=integer(1),
        default=25,
        commands=("bench",),
    ),
    Option(
        name="concurrency",
        help="pages read at a time",
        details="by threads, or by tasks that a semaphore lets through",
        unit="number",
        type=integer(1),
        default=10,
        commands=("bench",),
    ),
    Option(
        name="stack",
        help="stack to read on",
        choices=BENCH_STACKS,
        default_words="all, one after the other",
        commands=("bench",),
    ),
    Option(
        name="strategy",
        help="strategy to read with",
        choices=tuple(STRATEGIES),
        default_words="all, one after the other",
        commands=("bench",),
    ),
)

OPTIONS: dict[str, Option] = {
    option.name: option
    for group in (_OF_DATABASE, _OF_PAGES, _OF_SETTINGS, _OF_ROUNDS, _OF_FILES, _OF_BENCH)
    for option in group
}
"""All options, by name, in the order in which they are shown."""


def options_of(command: Command) -> list[Option]:
    """The options of one command line."""
    return [option for option in OPTIONS.values() if command in option.commands]


def add_options(parser: Any, command: Command) -> None:
    """Add the options of `command` to its parser."""
    for option in options_of(command):
        option.add_to(parser)


def read_settings(options: Any) -> Settings:
    """The `Settings` that parsed options ask for."""
    return Settings(
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout_s=options.pool_timeout,
        statement_timeout_s=options.statement_timeout,
        end=options.end,
        close=options.session_close,
    )
