"""Signals at random moments of short runs, with every core busy: `python -m tests.soak_signals --runs 200`.

Each run draws what it is (rounds or a run with `-t`; headless or in the web UI), in how many processes, which signal it
gets, when, and whether the leading process gets it, all do, or a worker first. Of each, checked: the exit code that
docs/ci.md promises, all outputs or none, no traceback, and nothing left running. A failure says how to repeat it. Not
part of `make test`: there, tests/load/test_signals.py waits for each phase and signals in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from dbkit.database.embedded import serve
from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import DEADLINE_S, POLL_S, LocustRun, free_port, locust

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KINDS = ("rounds", "-t", "web")
PROCESSES = ("one process", "two processes", "separate workers", "one worker of two processes")
TARGETS = ("the process", "all processes", "a worker")
OUTPUTS = ("run_strategies.csv", "run_comparison.json", "report.html", "summary.md")
NOT_TO_BE_SAID = ("Traceback", "Exception ignored", "Uncaught", "Unknown message", "Bad response code")
WITHOUT_RESULTS = "before a test had begun: ended without results"

LOCUSTFILE = """
import os, sys
sys.path.append("locustfiles")
from users import AsyncpgJoined, PsycopgJoined
from locust import events
{shape}

@events.test_start.add_listener
def note(environment, **_):
    open(os.environ["BEGUN"], "w").close()
