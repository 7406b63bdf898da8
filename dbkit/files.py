"""A result as files beside Locust's own: `<prefix>_strategies.csv`, `<prefix>_slots.csv`, `<prefix>_comparison.json`.

Each, as every file that dbkit writes, is written beside and renamed, so that a reader finds the old file or the new
one, never half of it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from dbkit.cost import COUNTS, PARTS
from dbkit.errors import DbkitError
from dbkit.result import SIGNIFICANT_DIGITS, Result
from dbkit.slot import PERCENTILES, Row

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


def write_text(name: str, content: str, *, option: str) -> None:
    """Write a file, and the folders that it is in. Raises DbkitError, which names the `option`, where it cannot be."""
    try:
        if _takes_text(Path(name)):
            Path(name).write_text(content, encoding="utf-8")
            return
        path, beside = _places(name)
        try:
            beside.write_text(content, encoding="utf-8")
            if path.exists():
                shutil.copymode(path, beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DbkitError(f"cannot write {name}: {error.strerror}; choose another place with {option}") from None


def check_writable(name: str, *, option: str) -> None:
    """Make the folders of a file to be. Raises DbkitError, as `write_text` would, where it cannot be written."""
    try:
        if Path(name).is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if not _takes_text(Path(name)):
            _, beside = _places(name)
            beside.touch()
            beside.unlink()
    except OSError as error:
        raise DbkitError(f"cannot write {name}: {error.strerror}; choose another place with {option}") from None


def _takes_text(path: Path) -> bool:
    """Whether it is a device or a pipe, such as /dev/stdout, which is written to and not replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _places(name: str) -> tuple[Path, Path]:
    """Where a file is to be, in a folder that is made, and where it is written before. Of a link it is the target."""
    path = Path(os.path.realpath(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, path.with_name(f".{path.name}.{os.getpid()}")


def check_distinct(paths: Mapping[str, str]) -> None:
    """Raise DbkitError where two of the paths are one file; each is keyed by what names it, such as `--report`.

    Symbolic links are followed, and what is not there yet is compared by where it would be.
    """
    for (one, path), (other, other_path) in combinations(paths.items(), 2):
        if os.path.realpath(path) == os.path.realpath(other_path):
            raise DbkitError(f"{one} and {other} are the same file, {path}; choose another place for one of them")


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
