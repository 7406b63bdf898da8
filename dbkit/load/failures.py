"""Why pages failed: few, stable messages, and of each the traceback of the first page that failed with it.

Messages are what Locust's failures table shows. Which words of an error are shown is decided in `dbkit.load.reasons`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dbkit.analysis.records import PageFigures
from dbkit.analysis.result import FailureRow
from dbkit.analysis.slot import UserClass
from dbkit.load.reasons import grouped, reason_of
from dbkit.load.tracebacks import traceback_of

logger = logging.getLogger(__name__)

REASON_MAX_CHARACTERS = 100
MOST_MESSAGES = 30
"""With more messages of a condition than these, pages with further ones are counted together."""
FURTHER = "(further messages)"
"""What they are counted as."""


class PageFailure(Exception):
    """Why a page failed, in words that group; its `__cause__` is the exception itself where there was one."""

    @classmethod
    def of(cls, error: BaseException) -> PageFailure:
        """Wrap an exception for Locust's failure table."""
        failure = cls(_message(error))
        failure.__cause__ = error
        return failure

    def __repr__(self) -> str:
        # Locust groups failures by it and shows it
        return str(self)


def _message(error: BaseException) -> str:
    if isinstance(error, PageFailure):
        return str(error)
    reason = reason_of(error)
    words = grouped(reason.words, names_code=reason.names_code)
    if len(words) > REASON_MAX_CHARACTERS:
        words = f"{words[: REASON_MAX_CHARACTERS - 1]}…"
    return ": ".join(filter(None, (reason.kind, words)))


@dataclass
class Failure:
    """The pages of one condition that failed with one message."""

    user_class: str
    traceback: str | None
    """That of the first page; None where it says no more than the message."""
    count: int = 0


@dataclass
class Failures:
    """Why pages failed, in one process, and in a master in all: by condition, then by message."""

    of_conditions: dict[str, dict[str, Failure]] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)

    def add(self, condition: str, user_class: str, failure: Exception) -> None:
        """Count a page that failed; the first with its message is logged."""
        message = str(failure)
        known = self.of_conditions.setdefault(condition, {})
        if message not in known:
            if len(known) >= MOST_MESSAGES:
                message = FURTHER
            known.setdefault(message, Failure(user_class, None if message == FURTHER else _traceback(failure)))
            self._log(user_class, message, known[message].traceback)
        known[message].count += 1

    def take_message(self) -> list[Any]:
        """What has been counted since the last call, in plain values. Tracebacks are kept for the next call."""
        taken = [
            [condition, message, asdict(failure)]
            for condition, messages in self.of_conditions.items()
            for message, failure in messages.items()
            if failure.count
        ]
        for messages in self.of_conditions.values():
            for failure in messages.values():
                failure.count = 0
        return taken

    def merge_message(self, taken: Iterable[Any]) -> None:
        """Add what another process has taken. The traceback that came first stays."""
        for condition, message, values in taken:
            known = self.of_conditions.setdefault(condition, {})
            name = message if message in known or len(known) < MOST_MESSAGES else FURTHER
            traceback = None if name == FURTHER else values["traceback"]
            failure = known.setdefault(name, Failure(values["user_class"], traceback))
            failure.count += values["count"]

    def clear(self) -> None:
        """Forget everything, as at the start of a test."""
        self.of_conditions.clear()
        self._logged.clear()

    def rows(self, figures: Iterable[PageFigures], user_classes: Mapping[str, UserClass]) -> list[FailureRow]:
        """A row for each condition and message, in the order of the `figures`, of each the most frequent first."""
        labels = {row.condition: row.label for row in figures}
        places = {condition: place for place, condition in enumerate(labels)}
        found = [
            FailureRow(
                workload=user_classes[failure.user_class].workload,
                condition=condition,
                label=labels.get(condition, failure.user_class),
                user_class=failure.user_class,
                message=message,
                count=failure.count,
                traceback=failure.traceback,
            )
            for condition, messages in self.of_conditions.items()
            for message, failure in messages.items()
            if failure.count and failure.user_class in user_classes
        ]
        return sorted(found, key=lambda row: (places.get(row.condition, len(places)), row.condition, -row.count))

    def _log(self, user_class: str, message: str, traceback: str | None) -> None:
        if message not in self._logged:
            self._logged.add(message)
            logger.warning("a page of %s failed: %s%s", user_class, message, f"\n{traceback}" if traceback else "")


def _traceback(failure: Exception) -> str | None:
    error = failure.__cause__ or failure
    if isinstance(error, PageFailure):
        return None
    found = traceback_of(error)
    return None if found == str(failure) else found
