"""Which conditions are compared with which: those that differ in one thing alone, in class, load or one setting.

How a pair compares is left to `dbkit.analysis.verdict`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import log
from statistics import fmean

from dbkit.analysis.condition import Condition, Load, Variation
from dbkit.analysis.revisions import REVISION

CLASS = "class"
LOAD = "load"


@dataclass(frozen=True)
class Group:
    """Conditions that differ in one thing alone."""

    members: Sequence[Condition]
    """In the order of that thing: loads ascend, values are as they were given."""
    reference: Condition
    """The one of them that the others are compared with."""

    @property
    def pairs(self) -> list[tuple[Condition, Condition]]:
        """Each of the others with the reference."""
        return [(each, self.reference) for each in self.members if each != self.reference]


@dataclass(frozen=True)
class Pairing:
    """All groups that differ in the same thing, and so have the same kind of reference."""

    differs_in: str
    """`CLASS`, `LOAD` or the name of a setting."""
    reference: str
    """What the others are compared with, in words: a class, `1 user`, `pool-size=5`."""
    named: bool
    """Whether that was named before the run; else all pairs of a group are looked at, as any could stand out."""
    groups: Sequence[Group]

    @property
    def pairs(self) -> list[tuple[Condition, Condition]]:
        """Each condition with its reference."""
        return [pair for group in self.groups for pair in group.pairs]

    @property
    def family(self) -> list[tuple[Condition, Condition]]:
        """The pairs whose intervals hold together."""
        if self.named:
            return self.pairs
        return [pair for group in self.groups for pair in combinations(group.members, 2)]


def pairings(
    conditions: Iterable[Condition],
    levels: Mapping[Condition, float],
    variations: Iterable[Variation] = (),
    named: str | None = None,
) -> list[Pairing]:
    """How the conditions of one workload are compared. `levels` say of those that can be how fast they are.

    Classes are compared with the class that was `named` before the run, else with the slowest; values of a setting with
    the first of its `variations`, and loads with the smallest. Where there are two revisions, they alone are compared.
    """
    classes = {each.user_class for each in conditions} | ({named} if named else set())
    conditions = list(levels)
    of_settings = values_in_order(conditions, variations)
    if REVISION in of_settings:
        revisions = _of_setting(conditions, REVISION, of_settings[REVISION])
        return [replace(revisions, named=True)] if revisions.groups else []
    found = []
    if len(classes) > 1 and (named or levels):
        reference = named or _slowest_class(levels)
        groups = _groups(conditions, _without_class, lambda each: each.user_class == reference)
        found.append(Pairing(CLASS, reference, named is not None, groups))
    found += [_of_setting(conditions, *each) for each in of_settings.items()]
    loads = sorted({each.load for each in conditions if each.load})
    if len(loads) > 1:
        ascending = [each for load in loads for each in conditions if each.load == load]
        groups = _groups(ascending, lambda each: (each.user_class, each.variant), lambda each: each.load == loads[0])
        found.append(Pairing(LOAD, str(loads[0]), False, groups))
    return [each for each in found if each.groups] or found[:1]


def _of_setting(conditions: Iterable[Condition], name: str, values: Sequence[str]) -> Pairing:
    having = [each for each in conditions if name in dict(each.variant)]
    in_order = sorted(having, key=lambda each: values.index(dict(each.variant)[name]))

    def others(condition: Condition) -> Hashable:
        kept = tuple(setting for setting in condition.variant if setting[0] != name)
        return condition.user_class, condition.load, kept

    groups = _groups(in_order, others, lambda each: dict(each.variant)[name] == values[0])
    return Pairing(name, f"{name}={values[0]}", False, groups)


def values_in_order(conditions: Iterable[Condition], variations: Iterable[Variation]) -> dict[str, list[str]]:
    """The settings that conditions have, with all values in the order that was given, else from low to high."""
    given = {variation.name: list(variation.values) for variation in variations}
    values: dict[str, list[str]] = {}
    for condition in sorted(conditions, key=lambda each: each.variant):
        for name, value in condition.variant:
            known = values.setdefault(name, given.get(name, []))
            if value not in known:
                known.append(value)
    for name, found in values.items():
        if name not in given and all(re.fullmatch(r"\d+(\.\d+)?", value) for value in found):
            found.sort(key=float)
    return {name: values[name] for name in (*given, *values) if name in values}


def _groups(
    conditions: Iterable[Condition], others: Callable[[Condition], Hashable], is_reference: Callable[[Condition], bool]
) -> list[Group]:
    """The conditions that are alike in all `others`, where the reference and another one are among them."""
    members: defaultdict[Hashable, list[Condition]] = defaultdict(list)
    for each in conditions:
        members[others(each)].append(each)
    groups = []
    for group in members.values():
        references = [each for each in group if is_reference(each)]
        if references and len(group) > 1:
            groups.append(Group(group, references[0]))
    return groups


def _slowest_class(levels: Mapping[Condition, float]) -> str:
    """The class that is the slowest, as a mean of ratios over the loads and settings."""
    cells: defaultdict[Hashable, list[float]] = defaultdict(list)
    for each, level in levels.items():
        cells[_without_class(each)].append(log(level))
    relative: defaultdict[str, list[float]] = defaultdict(list)
    for each, level in levels.items():
        relative[each.user_class].append(log(level) - fmean(cells[_without_class(each)]))
    # a class that cannot be compared everywhere would leave others without a reference
    most = max(map(len, relative.values()))
    means = {name: round(fmean(logs), 9) for name, logs in relative.items() if len(logs) == most}
    return min(reversed(means), key=means.__getitem__)  # of equal ones the last, as in tables


def _without_class(condition: Condition) -> tuple[Load | None, object]:
    return condition.load, condition.variant
