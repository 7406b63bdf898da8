"""A `<prefix>_comparison.json` read back: from this machine, or one that somebody sent, so nothing in it is trusted.

`COMPARISON` says what of such a file the outputs use, and what they may rely on; for its making see
`dbkit.analysis.result`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, get_args

from jsonschema import Draft202012Validator, FormatChecker

from dbkit.analysis.result import FORMAT, State
from dbkit.errors import DbkitError
from dbkit.output.csv_files import SLOT_COLUMNS, STRATEGY_COLUMNS

LONGEST_FAULT = 160

Schema = dict[str, Any]


def _object(properties: Mapping[str, Schema]) -> Schema:
    """The schema of an object that has all of these, whatever else it has."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _row(columns: Collection[str], others: Mapping[str, Schema]) -> Schema:
    """The schema of an object with these columns: figures, or what `others` says."""
    return _object({**dict.fromkeys(columns, _FIGURE), **others})


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


_TEXT: Schema = {"type": "string"}
_YES_OR_NO: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "number", "minimum": -1e15, "maximum": 1e15}
"""What tables can show, charts can draw and JavaScript holds exactly; 1e999 is good JSON too."""
_FIGURE = _or_null(_NUMBER)

_NAMES = dict.fromkeys(("user_class", "stack", "strategy"), _TEXT)

_STRATEGY = _row(
    STRATEGY_COLUMNS,
    {
        **_NAMES,
        "end": _TEXT,
        **dict.fromkeys(("bound_by", "largest_part"), _or_null(_TEXT)),
        "response_curve": _list(
            {
                "type": "array",
                "prefixItems": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, _NUMBER],
                "minItems": 2,
                "maxItems": 2,
            }
        ),
    },
)

_SLOT = _row(
    SLOT_COLUMNS,
    {
        **_NAMES,
        **dict.fromkeys(("round", "began_s", "seconds"), _NUMBER),
        **dict.fromkeys(("bound_by", "largest_part"), _or_null(_TEXT)),
        **dict.fromkeys(("disturbed", "incomplete", "replaced"), _YES_OR_NO),
    },
)

_BARE_SLOT = _object(
    {
        "user_class": _TEXT,
        **dict.fromkeys(("slot", "round", "seconds"), _NUMBER),
        **dict.fromkeys(("pages_per_s", "client_cpu_ms", "steal_share"), _FIGURE),
    }
)

_VERDICT = _object(
    {
        **dict.fromkeys(("quantity", "user_class", "reference", "sentence"), _TEXT),
        **dict.fromkeys(("ratio", "low", "high"), _FIGURE),
        **dict.fromkeys(("shown", "within_harness"), _YES_OR_NO),
    }
) | {
    # an interval has both ends, and lies around a ratio
    "if": {"properties": {"low": _NUMBER}},
    "then": {"properties": {"ratio": _NUMBER, "high": _NUMBER}},
}

_WINDOWS = _object(dict.fromkeys(("pages_per_s", "p95_ms"), _list(_FIGURE)))
# nothing else, as the report holds all of it
_TIMELINE = {"additionalProperties": False} | _object(
    {
        "window_s": _NUMBER,
        "began_s": _list(_NUMBER),
        "users": _list(_FIGURE),
        "classes": {"type": "object", "additionalProperties": {"additionalProperties": False} | _WINDOWS},
    }
)

_PLAN = _object(
    {
        **dict.fromkeys(("strategy", "which"), _TEXT),
        "page": _NUMBER,
        "note": _or_null(_TEXT),
        "statements": _list(
            _object(
                {
                    "sql": _TEXT,
                    "times": _NUMBER,
                    "execution_ms": _FIGURE,
                    **dict.fromkeys(("parameters", "plan", "note"), _or_null(_TEXT)),
                }
            )
        ),
    }
)

_SETTING = {**_NUMBER, "type": ["string", "number", "boolean", "null"]}
_SETTINGS = {"type": ["object", "null"], "additionalProperties": _SETTING}

COMPARISON: Schema = _object(
    {
        "dbkit_comparison": {"const": FORMAT},
        "state": {"enum": get_args(State)},
        "mixed": _YES_OR_NO,
        "headline": _list(_TEXT),
        "warnings": _list(_TEXT),
        "measured_on": {
            "type": "object",
            "properties": {
                "measured_at": {**_TEXT, "format": "date-time"},
                "packages": _SETTINGS,
                "options": _SETTINGS,
                "server": {**_SETTINGS, "properties": {"settings": _SETTINGS}},
            },
            "additionalProperties": _SETTING,
        },
        "reference": _or_null(_TEXT),
        "strategies": _list(_STRATEGY),
        "reference_named": _YES_OR_NO,
        "verdicts": _list(_VERDICT),
        "against_fastest": _list(_VERDICT),
        "slots": _list(_SLOT),
        "calibration": _list(_BARE_SLOT),
        "timeline": _or_null(_TIMELINE),
        "plans": _list(_PLAN),
    }
)
"""The schema of the file, as far as anything reads it: JSON Schema, draft 2020-12."""


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value) is not None


_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date-time", raises=ValueError)(_is_date_time)


def read_comparison(path: str) -> dict[str, Any]:
    """The content of a `<prefix>_comparison.json`, valid by `COMPARISON`.

    Raises DbkitError, naming the place and the fault, where it is none, or one of another version.
    """
    advice = "name a *_comparison.json, as `locust --csv` leaves them"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair can stand in JSON, and in no file
        invalid = next(Draft202012Validator(COMPARISON, format_checker=_FORMATS).iter_errors(content), None)
    except FileNotFoundError:
        raise DbkitError(f"{path}: no such file; {advice}") from None
    except OSError as error:
        raise DbkitError(f"{path}: cannot be read: {error.strerror}; {advice}") from None
    except RecursionError:
        raise DbkitError(f"{path}: no JSON: nested too deep; {advice}") from None
    except ValueError as error:
        raise DbkitError(f"{path}: no JSON: {error}; {advice}") from None
    if not isinstance(content, dict) or "dbkit_comparison" not in content:
        raise DbkitError(f"{path}: no comparison of dbkit's; {advice}")
    found = content["dbkit_comparison"]
    if isinstance(found, int) and found != FORMAT:
        raise DbkitError(f"{path}: of format {found}, and this dbkit reads {FORMAT}; use the dbkit that wrote it")
    if invalid is not None:
        place = invalid.json_path.removeprefix("$").removeprefix(".") or "the file"
        fault = _on_a_line(f"{place}: {invalid.message}")
        raise DbkitError(f"{path}: {fault}; it is not as dbkit wrote it, run the test again")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not of JSON")


def _on_a_line(text: str) -> str:
    """A message that may be very long: its beginning, and its end, which names the fault."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_FAULT else f"{text[: LONGEST_FAULT // 2]} … {text[-LONGEST_FAULT // 2 :]}"
