"""Counts the rows that `unique()` throws away, of joined eager loading above all: see `dbkit.measure.cost`.

Of the rows that come to it, SQLAlchemy's filter gives those whose like is not in a set yet, and puts them there. So
only the rows that come are left to count: an iterator of the standard library does, without a step of Python for each.
A result belongs to no engine's dialect or pool: the filter is counted in all of the process, for the page in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from functools import cache, wraps
from itertools import compress, count
from typing import Any

from sqlalchemy.engine.result import ChunkedIteratorResult, MappingResult, Result, ScalarResult
from sqlalchemy.ext.asyncio import AsyncMappingResult, AsyncResult, AsyncScalarResult

from dbkit.measure.cost import PageCost, current_cost

_RESULTS: tuple[Any, ...] = (Result, ScalarResult, MappingResult, AsyncResult, AsyncScalarResult, AsyncMappingResult)
"""The classes that have a method `unique` of their own."""


@cache
def count_discarded_rows() -> None:
    """Count them from now on. Calling it again changes nothing."""
    for result_class in _RESULTS:
        result_class.unique = _counting(result_class.unique)


def _counting(unique: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(unique)
    def counting(result: Any, strategy: Any = None) -> Any:
        before = result._unique_filter_state
        unique(result, strategy)
        cost = current_cost.get()
        if cost is not None:
            source = result._real_result or result
            given = result._unique_filter_state[0]
            if (
                type(source) is ChunkedIteratorResult  # the ORM's, for which every microsecond counts
                and type(source.iterator) is not compress
                and not source.dynamic_yield_per  # which makes other iterators later
            ):
                number = count(1)
                source.iterator = compress(source.iterator, number)
                cost.unique_filters.append((number, given))
            elif before is None or not _filters_again(cost, before[0], given):
                if not isinstance(source, _Counted):
                    result_class: Any = type(source)
                    source.__class__ = _counted_class(result_class)
                source.dbkit_number = count(1)
                cost.unique_filters.append((source.dbkit_number, given))
        return result

    return counting


def _filters_again(cost: PageCost, given_before: Sized, given: Sized) -> bool:
    """Whether the result had a filter that was counted, in whose place there is another one now."""
    for at, (number, counted) in enumerate(cost.unique_filters):
        if counted is given_before:
            cost.discarded_rows -= len(given_before)
            cost.unique_filters[at] = number, given
            return True
    return False


class _Counted:
    """A result whose rows are numbered as they come to its filter."""

    __slots__ = ()
    dbkit_number: count[int]

    def _fetchall_impl(self) -> list[Any]:
        return list(compress(super()._fetchall_impl(), self.dbkit_number))  # type: ignore[misc]

    def _fetchmany_impl(self, size: int | None = None) -> list[Any]:
        return list(compress(super()._fetchmany_impl(size), self.dbkit_number))  # type: ignore[misc]

    def _fetchiter_impl(self) -> Iterator[Any]:
        return compress(super()._fetchiter_impl(), self.dbkit_number)  # type: ignore[misc]

    def _fetchone_impl(self, hard_close: bool = False) -> Any:
        row = super()._fetchone_impl(hard_close)  # type: ignore[misc]
        if row is not None:
            next(self.dbkit_number)
        return row


@cache
def _counted_class(result_class: type) -> type:
    # with no slot of its own, so that an object of `result_class` can become one of it
    attributes = {"__slots__": (), "__module__": result_class.__module__}
    return type(result_class.__name__, (_Counted, result_class), attributes)
