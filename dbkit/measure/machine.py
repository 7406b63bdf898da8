"""Readings of the machine: CPU time of all processes, time stolen from it, and pressure on its cores.

The counters only grow, so that the difference of two readings is what happened between them. Judging the figures is
left to others.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CORES = os.cpu_count() or 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class MachineReading:
    """Counters of the machine, in seconds; None for those that the system does not have."""

    at_s: float
    """When it was read, by `time.perf_counter`."""
    busy_s: float | None
    """CPU time that all processes of this machine have used, over all cores."""
    steal_s: float | None
    """CPU time that the hypervisor gave to others while this machine had work, over all cores."""
    pressure_s: float | None
    """Time in which at least one runnable task waited for a core."""

    def shares_since(self, before: MachineReading) -> tuple[float | None, float | None, float | None]:
        """The shares busy and stolen of all cores' time, and the share of time under pressure; each 0 to 1 or None.

        Counters tick in hundredths of a second, and some hypervisors set them back: what falls outside is clamped.
        """
        seconds = self.at_s - before.at_s

        def share(now: float | None, then: float | None, possible: float) -> float | None:
            return None if now is None or then is None else min(max((now - then) / possible, 0.0), 1.0)

        return (
            share(self.busy_s, before.busy_s, seconds * CORES),
            share(self.steal_s, before.steal_s, seconds * CORES),
            share(self.pressure_s, before.pressure_s, seconds),
        )


def read_machine() -> MachineReading:
    """The counters as they are now; takes some 50 microseconds."""
    at_s = time.perf_counter()
    busy_s = steal_s = pressure_s = None
    try:
        # cpu user nice system idle iowait irq softirq steal …: proc(5)
        ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy_s = (sum(ticks[:3]) + sum(ticks[5:7])) / _TICKS_PER_S
        steal_s = ticks[7] / _TICKS_PER_S
        # some avg10=… avg60=… avg300=… total=<microseconds>: the kernel's accounting/psi
        pressure_s = int(Path("/proc/pressure/cpu").read_text().split("\n", 1)[0].rpartition("=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or a kernel without pressure accounting: they stay None
    return MachineReading(at_s, busy_s, steal_s, pressure_s)


def read_core_wait_s() -> float:
    """How long this process's threads have waited for a core so far, in seconds; 0 where the system does not say."""
    waited_ns = 0
    tasks = Path("/proc/self/task")
    for thread in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended, or a system that does not say
            # time on a core, time waiting for one, turns: the kernel's scheduler/sched-stats
            waited_ns += int((thread / "schedstat").read_text().split()[1])
    return waited_ns / 1e9
