"""Figures and records for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import msgspec

from dbkit.analysis.records import ClassRow, SlotRow, Verdict
from dbkit.analysis.result import Result, empty_result
from dbkit.analysis.slot import ProcessSlot

QUIET = ProcessSlot(
    seconds=1.0,
    cpu_s=0.4,
    core_wait_s=0.05,
    hub_lag_ms=0.1,
    lane_lag_ms=0.2,
    hub_stall_ms=0.0,
    machine="here",
    cores=4,
    busy_share=0.5 / 4,
    steal_share=0.02,
    pressure_share=0.1,
)
"""What a process measures in a slot in which nothing disturbs it."""


WORKLOAD = "albums"


def names_of(user_class: str) -> dict[str, Any]:
    """What a row is called."""
    named_after_it = dict.fromkeys(("condition", "label", "user_class"), user_class)
    return {**named_after_it, "workload": WORKLOAD, "stack": "", "strategy": "", "settings": {}}


def class_row(user_class: str, **figures: Any) -> ClassRow:
    """A row of which only the given figures are known."""
    unknown: dict[str, Any] = dict.fromkeys(ClassRow.__struct_fields__)
    names = names_of(user_class)
    counts = {"rounds": 0, "pages": 0, "failures": 0, "unfinished": 0, "end": "rollback", "response_curve": []}
    return ClassRow(**unknown | names | counts | figures)


def slot_row(user_class: str, **figures: Any) -> SlotRow:
    """The row of a slot of which only the given figures are known."""
    unknown: dict[str, Any] = dict.fromkeys(SlotRow.__struct_fields__)
    names = names_of(user_class)
    marks = {"disturbed": False, "incomplete": False, "replaced": False}
    return SlotRow(**unknown | names | marks | figures)


def verdict_row(label: str, reference: str, low: float | None, high: float | None, **more: Any) -> Verdict:
    """A verdict on pages a second, its ratio in the middle of its interval; without one the ratio is 1."""
    figures: dict[str, Any] = {
        "workload": WORKLOAD,
        "quantity": "pages_per_s",
        "differs_in": "class",
        "condition": label,
        "label": label,
        "reference": reference,
        "ratio": (low * high) ** 0.5 if low is not None and high is not None else 1.0,
        "low": low,
        "high": high,
        "shown": low is not None and high is not None and not low <= 1 <= high,
        "within_harness": False,
        "rounds": 2 if low is None else 5,
        "rounds_needed": None,
        "steal_adjusted": False,
        "sentence": "",
    }
    return Verdict(**figures | more)


def plain_result(**content: Any) -> Result:
    """A result with the given content and nothing else."""
    return msgspec.structs.replace(empty_result(), **content)


def known(value: float | None) -> float:
    """A figure that is known."""
    assert value is not None
    return value
