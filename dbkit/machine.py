"""What the machine did meanwhile: stolen time, pressure, and the CPU time of all, of this process and of the server.

Everything is read from counters that only grow, so that the difference of two readings is what happened between them.
Figures that the system does not have are None. Judging them is left to others.
"""

from __future__ import annotations

import ipaddress
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from dbkit.database import DatabaseUrl, Settings

CORES = os.cpu_count() or 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class MachineReading:
    """Counters of the machine, in seconds."""

    at_s: float
    """`time.perf_counter`."""
    busy_s: float | None
    """CPU time that all processes of this machine have used, over all cores."""
    steal_s: float | None
    """CPU time that the hypervisor gave to others while this machine had work, over all cores."""
    pressure_s: float | None
    """Time in which at least one runnable task waited for a core."""

    def shares_since(self, before: MachineReading) -> tuple[float | None, float | None, float | None]:
        """Busy and stolen, as shares of all cores' time, and pressure, as a share of the time; each 0 to 1 or None.

        Counters tick in hundredths of a second, and some hypervisors set them back: what falls outside is clamped.
        """
        seconds = self.at_s - before.at_s

        def share(now: float | None, then: float | None, whole: float) -> float | None:
            return None if now is None or then is None else min(max((now - then) / whole, 0.0), 1.0)

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
    """How long this process's threads have waited for a core so far, in seconds; 0 where the system does not tell."""
    waited_ns = 0
    tasks = Path("/proc/self/task")
    for thread in tasks.iterdir() if tasks.is_dir() else ():
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended, or a system that does not tell
            # time on a core, time waiting for one, turns: the kernel's scheduler/sched-stats
            waited_ns += int((thread / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


class ServerProcesses:
    """The processes of a PostgreSQL server on this machine."""

    def __init__(self, postmaster: psutil.Process) -> None:
        self._postmaster = postmaster

    @classmethod
    def find(cls, database: DatabaseUrl) -> ServerProcesses | None:
        """The server of `database`, or None where it is not (known to be) on this machine."""
        if not (database.is_socket or _is_loopback(database.host)):
            return None
        with psycopg.connect(**database.connect_args("psycopg", Settings())) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row is not None
            try:
                postmaster = psutil.Process(row[0]).parent()
            except psutil.NoSuchProcess:
                return None  # behind a forwarded port, or in a container: its pids are not ours
        if postmaster is None or not postmaster.name().startswith(("postgres", "postmaster")):
            return None
        return cls(postmaster)

    def cpu_s(self) -> float | None:
        """CPU seconds of the server so far, those of ended backends included; None once it has gone.

        To the nanosecond, where the system has that: psutil's times tick in hundredths of a second, and would lose the
        short statements of many backends. A backend that ends between two looks at the list would be missed or counted
        twice, so the reading is taken again until the list of processes stays the same. Takes some 10 ms.
        """
        try:
            while True:
                before = {child.pid for child in self._postmaster.children()}
                children = self._postmaster.children()
                ended = self._postmaster.cpu_times()
                total_s = ended.children_user + ended.children_system
                total_s += sum(_read_cpu_s(process) for process in (self._postmaster, *children))
                if before == {child.pid for child in self._postmaster.children()}:
                    return total_s
        except psutil.NoSuchProcess:
            return self.cpu_s() if self._postmaster.is_running() else None

    def cpu_s_since(self, before_s: float | None) -> float | None:
        """CPU seconds since a reading of `cpu_s`; None where one of the two is unknown, or the later one is less.

        It can be: what a backend used is read in another way once the backend has ended.
        """
        now_s = self.cpu_s()
        return None if before_s is None or now_s is None or now_s < before_s else now_s - before_s


def _read_cpu_s(process: psutil.Process) -> float:
    """CPU seconds that a process of one thread has used so far."""
    with suppress(OSError, ValueError, IndexError):
        # time on a core, time waiting for one, turns: the kernel's scheduler/sched-stats; all 0 where it keeps none
        if used_ns := int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]):
            return used_ns / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
