"""What the Strategies tab costs the load process while somebody watches: CPU time an answer, as a share of a core.

    python -m benchmarks.tab

First pages of 15 user classes are made up and recorded as in a run without rounds, at the pace that 200 users reach
together on one core, and the tab's route is asked for what is new as a browser does. Longer runs have more to show:
more different times, and more of the run to draw. Then the same is asked of a real Locust with 200 users at the limit
of a core: how soon it answers, so how old the page is at most. The browser's own work is in neither.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

from locust.argument_parser import get_parser
from locust.env import Environment

from dbkit.load import PageUser  # after Locust, which patches the process, and before what else is of dbkit

# isort: split

import requests
from rich.console import Console
from rich.table import Table

from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import integer
from dbkit.errors import DbkitError
from dbkit.load.conductor import Conductor
from dbkit.load.context import context_of
from dbkit.load.results import SO_FAR_S, Results
from dbkit.load.web.tab import StrategiesTab
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.timeline import Timeline

PROG = "python -m benchmarks.tab"
REPOSITORY = Path(__file__).parents[1]
USERS = 200
PAGES_A_SECOND = 250
ASK_EVERY_S = 1.5
"""As `view/tab.js` does."""
SHARE_AIM = 0.02
MINUTES = (1, 10, 60)


def main() -> None:
    parser = ArgumentParser(prog=PROG, description="What the Strategies tab costs the load process.")
    parser.add_argument(
        "--answers", type=integer(3), default=15, metavar="<number>", help="for each length of run; default 15"
    )
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # Locust's parser reads it, again and again
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("minutes", "pages", "KB an answer", "ms of CPU an answer", "largest", "of a core"):
        table.add_column(heading, justify="right")
    worst = 0.0
    watched = Watched()
    for minutes in MINUTES:
        watched.run_until(minutes * 60)
        costs_ms, size = watched.ask(options.answers)
        share = median(costs_ms) / 1000 / ASK_EVERY_S
        worst = max(worst, share)
        table.add_row(
            str(minutes), f"{watched.pages:,}", f"{size / 1000:.0f}", f"{median(costs_ms):.1f}", f"{max(costs_ms):.1f}",
            f"{share:.2%}",
        )  # fmt: skip
    Console().print(table)
    verdict = "met" if worst < SHARE_AIM else "missed"
    print(f"asked every {ASK_EVERY_S} s; the aim is under {SHARE_AIM:.0%} of a core: {verdict}")
    with running() as url:
        waits_ms = [ask_ms(url) for _ in range(options.answers)]
    print(f"{USERS} users at the limit of a core: answers after {median(waits_ms):.0f} ms (median)", end="")
    print(f", so that what is shown is {ASK_EVERY_S + max(waits_ms) / 1000:.1f} s old at most")


def ask_ms(url: str) -> float:
    """Milliseconds until the answer, after the pause that the tab makes."""
    time.sleep(ASK_EVERY_S)
    asked_at_s = time.perf_counter()
    requests.get(f"{url}/dbkit/state?version=0", timeout=60).raise_for_status()
    return (time.perf_counter() - asked_at_s) * 1000


@contextmanager
def running() -> Iterator[str]:
    """The address of a Locust with all users running."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--autostart", "-u", str(USERS), "-r", "100")
    command = [sys.executable, "-m", "locust", "-f", "locustfiles/users.py", *options]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_users(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait_for_users(process: subprocess.Popen[bytes], url: str) -> None:
    until_at_s = time.monotonic() + 60
    while time.monotonic() < until_at_s and process.poll() is None:
        with suppress(requests.ConnectionError):
            if requests.get(f"{url}/stats/requests", timeout=60).json()["user_count"] == USERS:
                return
        time.sleep(0.2)
    raise DbkitError("Locust did not start its users; try the same by hand: locust")


class Watched:
    """A Locust with all classes and a web UI, in this process, whose pages are made up."""

    def __init__(self) -> None:
        sys.path.insert(0, str(REPOSITORY / "locustfiles"))
        import users

        self.classes = [
            each for each in vars(users).values()
            if isinstance(each, type) and issubclass(each, PageUser) and not each.abstract
        ]  # fmt: skip
        environment = Environment(user_classes=list(self.classes), parsed_options=get_parser().parse_args([]))
        environment.create_local_runner()
        web_ui = environment.create_web_ui("127.0.0.1", 0, delayed_start=True)
        self.context = context_of(environment)
        conductor = Conductor(self.context)
        results = Results(self.context, conductor)
        StrategiesTab(web_ui, self.context, conductor, results)
        assert web_ui.app is not None
        self.client = web_ui.app.test_client()
        self.random = random.Random(1)
        self.pages = 0
        self.now = self.began_at = time.time()
        self.context.checked.set()
        self.context.begin_test(in_slots=False)
        results.on_test_start(environment)
        self.context.test.counts_from_at = self.began_at
        self.context.recorder.timeline = Timeline(lambda: self.now)
        results.on_test_stopping()

    def run_until(self, second: float) -> None:
        """Record pages at an even pace until so many seconds after the run's beginning."""
        while self.pages < second * PAGES_A_SECOND:
            at = self.began_at + self.pages / PAGES_A_SECOND
            self.now = at
            user_class = self.classes[self.pages % len(self.classes)]
            response_ms = 100 * self.random.lognormvariate(0, 1)
            cost = {name: 1 for name in COUNTS} | {name: response_ms * self.random.random() for name in PARTS}
            context = {
                "condition": user_class.__name__,
                "slot": None,
                "measured": True,
                "measured_share": 1.0,
                "think_ms": 0.0,
                **cost,
            }
            self.context.recorder.on_request(response_ms, context)
            if self.pages % PAGES_A_SECOND == 0:
                self.context.recorder.timeline.note_users(200)
            self.pages += 1
        self.context.test.counts_from_at_s = time.perf_counter() - second

    def ask(self, times: int) -> tuple[list[float], int]:
        """Milliseconds of CPU time for each of so many answers, and the bytes of the last."""
        costs_ms = []
        for _ in range(times):
            time.sleep(SO_FAR_S * 1.01)
            before_s = time.process_time()
            answer = self.client.get("/dbkit/state?version=0")
            costs_ms.append((time.process_time() - before_s) * 1000)
            assert answer.json and answer.json["result"]
        return costs_ms, len(answer.data)


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
