"""Whether the classes of a workload gave the same page, as they must before a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dbkit.load.try_pages.reading import TriedClass, TriedPage
from dbkit.workload import Workload, WrongPage, difference, plain_key


@dataclass(frozen=True)
class Comparison:
    """How the pages of a workload compare, in words."""

    words: str
    is_fine: bool


def compare(tried: Sequence[TriedClass]) -> Iterator[Comparison]:
    """Compare the pages of each workload with the first of them. Those of classes that write are left out."""
    for workload, pages in _by_workload(tried).items():
        (first, page), *others = pages
        if not others:
            continue
        found = [each for name, other in others if (each := _compare(workload, first, page, name, other)) is not None]
        yield from found
        if not found:
            key = plain_key(page.key)
            yield Comparison(f"The {len(pages)} classes give the same page of {workload.name} for key {key!r}.", True)


def are_alike(page: TriedPage, other: TriedPage) -> bool:
    """Whether two pages are the same as far as they can be compared."""
    try:
        return difference(page.rendered, other.rendered) is None
    except WrongPage:
        return False


def _by_workload(tried: Sequence[TriedClass]) -> dict[Workload, list[tuple[str, TriedPage]]]:
    found: dict[Workload, list[tuple[str, TriedPage]]] = {}
    for each in tried:
        page_class = each.page_class
        if page_class is None or page_class.workload is None or page_class.writes:
            continue
        for page in each.pages:
            if page.task is None and page.error is None:
                found.setdefault(page_class.workload, []).append((each.name, page))
    return found


def _compare(workload: Workload, first: str, page: TriedPage, name: str, other: TriedPage) -> Comparison | None:
    try:
        found = difference(page.rendered, other.rendered)
    except WrongPage:
        return None  # of what cannot be compared, where the workload has another check
    if found is None:
        return None
    words = f"{first} and {name} give different pages of {workload.name} for key {plain_key(page.key)!r}: {found}."
    if workload.check != "verified":
        return Comparison(f"{words} A run does not mind, as the workload has a check of its own or none.", True)
    return Comparison(words, False)
