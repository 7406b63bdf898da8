"""How many pages were asked for, served and failed: by the soak's own files, by Locust, and by dbkit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbkit.database.stacks import STACKS
from tests.locust_runs import LocustRun


def counts(folder: Path, what: str) -> Counter[str]:
    """The pages of each stack that were `asked`, `served` or `failed` so far: see `tests.soak.pages`."""
    found: Counter[str] = Counter(dict.fromkeys(STACKS, 0))
    for file in folder.glob(f"*.{what}.*"):
        found[file.name.split(".")[0]] += file.stat().st_size
    return found


def differences(run: LocustRun, folder: Path, *, in_rounds: bool) -> Iterator[str]:
    """What does not add up in a run that has ended."""
    asked, served, failed = (counts(folder, what) for what in ("asked", "served", "failed"))
    comparison = json.loads((run.folder / "run_comparison.json").read_text())
    of_locust = {
        row["Type"]: (int(row["Request Count"]), int(row["Failure Count"])) for row in run.rows() if row["Type"]
    }
    for stack in STACKS:
        ours = {"asked": asked[stack], "served": served[stack], "failed": failed[stack]}
        if asked[stack] != served[stack] + failed[stack]:
            yield f"{stack}: asked is not served + failed: {ours}"
        if of_locust[stack] != (asked[stack], failed[stack]):
            yield f"{stack}: Locust has pages and failures {of_locust[stack]}, the recorder {ours}"
        if not served[stack]:
            yield f"{stack}: no page was served"
    ended = served + failed
    if (in_all := comparison["measured_on"]["pages_in_all"]) != ended.total():
        yield f"dbkit has {in_all} pages in all, the recorder {ended.total()}"
    yield from _slots_differ(run, ended) if in_rounds else _rows_differ(comparison["strategies"], ended, failed)
    if comparison["missing"]:
        yield f"parts of the result are missing: {comparison['missing']}"


def _rows_differ(rows: list[dict[str, Any]], ended: Counter[str], failed: Counter[str]) -> Iterator[str]:
    found = {row["stack"]: (row["pages"], row["failures"]) for row in rows}
    for stack in STACKS:
        if found[stack] != (ended[stack], failed[stack]):
            yield f"{stack}: dbkit has pages and failures {found[stack]}, the recorder {ended[stack], failed[stack]}"


def _slots_differ(run: LocustRun, ended: Counter[str]) -> Iterator[str]:
    """The slot in which a run is stopped is in no row: one stack may have more pages than its slots."""
    in_slots: Counter[str] = Counter()
    for row in run.rows("slots"):
        in_slots[row["stack"]] += int(row["pages"]) + int(row["warm_up_pages"])
    differing = [stack for stack in STACKS if in_slots[stack] != ended[stack]]
    if len(differing) > 1 or any(in_slots[stack] > ended[stack] for stack in differing):
        yield f"slots have the pages {dict(in_slots)}, the recorder {dict(ended)}"
