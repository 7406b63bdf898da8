"""The counts of every class of dbkit's own locustfiles, in `counts_comparison.json`: what the tests hold runs against.

Where a change is meant to alter them, renew the file:

    locust -f locustfiles/rounds.py --headless -u 2 --rounds 3 --plans none --csv results/counts
    python -m tests.counts results/counts_comparison.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dbkit.analysis.baseline import COUNTS
from dbkit.analysis.records import ClassRow
from dbkit.analysis.result import Result, empty_result
from dbkit.output.json_file import read_comparison

FILE = Path(__file__).with_name("counts_comparison.json")
NAMES = ("condition", "label", "workload", "user_class", "stack", "strategy", "settings", "users", "end")


def counts_alone(result: Result) -> Result:
    """The result without what was measured in time, and on what: it is compared on any machine."""
    rows = []
    for row in sorted(result.strategies, key=lambda row: row.condition):
        kept: dict[str, Any] = dict.fromkeys(ClassRow.__struct_fields__)
        kept |= {"pages": 0, "failures": 0, "unfinished": 0, "rounds": 0, "response_curve": []}
        rows.append(ClassRow(**kept | {name: getattr(row, name) for name in (*NAMES, *COUNTS)}))
    alone = empty_result()
    alone.strategies = rows
    return alone


if __name__ == "__main__":
    text = json.dumps(counts_alone(read_comparison(sys.argv[1])).as_json())
    FILE.write_text(text.replace("}, {", "},\n{") + "\n")  # a line a class
