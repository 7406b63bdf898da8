"""A result as one HTML file that opens anywhere, offline: the answer, the figures behind it, and charts of them.

Made from the content of `<prefix>_comparison.json` alone, so that it can be made again later. What the figures are is
`dbkit.result`'s; how they look is in `view/`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dbkit.errors import DbkitError
from dbkit.files import SLOT_COLUMNS, STRATEGY_COLUMNS, write_text
from dbkit.looks import looks
from dbkit.result import FORMAT
from dbkit.slot import Row
from dbkit.summary import facts
from dbkit.view import source, templates

_CHARTED = (
    *("user_class", "began_s", "seconds", "pages_per_s", "p95_ms", "steal_share", "other_cpu_share"),
    *("disturbed", "incomplete", "replaced"),
)
"""What charts need of a slot; the rest stands in the table, and would make the file twice as long."""

_VERDICT = ("quantity", "user_class", "reference", "ratio", "low", "high", "shown", "sentence")
_LISTS: Mapping[str, Collection[str]] = {
    "headline": (),
    "warnings": (),
    "strategies": (*STRATEGY_COLUMNS, "response_curve"),
    "verdicts": _VERDICT,
    "against_fastest": _VERDICT,
    "slots": SLOT_COLUMNS,
    "plans": ("strategy", "which", "page", "statements", "note"),
}
"""The lists in a comparison, and what their rows have."""
_STATEMENT = ("sql", "parameters", "times", "plan", "execution_ms", "note")
_WORDS = ("user_class", "stack", "strategy", "end", "bound_by")


def report(content: Mapping[str, Any]) -> str:
    """The HTML of a comparison, `content` being what its JSON file holds."""
    from plotly.offline import get_plotlyjs  # not before it is needed: it takes a while

    strategies, slots = content["strategies"], content["slots"]
    mixed = not slots and len(strategies) > 1
    cut_short = [warning for warning in content["warnings"] if warning.startswith("cut short")]
    plans: dict[str, list[Row]] = {}
    for entry in content["plans"]:
        plans.setdefault(entry["strategy"], []).append(entry)
    class_looks = looks([*strategies, *slots])
    data = {
        "looks": class_looks,
        "strategies": [{name: value for name, value in row.items() if name != "parts"} for row in strategies],
        "verdicts": content["verdicts"],
        "against_fastest": content["against_fastest"],
        "slots": {"columns": _CHARTED, "rows": [[row[column] for column in _CHARTED] for row in slots]},
        "timeline": content["timeline"],
    }
    return (
        templates()
        .get_template("report.html")
        .render(
            content=content,
            facts=facts(content),
            mixed=mixed,
            cut_short=cut_short,
            other_warnings=[warning for warning in content["warnings"] if warning not in cut_short],
            looks=class_looks,
            plans=plans,
            strategy_columns=STRATEGY_COLUMNS,
            slot_columns=SLOT_COLUMNS,
            data=data,
            style=Markup(source("style.css")),
            charts=Markup(source("charts.js")),
            plotly=Markup(get_plotlyjs()),
        )
    )


def write_report(content: Mapping[str, Any], path: str) -> None:
    """Write the HTML. Raises DbkitError, which names `--output`, where that cannot be done."""
    write_text(path, report(content), option="--output")


def read_comparison(path: str) -> dict[str, Any]:
    """The content of a `<prefix>_comparison.json`. Raises DbkitError where it is none, or one of another version."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DbkitError(f"{path}: no such file; name a *_comparison.json, as `locust --csv` leaves them") from None
    except OSError as error:
        raise DbkitError(f"{path}: cannot be read: {error.strerror}; name a *_comparison.json") from None
    except (ValueError, RecursionError):
        raise DbkitError(f"{path}: no JSON; name a *_comparison.json, as `locust --csv` leaves them") from None
    if not isinstance(content, dict) or "dbkit_comparison" not in content:
        raise DbkitError(f"{path}: no comparison of dbkit's; name a *_comparison.json, as `locust --csv` leaves them")
    if content["dbkit_comparison"] != FORMAT:
        found = content["dbkit_comparison"]
        raise DbkitError(f"{path}: of format {found}, and this dbkit reads {FORMAT}; use the dbkit that wrote it")
    if (fault := _fault(content)) is not None:
        raise DbkitError(f"{path}: {fault}; it is not as dbkit wrote it, run the test again")
    return content


def _fault(content: Mapping[str, Any]) -> str | None:
    """What of a comparison is missing or of the wrong kind; None where nothing is."""
    for name, keys in _LISTS.items():
        rows = content.get(name)
        if not isinstance(rows, list):
            return f"{name} is no list"
        for place, row in enumerate(rows):
            if not isinstance(row, dict if keys else str):
                return f"{name}[{place}] is no {'object' if keys else 'text'}"
            if missing := [key for key in keys if key not in row]:
                return f"{name}[{place}] lacks {', '.join(missing)}"
    for name in ("strategies", "slots"):
        for place, row in enumerate(content[name]):
            for column in STRATEGY_COLUMNS if name == "strategies" else SLOT_COLUMNS:
                if not isinstance(row[column], str if column in _WORDS else int | float) and row[column] is not None:
                    return f"{name}[{place}] has a {column} that is no {'text' if column in _WORDS else 'number'}"
    for place, entry in enumerate(content["plans"]):
        for statement in entry["statements"]:
            if missing := [key for key in _STATEMENT if key not in statement]:
                return f"a statement of plans[{place}] lacks {', '.join(missing)}"
    known = {row["user_class"] for name in ("strategies", "slots") for row in content[name]}
    named = [row["user_class"] for name in ("verdicts", "against_fastest") for row in content[name]]
    timeline = content.get("timeline")
    if timeline is not None:
        if not isinstance(timeline, dict) or not {"window_s", "began_s", "users", "classes"} <= timeline.keys():
            return "timeline lacks its columns"
        named += timeline["classes"]
    if unknown := [name for name in named if name not in known]:
        return f"{unknown[0]} has no row in strategies"
    if not isinstance(content.get("measured_on"), dict):
        return "measured_on is no object"
    return None if "reference" in content else "reference is missing"
