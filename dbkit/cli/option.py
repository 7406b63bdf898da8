"""What an option of a command line is: its value, its words, and where it is to be had. Which there are: `options`."""

from __future__ import annotations

from argparse import SUPPRESS
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from dbkit.cli.values import ValueType
from dbkit.cli.variations import Appended, Stored

Command = Literal["seed", "bench", "try", "locust", "serve"]


@dataclass(frozen=True)
class Option:
    """An option of one or several command lines."""

    name: str
    """The name of its attribute in parsed options, such as `slot_time`."""
    type: ValueType | None
    """How its value is read; None for a switch, which is either given or not."""
    default: Any
    help: str
    """What it sets, in a few words with the unit: the web form has no room for more."""
    details: str = ""
    """What else there is to say, for `--help` and the documentation."""
    _: KW_ONLY
    separator: str = ""
    """What stands between its texts where it is given several times; nothing where it can be given once."""
    default_words: str = ""
    """What happens where it is not given, if its default does not show that."""
    commands: tuple[Command, ...] = ("locust",)
    in_form: bool = True
    """Whether Locust's web form has it."""
    is_internal: bool = False
    """Whether it is none for people: one process of dbkit gives it to another."""
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
        value: dict[str, Any] = {"action": "store_true"}
        if self.type:
            metavar = None if self.type.choices else f"<{self.type.unit}>"
            value = {"action": Stored, "type": self.type, "choices": self.type.choices, "metavar": metavar}
            if self.separator:
                value |= {"action": Appended, "separator": self.separator}
        default = self.default_text and f"default {self.default_text}"
        words = "; ".join(part for part in (self.help, self.details, default) if part)
        words = SUPPRESS if self.is_internal else words
        action = parser.add_argument(self.flag, env_var=self.variable, default=self.default, help=words, **value)
        # see locust.argument_parser.LocustArgumentParser
        action.include_in_web_ui = self.in_form and not self.is_internal
