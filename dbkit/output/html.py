"""A result as one HTML file that opens anywhere, offline: the answer, the figures behind it, and charts of them.

Made from the content of `<prefix>_comparison.json` alone, so that it can be made again later: reading that is
`dbkit.output.json_file`'s. What the figures are is `dbkit.analysis.result`'s; how they look is in `view/`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dbkit.analysis.slot import Row
from dbkit.output.csv_files import SLOT_COLUMNS, STRATEGY_COLUMNS
from dbkit.output.looks import looks
from dbkit.output.markdown import facts
from dbkit.output.view import CHARTED_OF_SLOTS, source, templates

MOST_SLOTS = 1500
"""With more than these the file leaves out their table and draws every few of them, so that it stays below 6 MB."""

_CHARTED_OF_VERDICTS = ("quantity", "user_class", "reference", "ratio", "low", "high", "shown", "sentence")


def report(content: Mapping[str, Any]) -> str:
    """The HTML of a comparison, `content` being what its JSON file holds."""
    from plotly.offline import get_plotlyjs  # not before it is needed: it takes a while

    strategies, slots = content["strategies"], content["slots"]
    plans: dict[str, list[Row]] = {}
    for entry in content["plans"]:
        plans.setdefault(entry["strategy"], []).append(entry)
    class_looks = looks([*strategies, *slots])
    # their order is random in each round, so that every class keeps about its share
    every_nth_slot = max(math.ceil(len(slots) / MOST_SLOTS), 1)
    drawn = [[row[name] for name in CHARTED_OF_SLOTS] for row in slots[::every_nth_slot]]
    data = {
        "looks": class_looks,
        "strategies": _only((*STRATEGY_COLUMNS, "response_curve"), strategies),
        "verdicts": _only(_CHARTED_OF_VERDICTS, content["verdicts"]),
        "against_fastest": _only(_CHARTED_OF_VERDICTS, content["against_fastest"]),
        "slots": {"columns": CHARTED_OF_SLOTS, "rows": drawn},
        "timeline": content["timeline"],
    }
    return (
        templates()
        .get_template("report.html")
        .render(
            content=content,
            facts=facts(content),
            looks=class_looks,
            plans=plans,
            every_nth_slot=every_nth_slot,
            strategy_columns=STRATEGY_COLUMNS,
            slot_columns=SLOT_COLUMNS,
            data=data,
            style=Markup(source("style.css")),
            charts=Markup(source("charts.js")),
            plotly=Markup(get_plotlyjs()),
        )
    )


def _only(columns: Collection[str], rows: Sequence[Row]) -> list[Row]:
    return [{name: row[name] for name in columns} for row in rows]
