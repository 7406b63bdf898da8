"""A result as a few lines of Markdown: for a comment on a pull request, or the page of a CI job.

For the words see `dbkit.analysis.headline`, for the figures `dbkit.analysis.records`; everything else is in the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from dbkit.analysis.checks import tally
from dbkit.analysis.formats import number, shortened
from dbkit.analysis.parts import leading, parts
from dbkit.analysis.regressions import added, advice, changes, compared
from dbkit.analysis.result import Result, WorkloadInfo
from dbkit.errors import printable
from dbkit.output.view import templates

MOST_LINES = 30
"""How many lines of code a block in a summary has."""
MOST_LETTERS = 300
"""How many letters such a line has."""
POOL_SETTINGS = {"pool-size", "max-overflow", "pool-class"}
"""Where one of these varies, the pool is not the same for all."""


def summary(result: Result) -> str:
    """Markdown as GitHub renders it."""
    text = (
        templates()
        .get_template("summary.md")
        .render(
            result=result,
            parts=parts(result),
            leading=leading(result),
            facts=facts(result),
            md=_escaped,
            tally=tally,
            open_loop=_is_open_loop(result),
            changes=(found := changes(result)),
            compared=compared(found),
            advice=advice(result) if result.revisions else "",
            added=added,
            code=_code,
        )
    )
    return re.sub("\n{3,}", "\n\n", text).strip() + "\n"


def _code(text: str, language: str) -> str:
    """A block of code as it stands, of its first lines, between fences that are longer than any in it."""
    lines = printable(text, besides="\n\t").splitlines()
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES} more lines"]
    shown = "\n".join(shortened(line, MOST_LETTERS) for line in lines)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", shown)), 3)
    return f"{fence}{language}\n{shown}\n{fence}"


def _is_open_loop(result: Result) -> bool:
    return any(row.arrivals_per_s is not None for row in result.strategies)


def facts(result: Result) -> dict[str, str]:
    """When, on what and with which options a result was measured, in a few words each; what is unknown is left out."""
    measured_on = result.measured_on
    server, options, packages = (_settings(measured_on.get(name)) for name in ("server", "options", "packages"))
    # as in the headline: there may have been fewer than the option asked for
    users = sorted({row.users for row in result.strategies if row.users is not None})
    varied = {name for row in result.strategies for name in row.settings}
    arrivals = str(options.get("arrivals") or "").replace(",", ", ")
    known = {
        "measured": _time(measured_on.get("measured_at")),
        "server": _with("PostgreSQL {}", server.get("postgresql")),
        "users": ", ".join(map(str, users)) or _with("{}", options.get("num_users")),
        "arrivals": _with("{} a second, {}", arrivals or None, options.get("arrival_spacing")),
        "settings that vary": _with("{}", options.get("vary") or None),
        "limit": _with("{}", options.get("limit") or None),
        "rounds": _rounds(result, options),
        **_facts_of_workloads(result.workloads),
        "think time": _with("{} s", options.get("think_time") or None),
        "pages end by": None if "end" in varied else _with("{}", options.get("end")),
        "pool": None if varied & POOL_SETTINGS else _pool(options),
        "processes": _with("{}", options.get("processes")),
        "machine": _with("{}, {} cores", measured_on.get("processor"), measured_on.get("cores")),
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in {"Python": measured_on.get("python"), **packages}.items()
            if version and name != "dbkit"
        ),
    }
    return {name: value for name, value in known.items() if value}


def _facts_of_workloads(workloads: Sequence[WorkloadInfo]) -> dict[str, str]:
    """Which pages were read, and how it was checked that they are right; of several workloads it stands with each."""
    if len(workloads) != 1:
        return {}
    return {"pages": workloads[0].pages, "check": workloads[0].check}


def _rounds(result: Result, options: Mapping[str, object]) -> str | None:
    """How many rounds there were to be; a search has as many as it takes."""
    if not result.slots:
        return None
    rounds = max(row.round for row in result.slots) if options.get("limit") else options.get("rounds")
    return _with("{} of {} s a turn", rounds, options.get("slot_time"))


def _pool(options: Mapping[str, object]) -> str | None:
    if options.get("pool_class") == "null":
        return "none"
    return _with("{} + {} connections", options.get("pool_size"), options.get("max_overflow"))


def _with(words: str, *values: object) -> str | None:
    """The words with the values in them, where all are known."""
    if any(value is None for value in values):
        return None
    return words.format(*(number(value) if isinstance(value, float) else value for value in values))


def _settings(value: object) -> Mapping[str, object]:
    """Settings by name; none where the value is something else."""
    return value if isinstance(value, dict) else {}


def _time(value: object) -> str | None:
    """`2026-11-22T14:45:24+00:00` as `22 Nov 2026, 14:45 UTC`."""
    if value is None:
        return None
    time = datetime.fromisoformat(str(value))
    zone = time.strftime("%Z") or "local time"
    return f"{time.day} {time:%b %Y, %H:%M} {zone}"


def _escaped(text: object) -> str:
    """Text as it stands, on one line: none of it is Markdown, HTML or the end of a table's cell."""
    one_line = printable(" ".join(str(text).split()))
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~!&$@])", r"\\\1", one_line)
    return re.sub(r"^(\d*)([-+=.)])(?=[\s=]|$)", r"\1\\\2", escaped)  # what would begin a list, or underline a heading
