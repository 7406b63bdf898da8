"""A result as files beside Locust's own: `<prefix>_strategies.csv`, `<prefix>_slots.csv`, `<prefix>_comparison.json`.

Each, as every file that dbkit writes, is written beside and renamed, so that a reader finds the old file or the new
one, never half of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from dbkit.analysis.result import SIGNIFICANT_DIGITS, Result
from dbkit.analysis.slot import PERCENTILES, Row
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.output.writing import write_text

FIGURES = (
    *("pages", "failures", "unfinished", "pages_per_s", *PERCENTILES, "max_ms", *COUNTS, *PARTS),
    *("server_wait_ms", "answer_wait_ms", "think_ms"),
)
STRATEGY_COLUMNS = (
    *("user_class", "stack", "strategy", "users", "rounds"),
    *FIGURES,
    *("client_cpu_ms", "server_cpu_ms", "end", "bound_by", "largest_part"),
    *("harness_share", "harness_share_low", "harness_share_high"),
)
SLOT_COLUMNS = (
    *("slot", "round", "user_class", "stack", "strategy", "users", "began_s", "seconds"),
    *FIGURES,
    *("client_cpu_ms", "server_cpu_ms", "bound_by", "largest_part", "warm_up_pages"),
    *("client_cpu_share", "core_wait_share", "server_cpu_share", "other_cpu_share", "steal_share", "pressure_share"),
    *("hub_lag_ms", "lane_lag_ms", "hub_stall_ms", "disturbed", "incomplete", "replaced"),
)
FILES: dict[str, Callable[[Result], str]] = {
    "strategies.csv": lambda result: _table(STRATEGY_COLUMNS, result.strategies),
    "slots.csv": lambda result: _table(SLOT_COLUMNS, result.slots),
    "comparison.json": lambda result: json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n",
}
"""What makes the content of each file, by the end of its name."""


def write_files(result: Result, prefix: str) -> None:
    """Write all three. Raises DbkitError where that cannot be done."""
    for name, content in FILES.items():
        write_text(f"{prefix}_{name}", content(result), option="--csv")


def cell(value: object) -> object:
    """A value as the CSV files have it; None stays, and is written as nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else value


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(cell(row[column]) for column in columns)
    return text.getvalue()
