"""Probes: what is read before and after a slot.

A probe is started where the slot's pages begin to count, and stopped where they no longer do. Its figures are fields of
the record that it is read for: of `dbkit.analysis.slot.ProcessSlot` in a process that reads pages, and of
`dbkit.analysis.slot.Slot` in the one that runs the schedule. To read another thing is to write another probe.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dbkit.measure.machine import CORES, read_core_wait_s, read_machine

Figures = Mapping[str, Any]


class Probe(Protocol):
    """Something that is read before and after."""

    def start(self) -> None:
        """Read it before."""

    def stop(self) -> Figures:
        """Read it after: what happened in between, by the name of the field."""


def start_all(probes: Sequence[Probe]) -> None:
    """Start each probe, in order."""
    for probe in probes:
        probe.start()


def stop_all(probes: Sequence[Probe]) -> dict[str, Any]:
    """Stop each probe, the one that was started last first; the figures of all of them."""
    figures: dict[str, Any] = {}
    for probe in reversed(probes):
        figures |= probe.stop()
    return figures


class ProcessProbe:
    """The CPU time of this process, and how long its threads waited for a core."""

    def start(self) -> None:
        self._core_wait_s = read_core_wait_s()
        self._cpu_s = time.process_time()

    def stop(self) -> Figures:
        cpu_s = time.process_time() - self._cpu_s
        return {"cpu_s": cpu_s, "core_wait_s": max(read_core_wait_s() - self._core_wait_s, 0.0)}


class MachineProbe:
    """The time that passed, and what this machine's cores did in it."""

    def start(self) -> None:
        self._before = read_machine()

    def stop(self) -> Figures:
        after = read_machine()
        busy_share, steal_share, pressure_share = after.shares_since(self._before)
        return {
            "seconds": after.at_s - self._before.at_s,
            "machine": socket.gethostname(),
            "cores": CORES,
            "busy_share": busy_share,
            "steal_share": steal_share,
            "pressure_share": pressure_share,
        }


PROCESS_PROBES: tuple[Callable[[], Probe], ...] = (MachineProbe, ProcessProbe)
"""What every process that reads pages reads of itself, in each slot."""
