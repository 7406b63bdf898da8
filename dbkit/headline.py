"""The answer in words: which class serves the most pages, how sure that is, why, and what limits it.

Words for what `dbkit.result` has computed; every output shows the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbkit.formats import number

Row = Mapping[str, Any]


def headline(strategies: Sequence[Row], verdicts: Sequence[Row], against_fastest: Sequence[Row]) -> list[str]:
    """Sentences on a run of rounds; `strategies` with the one that serves the most pages first."""
    served = [row for row in strategies if row["pages_per_s"]]
    if not served:
        return ["No page was served."]
    first = served[0]
    sentences = [_speed(first, alone=len(strategies) == 1)]
    if against_fastest:
        sentences.append(_how_sure(against_fastest))
    for verdict in verdicts:
        if (verdict["quantity"], verdict["user_class"]) == ("pages_per_s", first["user_class"]):
            if verdict["shown"]:
                sentences.append(f"{verdict['sentence']}.")
            elif verdict["low"] is not None:
                sentences.append(f"{verdict['user_class']} against {verdict['reference']}: {verdict['sentence']}.")
            reference = next(row for row in served if row["user_class"] == verdict["reference"])
            sentences.append(f"A page of {_cost(first)}; one of {_cost(reference)}.")
    if first["bound_by"]:
        sentences.append(f"{first['user_class']} is bound by {first['bound_by']}.")
    return sentences


def headline_of_mixed_run(strategies: Sequence[Row]) -> list[str]:
    """Sentences on a run without rounds: several classes at a time are not ranked."""
    served = [row for row in strategies if row["pages_per_s"]]
    if not served:
        return ["No page was served."]
    if len(strategies) == 1:
        return [_speed(served[0], alone=True)]
    together = sum(row["pages_per_s"] for row in served)
    return [
        f"{len(served)} user classes at once served {number(together)} pages a second together."
        " Which of them is faster cannot be told from this."
    ]


def _speed(row: Row, alone: bool) -> str:
    pages = number(row["pages_per_s"])
    served = f"{pages} pages a second" if alone else f"the most pages: {pages} a second"
    users = "1 user" if row["users"] == 1 else f"{row['users']} users"
    times = f"half of them within {number(row['p50_ms'])} ms and 95 % within {number(row['p95_ms'])} ms"
    return f"{row['user_class']} serves {served} with {users}, {times}."


def _how_sure(against_fastest: Sequence[Row]) -> str:
    if any(verdict["ratio"] is not None and verdict["low"] is None for verdict in against_fastest):
        return "The rounds are too few to tell whether others serve as many."
    alike = [
        f"{verdict['user_class']} [{verdict['low']:.2f}, {verdict['high']:.2f}]"
        for verdict in against_fastest
        if verdict["ratio"] is not None and not verdict["shown"]
    ]
    if not alike:
        return "Every other class is shown to serve fewer."
    return f"Not shown to serve fewer: {', '.join(alike)}."


def _cost(row: Row) -> str:
    statements = "1 statement" if row["statements"] == 1 else f"{number(row['statements'])} statements"
    costs = [statements, f"{number(row['rows'])} rows"]
    if row["client_cpu_ms"] is not None:
        costs.append(f"{number(row['client_cpu_ms'])} ms of client CPU")
    return f"{row['user_class']} takes {', '.join(costs[:-1])} and {costs[-1]}"
