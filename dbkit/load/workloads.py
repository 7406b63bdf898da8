"""What a test reads, in words, for its result: of each workload which pages, how they are checked, and who writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbkit.analysis.result import WorkloadInfo
from dbkit.load.options import TestOptions
from dbkit.load.page_class import PageClass


def describe_workloads(page_classes: Iterable[PageClass], options: TestOptions, verify_keys: int) -> list[WorkloadInfo]:
    """The workloads of the classes, in order of their names."""
    classes: dict[str, list[PageClass]] = {}
    for page_class in page_classes:
        classes.setdefault(page_class.described().workload, []).append(page_class)
    return [
        WorkloadInfo(
            name=name,
            pages=_pages(classes[name], options),
            check=_check(classes[name], verify_keys),
            writing_classes=sorted(each.name for each in classes[name] if each.writes),
            reset_classes=sorted(each.name for each in classes[name] if each.reset is not None),
        )
        for name in sorted(classes)
    ]


def _pages(classes: Sequence[PageClass], options: TestOptions) -> str:
    workload, keys = classes[0].workload, classes[0].keys
    if workload is None:
        return "whatever its tasks read"
    sizes = dict.fromkeys([options.page_size])
    for variation in options.variations:
        if variation.name == "page-size":
            sizes = dict.fromkeys(map(int, variation.values))
    several = dict.fromkeys(workload.describe(len(keys), size) for size in sizes)
    described = " or ".join(several) if keys else "keys that the workers find"
    first = " of first pages" if workload.follows else ""
    return f"{described}{first}, {options.page_order} order"


def _check(classes: Sequence[PageClass], verify_keys: int) -> str:
    workload = classes[0].workload
    if workload is None:
        return "pages are not checked"
    if workload.check is None:
        return "pages are not checked (check=None)"
    if workload.check != "verified":
        return f"each page is checked by {getattr(workload.check, '__name__', type(workload.check).__name__)}"
    compared = [each for each in classes if not each.writes]
    if not compared:
        return "pages are not checked, as they write"
    clauses = ["each page is compared with the first one of its key"]
    if count := min(verify_keys, len(compared[0].keys)):
        clauses.append(f"all classes gave the same for {count:,} {'key' if count == 1 else 'keys'} before the run")
    if len(compared) < len(classes):
        clauses.append("pages that write are not compared")
    return "; ".join(clauses)
