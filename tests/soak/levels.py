"""What the processes of a run hold: memory, threads, sockets and file handles. What they hold on to grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import psutil

MEMORY_MORE = 1.25
MEMORY_MORE_BYTES = 32 << 20
"""By so much memory may grow: failures, and the run over time, are kept, and allocators keep what they had once."""
OTHERS_MORE = 8
"""By so many all else may: a driver's helpers come and go."""


@dataclass(frozen=True)
class Level:
    """What one process holds."""

    memory_bytes: int
    threads: int
    sockets: int
    other_handles: int

    @classmethod
    def of(cls, process: psutil.Process) -> Level:
        with process.oneshot():
            sockets = len(process.net_connections("all"))
            return cls(process.memory_info().rss, process.num_threads(), sockets, process.num_fds() - sockets)


def levels(pid: int) -> dict[int, Level]:
    """Those of a process and of all that it has started, by their ids."""
    process = psutil.Process(pid)
    return {each.pid: Level.of(each) for each in (process, *process.children(recursive=True))}


def growth(first: dict[int, Level], last: dict[int, Level], *, more_sockets: int = 0) -> Iterator[str]:
    """What has grown from the first to the last, where there may be so many more sockets."""
    if first.keys() != last.keys():
        yield f"the processes are others: {sorted(first)} at first, {sorted(last)} at last"
        return
    for pid, was in first.items():
        for field in fields(Level):
            before, now = getattr(was, field.name), getattr(last[pid], field.name)
            most = before * MEMORY_MORE + MEMORY_MORE_BYTES if field.name == "memory_bytes" else before + OTHERS_MORE
            if field.name == "sockets":
                most += more_sockets
            if now > most:
                yield f"process {pid}: {field.name} went from {before} to {now}"
