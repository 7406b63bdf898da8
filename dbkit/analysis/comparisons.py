"""Which rows are compared by which quantities, the verdicts, and whether the harness can account for a difference.

The statistics of one verdict are in `dbkit.analysis.verdict`, the rows in `dbkit.analysis.rows`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import fmean

from dbkit.analysis.condition import Condition
from dbkit.analysis.formats import harness_share, listed
from dbkit.analysis.intervals import mean_of_slots
from dbkit.analysis.pairs import LOAD, Group, Pairing
from dbkit.analysis.records import BareRow, ClassRow, SlotRow, Verdict
from dbkit.analysis.rows import PERCENTILES, round_figure, rounded
from dbkit.analysis.slot import has_ratio
from dbkit.analysis.verdict import (
    CLIENT_CPU_MS,
    PAGES_PER_S,
    SERVER_CPU_MS,
    Comparison,
    Model,
    Observation,
    Quantity,
    response_time,
    sentence,
)

QUANTITIES: dict[str, Quantity] = {
    "pages_per_s": PAGES_PER_S,
    **{name: response_time(name.removesuffix("_ms")) for name in PERCENTILES},
    "client_cpu_ms": CLIENT_CPU_MS,
    "server_cpu_ms": SERVER_CPU_MS,
}
"""What conditions are compared by, under the name of the column that holds it."""


@dataclass
class Verdicts:
    """All verdicts of a result."""

    against_reference: list[Verdict] = field(default_factory=list)
    against_fastest: list[Verdict] = field(default_factory=list)
    """On the leading quantity; none where the reference was named."""


def compare_rows(
    slots: Sequence[SlotRow],
    models: Mapping[str, Model],
    rows: Mapping[Condition, ClassRow],
    found: Sequence[Pairing],
    quantities: Collection[str],
    leading: str,
    error: float,
) -> Verdicts:
    """Compare the rows as they were paired, by each of the `quantities`; `models` are of those that have one already.

    The intervals of one quantity hold together: they miss in a share `error` of runs.

    Loads are compared with the smallest where nothing else differs, and with the fastest in any case: by the `leading`
    quantity, which is pages a second, or else a response time.
    """
    verdicts = Verdicts()
    only_loads = len(found) == 1
    for column in quantities:
        model = models.get(column) or model_of(slots, column)
        for pairing in found:
            is_told = only_loads or pairing.differs_in != LOAD
            if not is_told and column != leading:
                continue
            # which are the slowest and the fastest is seen in the data: then any pair of a group could have been it
            family = [(rows[one].label, rows[other].label) for one, other in pairing.family]
            of_each = model.error_of_each(family, error)
            if is_told:
                verdicts.against_reference += _verdicts(column, model, pairing, pairing.pairs, of_each, rows)
            if column == leading and not pairing.named:
                pairs = [pair for group in pairing.groups for pair in _with_fastest(group, rows, leading)]
                verdicts.against_fastest += _verdicts(column, model, pairing, pairs, of_each, rows)
    return verdicts


def _with_fastest(group: Group, rows: Mapping[Condition, ClassRow], leading: str) -> list[tuple[Condition, Condition]]:
    if leading == "pages_per_s":
        fastest = max(group.members, key=lambda each: rows[each].pages_per_s or 0)
    else:
        fastest = min(group.members, key=lambda each: getattr(rows[each], leading) or inf)
    return [(each, fastest) for each in group.members if each != fastest]


def model_of(rows: Iterable[SlotRow | BareRow], column: str, labels: Mapping[int, str] | None = None) -> Model:
    """The model of one column of the slots; `labels` replace those of some slots, by their number.

    For `pages_per_s` it leaves out what served no page in some slot: its other slots alone would flatter it. A column
    that is none of the `QUANTITIES` is taken for a time, which steal raises. Figures that have no ratio are left out.
    Several slots of one condition in one round, which the same processes have read, are one observation: their mean.
    """
    labels = labels or {}
    known = [(labels.get(row.slot, row.label), row.round, getattr(row, column), row.steal_share) for row in rows]
    empty = {label for label, _, value, _ in known if not value} if column == "pages_per_s" else set()
    of_round: defaultdict[tuple[str, int], list[tuple[float, float | None]]] = defaultdict(list)
    for label, number, value, steal in known:
        if has_ratio(value) and label not in empty:
            of_round[label, number].append((value, steal))
    observations = []
    for (label, number), slots in of_round.items():
        values, steals = zip(*slots, strict=True)
        steal = None if None in steals else fmean(steals)
        observations.append(Observation(label, number, mean_of_slots(values), steal))
    return Model(observations, QUANTITIES.get(column) or response_time(column))


def add_harness_shares(rows: Sequence[ClassRow], slots: Sequence[SlotRow], calibration: Sequence[BareRow]) -> None:
    """Fill in what the harness takes of each row's pages a second: 1 - pages/s ÷ pages/s bare, paired by rounds.

    The intervals of all rows hold together. A row that served no page in some slot has none.
    """
    bare_labels = {row.label: f"{row.label}, bare" for row in calibration}
    through = [row for row in slots if row.label in bare_labels]
    model = model_of([*through, *calibration], "pages_per_s", {row.slot: bare_labels[row.label] for row in calibration})
    pairs = [(label, bare) for label, bare in bare_labels.items() if {label, bare} <= {*model.names}]
    error = model.error_of_each(pairs)
    found = {label: model.compare(label, bare, error) for label, bare in pairs}
    for row in rows:
        if (comparison := found.get(row.label)) is not None:
            # the lowest ratio is the highest share
            row.harness_share = _share_taken(comparison.ratio)
            row.harness_share_low = _share_taken(comparison.high)
            row.harness_share_high = _share_taken(comparison.low)


def _share_taken(ratio: float | None) -> float | None:
    return None if ratio is None else round_figure(1 - ratio)


def _verdicts(
    column: str,
    model: Model,
    pairing: Pairing,
    pairs: Iterable[tuple[Condition, Condition]],
    error: float,
    rows: Mapping[Condition, ClassRow],
) -> list[Verdict]:
    """A verdict on each of the pairs that have a value in the column."""
    verdicts = []
    known = set(model.names)
    for condition, compared_with in pairs:
        row, reference = rows[condition], rows[compared_with]
        if not {row.label, reference.label} <= known:
            continue
        comparison = model.compare(row.label, reference.label, error)
        words = sentence(comparison, QUANTITIES[column])
        within = column == "pages_per_s" and _within_harness(comparison, row, reference)
        if within:
            takes = listed([f"{harness_share(each)} of {each.label}'s" for each in (row, reference)])
            words += f"; the harness can account for this difference, as it takes {takes} pages a second"
        verdict = Verdict(
            workload=row.workload,
            quantity=column,
            differs_in=pairing.differs_in,
            condition=row.condition,
            label=row.label,
            reference=reference.label,
            ratio=comparison.ratio,
            low=comparison.low,
            high=comparison.high,
            shown=comparison.shown,
            within_harness=within,
            rounds=comparison.rounds,
            rounds_needed=comparison.rounds_needed,
            steal_adjusted=comparison.adjusted,
            sentence=words,
        )
        verdicts.append(rounded(verdict))
    return verdicts


def _within_harness(comparison: Comparison, one: ClassRow, other: ClassRow) -> bool:
    """Whether a difference between two stacks that is shown could be what the harness takes from the two.

    Bare, their ratio is the ratio seen, times what the harness leaves of the other's pages, divided by what it leaves
    of the one's. Of all three, those ends of the intervals count that make the difference smallest: 1 can lie between.
    """
    if comparison.low is None or comparison.high is None or not comparison.shown or one.stack == other.stack:
        return False
    left_of_one, left_of_other = _left_by_harness(one), _left_by_harness(other)
    if left_of_one is None or left_of_other is None:
        return False
    return bool(
        comparison.low * left_of_other[0] <= left_of_one[1] and comparison.high * left_of_other[1] >= left_of_one[0]
    )


def _left_by_harness(row: ClassRow) -> tuple[float, float] | None:
    """The least and the most that the harness leaves of a row's pages a second, as shares; None where unknown."""
    if row.harness_share_low is None or row.harness_share_high is None:
        return None
    return 1 - row.harness_share_high, 1 - row.harness_share_low
