"""A result as one HTML file that opens anywhere, offline: the answer, the figures behind it, and charts of them.

It needs the result alone, so that it can be made again later from the JSON file: see `dbkit.output.json_file`. How it
looks is in `view/`.
"""

from __future__ import annotations

import math
from base64 import b64encode
from hashlib import sha256
from typing import Any

from markupsafe import Markup
from msgspec import to_builtins

from dbkit.analysis.parts import Part, leading, parts
from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.regressions import advice, changes, compared
from dbkit.analysis.result import Result
from dbkit.output.columns import file_columns
from dbkit.output.looks import Look, looks
from dbkit.output.markdown import facts
from dbkit.output.view import CHARTED_OF_SLOTS, charted_of_ladders, source, templates

MOST_SLOTS = 1500
"""With more than these the file leaves out their table and draws every few of them, so that it stays below 6 MB."""


def report(result: Result) -> str:
    """The HTML of a result."""
    from plotly.offline import get_plotlyjs  # not before it is needed: it takes a while

    every_nth_slot = max(math.ceil(len(result.slots) / MOST_SLOTS), 1)
    class_looks = looks([*result.strategies, *result.slots])
    workloads = parts(result) if result.strategies or result.revisions is None else []
    data: dict[str, Any] = {
        "timeline": to_builtins(result.timeline),
        "columns_of_slots": CHARTED_OF_SLOTS,
        "parts": [_charted(part, class_looks, every_nth_slot) for part in workloads],
    }
    scripts = get_plotlyjs(), source("charts.js"), source("report.js")
    return (
        templates()
        .get_template("report.html")
        .render(
            result=result,
            parts=workloads,
            leading=leading(result),
            facts=facts(result),
            looks=class_looks,
            changes=(found := changes(result)),
            compared=compared(found),
            advice=advice(result) if result.revisions else "",
            every_nth_slot=every_nth_slot,
            strategy_columns=file_columns(ClassRow, result.strategies),
            slot_columns=file_columns(SlotRow, result.slots),
            data=data,
            style=Markup(source("style.css")),
            scripts=[Markup(script) for script in scripts],
            known_scripts=Markup(" ".join(map(_hash, scripts))),
        )
    )


def _hash(script: str) -> str:
    """How the report's policy names a script of its own: browsers run no other, whatever the result holds."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _charted(part: Part, class_looks: dict[str, Look], every_nth_slot: int) -> dict[str, Any]:
    """What charts show of one workload."""
    rows = [*part.strategies, *part.slots]
    # their order is random in each round, so that every class keeps about its share
    charted = part.charted(part.slots)[::every_nth_slot]
    of_load = {row.condition for row in part.charted(rows)}
    return {
        "looks": {row.condition: class_looks[row.condition] for row in rows},
        "ladder": to_builtins(part.ladder),
        "all": charted_of_ladders(part),
        "limits": to_builtins(part.limits),
        "strategies": to_builtins(part.charted(part.strategies)),
        "verdicts": to_builtins([each for each in part.verdicts if each.condition in of_load]),
        "against_fastest": to_builtins([each for each in part.against_fastest if each.condition in of_load]),
        "slots": [[getattr(row, name) for name in CHARTED_OF_SLOTS] for row in charted],
    }
