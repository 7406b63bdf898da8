"""A result as files beside Locust's own: `<prefix>_strategies.csv`, `<prefix>_slots.csv`, `<prefix>_comparison.json`.

Each is written beside and renamed, so that a reader finds the old file or the new one, never half of it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from dbkit.cost import COUNTS
from dbkit.errors import DbkitError
from dbkit.result import PERCENTILES, Result, Row
from dbkit.tally import TIMES

FIGURES = ("pages", "failures", "pages_per_s", *PERCENTILES, "max_ms", *COUNTS, *TIMES[1:])
STRATEGY_COLUMNS = (
    *("user_class", "stack", "strategy", "users", "rounds"),
    *FIGURES,
    *("client_cpu_ms", "server_cpu_ms", "end", "bound_by"),
)
SLOT_COLUMNS = (
    *("slot", "round", "user_class", "stack", "strategy", "users", "began_s", "seconds"),
    *FIGURES,
    *("client_cpu_ms", "server_cpu_ms", "bound_by", "unfinished", "warm_up_pages"),
    *("client_cpu_share", "core_wait_share", "server_cpu_share", "other_cpu_share", "steal_share", "pressure_share"),
    *("hub_lag_ms", "loop_lag_ms", "harness_held_back", "disturbed", "incomplete", "replaced"),
)

SIGNIFICANT_DIGITS = 6
"""More would be noise; percentiles have three to begin with."""


def write_files(result: Result, prefix: str) -> list[Path]:
    """Write all three and return their paths. Raises DbkitError where that cannot be done."""
    contents = {
        f"{prefix}_strategies.csv": _table(STRATEGY_COLUMNS, result.strategies),
        f"{prefix}_slots.csv": _table(SLOT_COLUMNS, result.slots),
        f"{prefix}_comparison.json": json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n",
    }
    try:
        for name, content in contents.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            beside.write_text(content, encoding="utf-8")
            beside.replace(path)
    except OSError as error:
        raise DbkitError(f"cannot write {name}: {error.strerror}; choose another place with --csv") from None
    return [Path(name) for name in contents]


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_cell(row[column]) for column in columns)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else value
