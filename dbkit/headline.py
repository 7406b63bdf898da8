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
    sentences = [_speed(first, alone=len(strategies) == 1), *_failed(first)]
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
    """Sentences on a run of several classes at once: they are not ranked."""
    served = [row for row in strategies if row["pages_per_s"]]
    if not served:
        return ["No page was served."]
    together = sum(row["pages_per_s"] for row in served)
    classes = "1 of several user classes" if len(served) == 1 else f"{len(served)} user classes at once"
    return [
        f"{classes} served {number(together)} pages a second{'' if len(served) == 1 else ' together'}."
        " Which of them is faster cannot be told from this."
    ]


def headline_of_one_class(strategies: Sequence[Row]) -> list[str]:
    """Sentences on a run of one class without rounds."""
    served = [row for row in strategies if row["pages_per_s"]]
    return [_speed(served[0], alone=True, up_to=True), *_failed(served[0])] if served else ["No page was served."]


def _failed(row: Row) -> list[str]:
    return [f"But {row['failures']} of its {row['pages']} pages failed."] if row["failures"] else []


def _speed(row: Row, *, alone: bool, up_to: bool = False) -> str:
    pages = number(row["pages_per_s"])
    served = f"{pages} pages a second" if alone else f"the most pages: {pages} a second"
    users = "1 user" if row["users"] == 1 else f"{'up to ' if up_to else ''}{row['users']} users"
    times = f"half of them within {number(row['p50_ms'])} ms and 95 % within {number(row['p95_ms'])} ms"
    return f"{row['user_class']} serves {served} with {users}, {times}."


def _how_sure(against_fastest: Sequence[Row]) -> str:
    known = [verdict for verdict in against_fastest if verdict["ratio"] is not None]
    if any(verdict["low"] is None for verdict in known):
        return "The rounds are too few to tell whether others serve as many."
    alike = [
        f"{verdict['user_class']} [{verdict['low']:.2f}, {verdict['high']:.2f}]"
        for verdict in known
        if verdict["high"] >= 1
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
