"""A `<prefix>_comparison.json` read back: from this machine, or one that somebody sent, so nothing in it is trusted.

What such a file holds, and in which bounds, is in `dbkit.analysis.result`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from dbkit.analysis.result import FORMAT, Result
from dbkit.errors import DbkitError, printable

LONGEST_FAULT = 160

_ADVICE = "name a *_comparison.json, as `locust --csv` leaves them"


def read_comparison(path: str) -> Result:
    """The result in a `<prefix>_comparison.json`. What this version does not know in it is left out.

    Raises DbkitError, naming the place and the fault, where the file is not valid, or of another format.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or "dbkit_comparison" not in content:
        raise DbkitError(f"{path}: not a comparison of dbkit; {_ADVICE}")
    found = content["dbkit_comparison"]
    if isinstance(found, int) and found != FORMAT:
        raise DbkitError(f"{path}: format {found}, and this dbkit reads format {FORMAT}; use the dbkit that wrote it")
    try:
        result = msgspec.convert(content, Result)
        _check_time(result)
    except msgspec.ValidationError as error:
        fault, _, place = str(error).rpartition(" - at `$")
        fault = f"{place.rstrip('`').removeprefix('.')}: {fault}" if fault else str(error)
        raise DbkitError(f"{path}: {_on_a_line(fault)}; this dbkit did not write it: run the test again") from None
    return result


def _read_json(path: str) -> Any:
    try:
        return _printable(msgspec.json.decode(Path(path).read_bytes()))
    except FileNotFoundError:
        raise DbkitError(f"{path}: no such file; {_ADVICE}") from None
    except OSError as error:
        raise DbkitError(f"{path}: cannot be read: {error.strerror}; {_ADVICE}") from None
    except RecursionError:
        raise DbkitError(f"{path}: not JSON: nested too deep; {_ADVICE}") from None
    except msgspec.DecodeError as error:
        raise DbkitError(f"{path}: not JSON: {_on_a_line(str(error))}; {_ADVICE}") from None


def _printable(content: Any) -> Any:
    """The content with texts that do nothing to a terminal, where summaries and messages are shown."""
    if isinstance(content, str):
        return content if content.isprintable() else printable(content, besides="\n\t")
    if isinstance(content, list):
        return [_printable(each) for each in content]
    if isinstance(content, dict):
        return {_printable(name): _printable(value) for name, value in content.items()}
    return content


def _check_time(result: Result) -> None:
    """Raise ValidationError where the result names a time at which it was measured that is none."""
    measured_at = result.measured_on.get("measured_at")
    try:
        if measured_at is not None:
            datetime.fromisoformat(str(measured_at))
    except ValueError as error:
        raise msgspec.ValidationError(f"{error} - at `$.measured_on.measured_at`") from None


def _on_a_line(text: str) -> str:
    """A message that may be very long: its beginning, and its end, which names the fault."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_FAULT else f"{text[: LONGEST_FAULT // 2]} … {text[-LONGEST_FAULT // 2 :]}"
