"""What becomes of a mistake of dbkit's own: the part of a result that fails is missing and named, all others are there.

For which codes processes end with then see `dbkit.analysis.exit_codes`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from dbkit.analysis.result import Result
from dbkit.errors import without_secrets

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]


@contextmanager
def surviving(result: Result, what: str) -> Iterator[None]:
    """Have an error that nobody expects end this part of a `result` alone: it is named in the result and in the log.

    `what` is the part, as the subject of a sentence.
    """
    try:
        yield
    except Exception as error:
        line = note_mistake(f"{what} could not be made", error)
        result.missing.append(line)
        result.warnings.append(line)


def note_mistake(consequence: str, error: Exception) -> str:
    """Log an error that nobody expects, and return the line."""
    line = line_of_mistake(consequence, error)
    _log_once(line)
    return line


def line_of_mistake(consequence: str, error: Exception) -> str:
    """The line on an error that nobody expects. Its traceback is logged at level DEBUG."""
    words = " ".join(without_secrets(f"{type(error).__name__}: {error}").split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    place = f" ({Path(frames[-1].filename).relative_to(PACKAGE.parent)}:{frames[-1].lineno})" if frames else ""
    logger.debug("%s", consequence, exc_info=error)
    return f"{consequence}: {words}{place}; that is a mistake in dbkit: please report this line"


@cache
def _log_once(line: str) -> None:
    """A result so far fails again and again by the same mistake."""
    logger.error("%s", line)
