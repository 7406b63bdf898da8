"""Every page into a tally by slot and user class, and the workers' tallies into the master's.

Pages are taken from Locust's `request` event and travel in Locust's own report, so that dbkit's totals are Locust's.
What the figures mean together is left to `dbkit.analysis.result`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from dbkit.analysis.slot import ProcessSlot, Slot
from dbkit.load.stint import Page
from dbkit.measure.tally import Tally
from dbkit.measure.timeline import Timeline


class Key(NamedTuple):
    """What a tally is of."""

    user_class: str
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
    """Of pages in no slot."""
    merged_s: float | None = None
    """When another process's records were last added, by `time.perf_counter`."""

    def on_request(
        self,
        response_time: float,
        context: Mapping[str, Any] | None = None,
        exception: Exception | None = None,
        **_: Any,
    ) -> None:
        """A listener of Locust's `request` event. What is no page of dbkit's is passed over."""
        if not context or "measured_share" not in context:
            return
        key = Key(context["user_class"], context["slot"], context["measured"])
        self.tallies[key].add(context, response_time, exception is not None)
        if exception is None and (share := context["measured_share"]):
            # a page that was asked for in the warm-up may end in the measured time
            self.tallies[key if key.measured else key._replace(measured=True)].measured_pages += share
        if key.slot is None:
            self.timeline.add(key.user_class, context, response_time, exception is not None)

    def add_unfinished(self, user_class: str, page: Page) -> None:
        """A page was cut off."""
        self.tallies[Key(user_class, page.window.slot, page.measured)].unfinished += 1

    def take_message(self) -> dict[str, Any]:
        """All that has been recorded since the last time, in plain values for sending."""
        message = {
            "tallies": [[list(key), tally.as_message()] for key, tally in self.tallies.items()],
            "process_slots": [
                [slot, client_id, asdict(told)]
                for slot, processes in self.process_slots.items()
                for client_id, told in processes.items()
            ],
            "timeline": self.timeline.take_message(),
        }
        self.clear()
        return message

    def merge_message(self, message: Mapping[str, Any]) -> None:
        """Add what another process took."""
        for key, tally in message["tallies"]:
            self.tallies[Key(*key)].merge(Tally.from_message(tally))
        for slot, client_id, told in message["process_slots"]:
            self.process_slots[slot][client_id] = ProcessSlot(**told)
        self.timeline.merge_message(message["timeline"])
        self.merged_s = time.perf_counter()

    def fill(self, slot: Slot) -> None:
        """Give `slot` all that has been recorded and reported of it so far."""
        slot.processes = list(self.process_slots[slot.number].values())
        slot.measured = self._tally(slot, measured=True)
        slot.warm_up = self._tally(slot, measured=False)

    def _tally(self, slot: Slot, measured: bool) -> Tally:
        return self.tallies.get(Key(slot.user_class, slot.number, measured), Tally())

    def clear(self) -> None:
        """Forget everything, as at the start of a test."""
        self.tallies.clear()
        self.process_slots.clear()
        self.timeline = Timeline()
