"""Figures as people read them, the same in every output: on the terminal, in the report, the summary and the web tab.

What the figures are is `dbkit.result`'s; where they stand is the outputs'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(value: float | None) -> str:
    """Three significant digits, and no more than three decimals; nothing for None."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.1 or value == 0 else f"{value:.3f}"


def limit(row: Mapping[str, Any]) -> str:
    """What bound a class, in a table's cell: `client CPU`, or `users, mostly db` with the largest part; or nothing."""
    if row["bound_by"] == "users" and row["largest_part"]:
        return f"users, mostly {row['largest_part']}"
    return row["bound_by"] or ""


def ratio(verdict: Mapping[str, Any] | None) -> str:
    """A verdict in a table's cell: `1.31 [1.22, 1.40]`, `not shown [0.97, 1.04]`, `too few rounds`, or nothing."""
    if verdict is None or verdict["ratio"] is None:
        return ""
    if verdict["low"] is None:
        return "too few rounds"
    interval = f"[{verdict['low']:.2f}, {verdict['high']:.2f}]"
    return f"{verdict['ratio']:.2f} {interval}" if verdict["shown"] else f"not shown {interval}"