"""
ROUNDS = "from dbkit.load import Rounds\nclass Compare(Rounds): pass"


@dataclass(frozen=True)
class Plan:
    """One run, and what happens to it."""

    kind: str
    processes: str
    target: str
    number: signal.Signals
    moment: float
    """When it is signalled: the share, 0 to 1, of the time that such a run takes if nobody does."""

    @classmethod
    def draw(cls, seed: int, run: int) -> Plan:
        draw = random.Random(f"{seed}/{run}")
        processes = draw.choice(PROCESSES)
        targets = TARGETS if "worker" in processes else TARGETS[:2]
        return cls(draw.choice(KINDS), processes, draw.choice(targets), draw.choice(SIGNALS), draw.uniform(0, 1))

    def __str__(self) -> str:
        return f"{self.number.name} to {self.target} at {self.moment:.3f} of a run ({self.kind}, {self.processes})"


class Started:
    """The processes of one run: the one that leads, and workers of their own."""

    def __init__(self, leader: LocustRun, workers: list[LocustRun], begun: Path) -> None:
        self.leader, self.workers = leader, workers
        self._begun = begun

    @property
    def all(self) -> list[LocustRun]:
        return [self.leader, *self.workers]

    @property
    def has_begun(self) -> bool:
        """Whether Locust has fired `test_start`, in any process."""
        return self._begun.exists()


@contextmanager
def started(plan: Plan, folder: Path, url: str) -> Iterator[Started]:
    """Start the run that is planned."""
    folder.mkdir()
    locustfile = folder / "locustfile.py"
    locustfile.write_text(LOCUSTFILE.format(shape="" if plan.kind == "-t" else ROUNDS))
    environment = {"BEGUN": str(folder / "begun")}
    leader = folder / "leader"
    options = ["-u", "2", "-r", "2", "--report", str(leader / "report.html"), "--summary", str(leader / "summary.md")]
    options += ["-t", "1s"] if plan.kind == "-t" else ["--rounds", "1", "--slot-time", "0.2", "--warm-up", "0.1"]
    port = str(free_port())
    to_master = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
    workers: list[tuple[str, ...]] = []
    if plan.processes == "two processes":
        options += ["--processes", "2"]
    elif plan.processes != "one process":
        workers = [to_master, to_master] if plan.processes == "separate workers" else [(*to_master, "--processes", "2")]
        options += ["--master", "--expect-workers", "2", "--master-bind-port", port]
    web = plan.kind == "web"
    with ExitStack() as exits:

        def begin(name: str, *arguments: str) -> LocustRun:
            return exits.enter_context(
                locust(
                    folder / name,
                    *arguments,
                    url=url,
                    locustfiles=str(locustfile),
                    environment=environment,
                    web=web and name == "leader",
                    wait_for_web=False,
                    fresh=True,
                )
            )

        led = begin("leader", *options)
        yield Started(led, [begin(f"worker {index}", *each) for index, each in enumerate(workers)], folder / "begun")


def press_start(leader: LocustRun) -> bool:
    """Press Start, if the web UI is there and has the workers that it needs; whether a test has begun by that."""
    with suppress(requests.RequestException, KeyError, ValueError):
        form = {"user_count": 2, "spawn_rate": 2}
        return bool(requests.post(f"{leader.web_url}/swarm", data=form, timeout=1).json()["success"])
    return False


def lifetime_s(plan: Plan, folder: Path, url: str) -> float:
    """How long the run takes if nobody signals; in the web UI, until its results are written."""
    began_s = time.monotonic()
    with started(plan, folder, url) as run:
        pressed = False
        while run.leader.process.poll() is None:
            assert time.monotonic() < began_s + 2 * DEADLINE_S, run.leader.output
            if plan.kind == "web":
                pressed = pressed or press_start(run.leader)
                if all((run.leader.folder / name).exists() for name in OUTPUTS):
                    break
            time.sleep(POLL_S)
        return time.monotonic() - began_s


def listens(pid: int) -> bool:
    """Whether dbkit has been imported there and answers signals; before that, Python and the system do."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def problems(plan: Plan, run: Started, folder: Path, run_s: float) -> Iterator[str]:
    """Signal as planned, wait for the end, and say what is not as it should be."""
    began_s, pressed = time.monotonic(), False
    while time.monotonic() < began_s + plan.moment * run_s:
        if plan.kind == "web":
            pressed = pressed or press_start(run.leader)
        time.sleep(POLL_S)
    targets = (
        run.workers[:1] if plan.target == "a worker" else run.all if plan.target == "all processes" else [run.leader]
    )
    early: set[LocustRun] = set()
    signalled: set[LocustRun] = set()

    def send(targets: list[LocustRun]) -> None:
        for each in targets:
            if each.process.poll() is None and each not in signalled:
                signalled.add(each)
                if not listens(each.process.pid):
                    early.add(each)
                with suppress(ProcessLookupError):
                    (os.killpg if plan.target == "all processes" else os.kill)(each.process.pid, plan.number)

    def ended(runs: list[LocustRun], within_s: float) -> bool:
        until_s = time.monotonic() + within_s
        while any(each.process.poll() is None for each in runs):
            if time.monotonic() > until_s:
                return False
            time.sleep(POLL_S)
        return True

    send(targets)
    if not ended(targets, DEADLINE_S):
        yield f"signalled processes go on {DEADLINE_S} s later"
    send([run.leader])  # one that waits for a worker which has ended waits for ever
    if not ended([run.leader], DEADLINE_S):
        yield f"the leading process goes on {DEADLINE_S} s later"
    if not ended(run.workers, 10):
        send(run.workers)  # those that had not connected look for their master for minutes
        if not ended(run.workers, DEADLINE_S):
            yield f"workers go on {DEADLINE_S} s later"
    for each in run.all:
        if left := each.leftovers():
            yield f"left running: {left}"
        if each in early:
            continue
        for said in NOT_TO_BE_SAID:
            if said in each.output:
                yield f"{each.folder.name} says {said!r}"
        code, by_signal = each.process.returncode, 128 + plan.number
        # the parent of workers ends with the highest of theirs, which is 1 where they were not set up yet
        allowed = (0, 1, by_signal) if plan.processes == PROCESSES[-1] else (0, by_signal)
        if each in run.workers and code not in allowed:
            yield f"{each.folder.name} ended with {code}"
    leader = run.leader
    if leader in early:
        return
    code, by_signal = leader.process.returncode, 128 + plan.number
    written = [name for name in OUTPUTS if (leader.folder / name).exists()]
    if run.has_begun:
        if code != 0:
            yield f"exit code {code} though a test had begun"
        if written != list(OUTPUTS):
            yield f"of the outputs there are only {written}"
        else:
            json.loads((leader.folder / "run_comparison.json").read_text())
    else:
        if written:
            yield f"there are {written} though no test had begun"
        if code != by_signal and not (plan.kind == "web" and code == 0):
            yield f"exit code {code} though no test had begun"
        if code == by_signal and leader.stderr.count(WITHOUT_RESULTS) != 1:
            yield "it does not say once that there are no results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="how many; default 200")
    parser.add_argument("--first", type=int, default=0, metavar="RUN", help="the number of the first one; default 0")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="default: another one each time")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    failed = 0
    endings: Counter[str] = Counter()
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="soak-signals-")))
        url = serve(folder / "server")
        create(DatabaseUrl.parse(url), Shape(), replace=False)
        for _ in range(os.cpu_count() or 1):
            burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            exits.callback(burner.kill)
        lifetimes_s: dict[tuple[str, str], float] = {}
        for number in range(options.first, options.first + options.runs):
            plan = Plan.draw(options.seed, number)
            kind = (plan.kind, plan.processes)
            if kind not in lifetimes_s:
                lifetimes_s[kind] = lifetime_s(plan, folder / f"{number} alone", url)
            own = folder / str(number)
            with started(plan, own, url) as run:
                wrong = list(problems(plan, run, own, lifetimes_s[kind]))
                code = run.leader.process.returncode
            endings[f"exit code {code}"] += 1
            print(f"{number}: {plan}: {'; '.join(wrong) or 'good'}, exit code {code}", flush=True)
            if wrong:
                failed += 1
                kept = Path(tempfile.mkdtemp(prefix=f"soak-signals-{options.seed}-{number}-"))
                shutil.copytree(own, kept, dirs_exist_ok=True)
                print(f"    what it said: {kept}")
                print(f"    again: python -m tests.soak_signals --seed {options.seed} --first {number} --runs 1")
            else:
                shutil.rmtree(own)
    print(f"{failed} of {options.runs} failed; {dict(endings)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
