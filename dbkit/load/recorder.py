"""Adds every page to the tally of its condition and slot, and the workers' tallies to the master's.

Pages are taken from Locust's `request` event and sent in Locust's own report, so that dbkit's totals equal Locust's.
For what the figures mean together see `dbkit.analysis.result`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from dbkit.analysis.slot import ProcessSlot, Slot
from dbkit.load.failures import Failures
from dbkit.load.starvation import Starved
from dbkit.load.window import Window
from dbkit.measure.tally import Tally
from dbkit.measure.timeline import Timeline


class Key(NamedTuple):
    """What the pages of a tally have in common."""

    condition: str
    """The key of what was run: see `dbkit.analysis.condition`. Without a schedule, the name of the user class."""
    slot: int | None
    """None for pages in no slot: a run without a schedule."""
    measured: bool
    """False for a slot's warm-up, which is in no figure but the totals."""


@dataclass
class Recorder:
    """The tallies of one process, and on a master those of all."""

    tallies: defaultdict[Key, Tally] = field(default_factory=lambda: defaultdict(Tally))
    process_slots: defaultdict[int, dict[str, ProcessSlot]] = field(default_factory=lambda: defaultdict(dict))
    """By slot, then by the process's Locust id."""
    timeline: Timeline = field(default_factory=Timeline)
    """The pages that are in no slot."""
    failures: Failures = field(default_factory=Failures)
    """Why pages failed, in whichever slot."""
    starved: Starved = field(default_factory=Starved)
    """Who has waited for a page for long."""
    lost_processes: int = 0
    """How many processes did not send their last report in the present test."""
    merged_at_s: float | None = None
    """When another process's records were last added, by `time.perf_counter`."""

    def on_request(
        self,
        response_time: float,
        context: Mapping[str, Any] | None = None,
        exception: Exception | None = None,
        **_: Any,
    ) -> None:
        """Add a page: a listener of Locust's `request` event. It ignores requests that are not dbkit's."""
        if not context or "measured_share" not in context:
            return
        key = Key(context["condition"], context["slot"], context["measured"])
        self.tallies[key].add(context, response_time, exception is not None)
        if exception is None and (share := context["measured_share"]):
            # a page that was asked for in the warm-up may end in the measured time
            self.tallies[key if key.measured else key._replace(measured=True)].page_equivalents += share
        if key.slot is None:
            self.timeline.add(key.condition, context, response_time, exception is not None)
        if exception is not None:
            self.failures.add(key.condition, context["user_class"], exception)

    def add_not_begun(self, window: Window, asked_at_s: Iterable[float], user_class: str = "") -> None:
        """Count pages that were asked for in an open loop and never begun, by when that was.

        `user_class` is needed where there is no schedule.
        """
        for each_at_s in asked_at_s:
            key = Key(window.condition or user_class, window.slot, window.measures(each_at_s))
            self.tallies[key].not_begun += 1

    def take_message(self) -> dict[str, Any]:
        """Everything that has been recorded since the last call, in plain values that can be sent."""
        message = {
            "tallies": [[list(key), tally.as_message()] for key, tally in self.tallies.items()],
            "process_slots": [
                [slot, client_id, asdict(process_slot)]
                for slot, processes in self.process_slots.items()
                for client_id, process_slot in processes.items()
            ],
            "timeline": self.timeline.take_message(),
            "failures": self.failures.take_message(),
            "starved": self.starved.take_message(),
        }
        self._clear_figures()
        return message

    def merge_message(self, message: Mapping[str, Any]) -> None:
        """Add what another process has recorded, which gives its name as `process`: see `dbkit.load.sides`."""
        for key, tally in message["tallies"]:
            self.tallies[Key(*key)].merge(Tally.from_message(tally))
        for slot, client_id, process_slot in message["process_slots"]:
            self.process_slots[slot][client_id] = ProcessSlot(**process_slot)
        self.timeline.merge_message(message["timeline"])
        self.failures.merge_message(message["failures"])
        self.starved.merge_message(message["starved"], message["process"])
        self.merged_at_s = time.perf_counter()

    def fill(self, slot: Slot) -> None:
        """Fill in what has been recorded and reported of a slot so far."""
        slot.processes = list(self.process_slots[slot.number].values())
        slot.measured = self._tally(slot, measured=True)
        slot.warm_up = self._tally(slot, measured=False)

    def _tally(self, slot: Slot, measured: bool) -> Tally:
        return self.tallies.get(Key(slot.condition.key, slot.number, measured), Tally())

    def clear(self) -> None:
        """Forget everything, as at the start of a test."""
        self._clear_figures()
        self.failures.clear()
        self.starved.clear()
        self.lost_processes = 0

    def _clear_figures(self) -> None:
        self.tallies.clear()
        self.process_slots.clear()
        self.timeline = Timeline()
