"""One run of the soak: load in one process or two, faults one after the other, and what is not as it should be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dbkit.database.stacks import STACKS
from tests.faulty_network import faulty_network
from tests.locust_runs import DEADLINE_S, LocustRun, connections, locust, named
from tests.servers import Server
from tests.soak.counts import counts, differences
from tests.soak.faults import draw, inflict
from tests.soak.levels import growth, levels

PAGES = str(Path(__file__).with_name("pages.py"))
ROUNDS = str(Path(__file__).with_name("rounds.py"))
IN_ROUNDS = ("--rounds", "100000", "--slot-time", "0.4", "--warm-up", "0.1")
USERS = 12
NAME = "dbkit soak"
NOT_TO_BE_SAID = ("Traceback", "Exception ignored", "Uncaught", "Unhandled", "Unknown message")
WARM_UP_PAGES = 100
"""So many of each stack are served before what processes hold is looked at first."""
WARM_UP_FAULTS = 4
"""So many faults come before it, too, so that what is made for the first one is there."""
POLL_S = 0.1


def problems(
    server: Server, folder: Path, processes: int, seed: int, seconds: float, *, in_rounds: bool
) -> Iterator[str]:
    """Run for so long with faults, end the run by a signal, and say what is not as it should be."""
    kept = folder / "counts"
    kept.mkdir(parents=True)
    run_name = ("one process" if processes == 1 else f"{processes} processes") + (" in rounds" if in_rounds else "")
    of_processes = () if processes == 1 else ("--processes", str(processes))
    locustfiles = f"{PAGES},{ROUNDS}" if in_rounds else PAGES
    length = IN_ROUNDS if in_rounds else ("-t", "100h")
    arguments = (
        *("-u", str(USERS), "-r", "100", *length, "--pool-size", str(USERS), "--max-overflow", "0"),
        *("--page-timeout", "5", "--pool-timeout", "3", "--drain-timeout", "5", "--think-time", "0.01"),
        *("--verify-keys", "0", "--plans", "none", *of_processes),
    )
    with faulty_network(server.url) as network:
        url = named(network.url, NAME.replace(" ", "%20"))
        environment = {"SOAK_COUNTS": str(kept)}
        with locust(
            folder / "run", *arguments, url=url, locustfiles=locustfiles, environment=environment, fresh=True
        ) as run:
            _wait_for_pages(run, kept, WARM_UP_PAGES)
            until_s, number, first = time.monotonic() + seconds, 0, None
            while time.monotonic() < until_s or first is None:
                if number == WARM_UP_FAULTS:
                    first = levels(run.process.pid)
                fault = draw(seed, run_name, number)
                print(f"{run_name}: fault {number}: {fault}", flush=True)
                inflict(fault, server, network)
                missing = _wait_for_pages(run, kept, 1)
                if run.process.poll() is not None:
                    yield f"after fault {number} ({fault}) the run has ended: {run.output[-2000:]}"
                    return
                if missing:
                    yield f"after fault {number} ({fault}) no page of {missing} comes back"
                    return
                number += 1
            _wait_for_pages(run, kept, WARM_UP_PAGES)
            most = USERS * processes * (len(STACKS) if in_rounds else 1)  # in turns, each stack has all users
            # between turns, a fault may have closed the connections of stacks whose turn has not come again
            yield from growth(first, levels(run.process.pid), more_sockets=most if in_rounds else 0)
            if (open_now := connections(server.url, NAME)) > most:
                yield f"the server has {open_now} connections, where {most} are the most"
            code = run.terminate()
            if left := run.leftovers():
                yield f"left running: {left}"
        if not _within_deadline(lambda: not connections(server.url, NAME)):
            yield f"connections left on the server: {connections(server.url, NAME)}"
    yield from (f"it says {said!r}" for said in NOT_TO_BE_SAID if said in run.output)
    has_failed = counts(kept, "failed").total() > 0
    if code != int(has_failed):
        yield f"exit code {code}"
    yield from differences(run, kept, in_rounds=in_rounds)
    _print_totals(run, kept, run_name)


def _wait_for_pages(run: LocustRun, kept: Path, more: int) -> list[str]:
    """Wait until so many more pages of each stack are served; the stacks of which none come."""
    before = counts(kept, "served")

    def missing() -> list[str]:
        now = counts(kept, "served")
        return [stack for stack in before if now[stack] < before[stack] + more]

    _within_deadline(lambda: not missing() or run.process.poll() is not None)
    return missing()


def _within_deadline(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _print_totals(run: LocustRun, kept: Path, run_name: str) -> None:
    totals = {what: counts(kept, what).total() for what in ("asked", "served", "failed")}
    failures = json.loads((run.folder / "run_comparison.json").read_text())["failures"]
    print(f"{run_name}: pages {totals}")
    for each in failures:
        print(f"    {each['count']} {each['user_class']}: {each['message']}")
