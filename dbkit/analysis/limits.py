"""Limits that a figure is to keep, as people write them: `p95_ms < 50`, `failures = 0`, `pages_per_s > 99 % of best`.

Which figures there are follows from `dbkit.analysis.records`. Where a limit stops being kept is found in
`dbkit.analysis.search`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite

from dbkit.analysis.columns import Group, columns
from dbkit.analysis.formats import number
from dbkit.analysis.records import PageFigures
from dbkit.errors import DbkitError

BEST = "best"
"""What a share can be of: the best value among those that are searched."""

FIGURES = {
    column.name: column
    for column in columns(PageFigures)
    if column.group in (Group.PAGES, Group.RESPONSE, Group.COUNTS, Group.PARTS, Group.CPU)
}
"""The columns that a limit can be on, by their names."""

_WORDS = {"<": "under", "<=": "at most at", ">": "over", ">=": "at least at", "=": "at"}
_FORM = re.compile(
    r"\s*(?P<figure>\w+)\s*(?P<comparison><=|>=|<|>|=)\s*"
    r"(?:(?P<alone>[^\W\d]\w*)"
    r"|(?P<number>[0-9.eE+-]+)\s*(?:(?P<percent>%)\s*of\s+(?P<of_percent>\w+)|\*\s*(?P<of_factor>\w+))?)\s*"
)


@dataclass(frozen=True)
class Limit:
    """What one figure of a row is to keep."""

    figure: str
    """The name of a column, such as `p95_ms`."""
    comparison: str
    """`<`, `<=`, `>`, `>=` or `=`."""
    number: float
    """What the figure is compared with, in the figure's unit, or as a share of that of the `reference`."""
    reference: str = ""
    """What the number is a share of, such as `best`; empty where it is no share."""

    @property
    def is_upper(self) -> bool:
        """Whether more of the figure breaks it."""
        return self.comparison in ("<", "<=")

    @property
    def is_lower(self) -> bool:
        """Whether less of the figure breaks it."""
        return self.comparison in (">", ">=")

    @property
    def is_exact(self) -> bool:
        """Whether it is kept or broken without a more or less, as `failures = 0` is."""
        return self.comparison == "=" or self.number == 0

    def is_kept(self, value: float, reference: float = 1.0) -> bool:
        """Whether a value of the figure keeps it; of a share also the value that the `reference` has is needed."""
        bound = self.number * reference
        match self.comparison:
            case "<":
                return value < bound
            case "<=":
                return value <= bound
            case ">":
                return value > bound
            case ">=":
                return value >= bound
        return value == bound

    @property
    def words(self) -> str:
        """What is kept, in a sentence: `p95 under 50 ms`, `pages/s over 99 % of the best`, `failures at 0`."""
        column = FIGURES[self.figure]
        name = column.heading if column.unit and column.heading else self.figure.removesuffix("_ms").replace("_", " ")
        if self.reference:
            bound = f"{self.number * 100:g} % of the {self.reference}"
        else:
            bound = number(self.number) + (" ms" if column.unit == "ms" else "")
        return f"{name} {_WORDS[self.comparison]} {bound}"

    def __str__(self) -> str:
        """The limit as it can be read again, in one form."""
        bound = f"{self.number:g}"
        if self.reference == BEST:
            bound = f"{self.number * 100:g} % of {BEST}"
        elif self.reference:
            bound = self.reference if self.number == 1 else f"{bound} * {self.reference}"
        return f"{self.figure} {self.comparison} {bound}"


def read_limit(text: str, references: Collection[str] | None = (BEST,), more: Collection[str] = ()) -> Limit:
    """A limit as it is written: FIGURE COMPARISON NUMBER, where a share is `99 % of NAME`, `0.99 * NAME` or `NAME`.

    Shares can be of the `references`; with None of whatever is named. `more` figures are known beside `FIGURES`. Raises
    DbkitError for another form, an unknown figure or reference, and for a limit that nothing could keep or break.
    """
    form = _FORM.fullmatch(text)
    # a word alone is a reference, or else no number
    if form is None or (form["alone"] and references is not None and form["alone"] not in references):
        example = "before" if references is None else next(iter(references), "")
        share = f" or pages_per_s > 99 % of {example}" if example else ""
        raise DbkitError(
            f"invalid value {text!r}: expected a figure, one of < <= > >= =, and a number, such as p95_ms < 50,"
            f" failures = 0{share}"
        )
    figure = form["figure"]
    if figure not in FIGURES and figure not in more:
        raise DbkitError(f"there is no figure {figure}: choose one of {', '.join([*FIGURES, *more])}")
    reference = form["alone"] or form["of_percent"] or form["of_factor"] or ""
    if reference and references is not None and reference not in references:
        raise DbkitError(f"invalid value {text!r}: a share can be of {' or '.join(references) or 'nothing'}")
    bound = _number(form["number"] or "1", text) / (100 if form["percent"] else 1)
    limit = Limit(figure, form["comparison"], bound, reference)
    _check(limit, text)
    return limit


def _number(written: str, text: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0:
        raise DbkitError(f"invalid value {text!r}: expected a number of at least 0, and not {written}")
    return value


def _check(limit: Limit, text: str) -> None:
    """Raise DbkitError for a limit that says nothing."""
    reason = ""
    if limit.number == 0 and limit.comparison in ("<", ">="):
        reason = f"no figure is below 0; write {limit.figure} = 0 or > 0"
    elif limit.reference == BEST and (limit.is_exact or (limit.number < 1 if limit.is_upper else limit.number > 1)):
        reason = f"write {limit.figure} > 99 % of best, or < 110 % of best where less is better"
    if reason:
        raise DbkitError(f"invalid value {text!r}: {reason}")
