"""Reads the file of `--baseline`, before any user starts. What is compared with it is in `dbkit.analysis.baseline`."""

from __future__ import annotations

from collections.abc import Iterable

from locust import User

from dbkit.analysis.baseline import Baseline, check_baseline
from dbkit.load.page_class import OWN_TASKS, is_page_class, workload_of
from dbkit.output.json_file import read_comparison


def read_baseline(path: str, user_classes: Iterable[type[User]]) -> Baseline:
    """The earlier run in a file. Raises DbkitError where it is none, or of none of the workloads of the classes."""
    baseline = Baseline(read_comparison(path), path)
    workloads = [workload_of(each) for each in user_classes if is_page_class(each)]
    check_baseline(baseline, {OWN_TASKS if each is None else each.name for each in workloads})
    return baseline
