"""Rounds as users run them: every class alone in its slots, every page counted once and where it belongs, to the end.

Locusts of which nothing but the end is looked at run side by side, as most of their time is waiting.
"""

from __future__ import annotations

import html
import itertools
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from dbkit.analysis.formats import interval
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import round_significant
from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.locust_runs import DEADLINE_S, LocustRun, free_port, locust

NAPS = '''
"""Users whose pages wait rather than work, and a record of each page as its process reported it to Locust."""

import json, os, sys, time

sys.path.append("locustfiles")
from users import PsycopgJoined
from dbkit.load import AsyncPageUser, Rounds, SyncPageUser
from dbkit.paging import joined
from locust import events
from sqlalchemy import text


def nap(session, page, page_size, seconds=0.02):
    session.execute(text(f"SELECT pg_sleep({seconds})"))
    return joined(session, page, page_size)

def fail_at_times(session, page, page_size):
    if page % 3 == 0:
        raise LookupError("a page that fails")
    return nap(session, page, page_size)

def sleep(session, page, page_size):
    """A user's first page takes a part of a slot, its others longer than one."""
    return nap(session, page, page_size, seconds=0.15 if page == 0 else os.environ["SLEEP_S"])


class PsycopgNap(SyncPageUser):
    strategy = "nap"
    page_function = nap

class AsyncpgNap(AsyncPageUser):
    stack = "asyncpg"
    strategy = "nap"
    page_function = nap

class PsycopgAsyncFailing(AsyncPageUser):
    stack = "psycopg-async"
    strategy = "fail_at_times"
    page_function = fail_at_times

class PsycopgSleep(SyncPageUser):
    strategy = "sleep"
    page_function = sleep

class PsycopgAsyncSleep(AsyncPageUser):
    stack = "psycopg-async"
    strategy = "sleep"
    page_function = sleep

class AsyncpgSleep(AsyncPageUser):
    stack = "asyncpg"
    strategy = "sleep"
    page_function = sleep

class PsycopgJoinedAgain(PsycopgJoined):
    pass

class Compare(Rounds):
    pass


files = {}

@events.request.add_listener
def record(request_type, start_time, response_time, exception, context, **_):
    file = files.get(os.getpid()) or files.setdefault(os.getpid(), open(f"{os.environ['PAGES']}/{os.getpid()}", "w", 1))
    print(json.dumps([request_type, start_time, response_time, exception is not None, context]), file=file)
'''
NAPPERS = ("PsycopgNap", "AsyncpgNap", "PsycopgAsyncFailing")
SLEEPERS = ("PsycopgSleep", "PsycopgAsyncSleep", "AsyncpgSleep")

STRATEGY_COLUMNS = (
    "workload,user_class,stack,strategy,users,arrivals_per_s,processes,rounds,pages,failures,unfinished,backed_off_s,"
    "pages_per_s,pages_per_s_low,pages_per_s_high,sustained,late,waiting,not_begun,longest_lag_ms,generator_lag_ms,"
    "p50_ms,p95_ms,p99_ms,max_ms,p95_ms_low,p95_ms_high,"
    "statements,round_trips,prepares,rows,discarded_rows,connections,queue_ms,pool_ms,connect_ms,db_ms,client_ms,"
    "server_wait_ms,answer_wait_ms,think_ms,client_cpu_ms,server_cpu_ms,relay_cpu_ms,end,bound_by,largest_part,"
    "harness_share,harness_share_low,harness_share_high"
)

NO_SLOT = -1


@dataclass(frozen=True)
class Page:
    """One page, as its process reported it to Locust."""

    process: int
    stack: str
    began_s: float
    response_ms: float
    failed: bool
    context: dict[str, Any]

    @property
    def ended_s(self) -> float:
        return self.began_s + self.response_ms / 1000

    @property
    def slot(self) -> int:
        """`NO_SLOT` where there is none, as there should not be in rounds."""
        slot = self.context["slot"]
        return NO_SLOT if slot is None else int(slot)

    @property
    def user_class(self) -> str:
        return str(self.context["user_class"])

    @property
    def measured(self) -> bool:
        return bool(self.context["measured"])


@dataclass(frozen=True)
class Run:
    """A Locust of rounds, running or ended, and what it left."""

    locust: LocustRun

    @property
    def pages(self) -> list[Page]:
        return [
            Page(int(file.name), *json.loads(line))
            for file in sorted(records(self.locust.folder).iterdir())
            for line in file.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]

    @property
    def comparison(self) -> dict[str, Any]:
        return dict(json.loads((self.locust.folder / "run_comparison.json").read_text()))

    @property
    def slots(self) -> list[dict[str, str]]:
        return self.locust.rows("slots")

    @property
    def strategies(self) -> dict[str, dict[str, str]]:
        return {row["user_class"]: row for row in self.locust.rows("strategies")}

    @property
    def report(self) -> str:
        """The text of the HTML report."""
        return html.unescape((self.locust.folder / "report.html").read_text())

    @property
    def summary(self) -> str:
        """The Markdown, without what escapes its marks."""
        return (self.locust.folder / "summary.md").read_text().replace("\\", "")

    @property
    def pages_of_locust(self) -> int:
        """Locust's own total."""
        entries = json.loads((self.locust.folder / "total.json").read_text())
        return sum(entry["num_requests"] for entry in entries)

    def wait_for_slot(self, number: int) -> None:
        """Wait until a page of that slot was read."""
        self.locust.wait_until(lambda: any(page.slot >= number for page in self.pages))

    def end(self) -> None:
        """Wait for its good end."""
        assert self.locust.wait() == 0, self.locust.output
        assert "Traceback" not in self.locust.output, self.locust.output


def records(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-pages")


Start = Callable[..., AbstractContextManager[Run]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, seeded_url: str) -> Start:
    """Start Locust with `NAPS`, two users, and two rounds of short slots, if nothing else is given."""
    folder = tmp_path_factory.mktemp("rounds")
    naps = folder / "naps.py"
    naps.write_text(NAPS)
    numbers = itertools.count()

    @contextmanager
    def start(
        *arguments: str,
        url: str | None = seeded_url,
        locustfiles: str = str(naps),
        web: bool = False,
        sleep_s: float = 1,
    ) -> Iterator[Run]:
        own = folder / str(next(numbers))
        records(own).mkdir()
        slots = ("-u", "2", "--rounds", "2", "--slot-time", "0.3", "--warm-up", "0.1")
        files = ("--report", str(own / "report.html"), "--summary", str(own / "summary.md"))
        options = (*slots, *files, "--exit-code-on-error", "0", "--json-file", str(own / "total"), *arguments)
        environment = {"PAGES": str(records(own)), "SLEEP_S": str(sleep_s)}
        with locust(own, *options, url=url, locustfiles=locustfiles, web=web, environment=environment) as run:
            yield Run(run)

    return start


def distant(port: str) -> tuple[str, ...]:
    """The options of a worker of its own, under the master at that port."""
    return ("--worker", "--master-host", "127.0.0.1", "--master-port", port)


def master(port: str, workers: int) -> tuple[str, ...]:
    return ("--master", "--master-bind-port", port, "--expect-workers", str(workers))


@pytest.fixture(scope="module")
def runs(start: Start, password_url: str) -> dict[str, list[Run]]:
    """Runs that end by themselves, when they have ended: the process that leads, and the workers with it."""
    with ExitStack() as exits:

        def begin(*arguments: str, **kwargs: Any) -> Run:
            return exits.enter_context(start(*arguments, **kwargs))

        port, other_port = str(free_port()), str(free_port())
        sleepers = (*SLEEPERS, "PsycopgNap", "--page-order", "sequential", "--rounds", "1", "--max-slot-time", "0")
        measured, in_warm_up = ("--slot-time", "0.9"), ("--warm-up", "0.9", "--slot-time", "0.1")
        cut_off = ("--drain-timeout", "0.2")
        runs = {
            "one process": [begin("--rounds", "3", *NAPPERS, "--slot-time", "0.5", url=password_url)],
            "two processes": [begin("--rounds", "3", *NAPPERS, "--processes", "2", "--reference", "AsyncpgNap")],
            "separate": [
                begin(*master(port, workers=2), *NAPPERS),
                begin(*distant(port), *NAPPERS),
                begin(*distant(port), *NAPPERS),
            ],
            "other seed": [begin("--rounds", "3", *NAPPERS, "--slot-time", "0.05", "--seed", "2")],
            "slow": [begin(*sleepers, *measured, "--max-slot-time", "0", sleep_s=1.5)],
            "cut off": [begin(*sleepers, *measured, *cut_off, sleep_s=60)],
            "cut off in warm-up": [begin(*sleepers, *in_warm_up, *cut_off, sleep_s=60)],
            "A/A": [begin("--rounds", "12", "--warm-up", "0.05", "PsycopgJoined", "PsycopgJoinedAgain")],
            "one worker killed": [
                begin(*master(other_port, workers=2), "--rounds", "3", *NAPPERS[:2]),
                begin(*distant(other_port), *NAPPERS[:2]),
            ],
        }
        killed = begin(*distant(other_port), *NAPPERS[:2])
        killed.wait_for_slot(1)
        killed.locust.process.kill()
        for run in itertools.chain(*runs.values()):
            run.end()
        return runs | {"killed": [killed]}


def pages_of(processes: list[Run]) -> list[Page]:
    return [page for run in processes for page in run.pages]


def by_slot(pages: list[Page]) -> dict[int, list[Page]]:
    slots: defaultdict[int, list[Page]] = defaultdict(list)
    for page in pages:
        slots[page.slot].append(page)
    return dict(sorted(slots.items()))


def assert_figures_are_of(row: dict[str, str], pages: list[Page]) -> None:
    """A row of a table says of these pages what they say themselves. For `pages_per_s` see `pages_per_s_of`."""
    good = [page for page in pages if not page.failed]
    responses = [page.response_ms for page in good]
    expected = {
        "pages": len(pages),
        "failures": len(pages) - len(good),
        "max_ms": max(responses),
        **{name: fmean(page.context[name] for page in good) for name in (*COUNTS, *PARTS)},
    }
    rounded = [round_significant(ms) for ms in responses]
    for name, share in {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}.items():
        expected[name] = float(np.quantile(rounded, share, method="inverted_cdf"))
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-5)


def pages_per_s_of(pages: list[Page], seconds: float) -> float:
    """Pages a second in slots of so many measured seconds: each good page counts by the share that was measured."""
    shares: list[float] = [page.context["measured_share"] for page in pages if not page.failed]
    return sum(shares) / seconds


# Who reads when


@pytest.mark.parametrize("name", ["one process", "two processes", "separate"])
def test_every_round_has_each_class_once(runs: dict[str, list[Run]], name: str) -> None:
    run = runs[name][0]
    rounds: defaultdict[str, list[str]] = defaultdict(list)
    for row in run.slots:
        if row["replaced"] == "no":
            rounds[row["round"]].append(row["user_class"])
    assert len(rounds) == run.comparison["measured_on"]["options"]["rounds"]
    assert [sorted(of_round) for of_round in rounds.values()] == [sorted(NAPPERS)] * len(rounds)


def test_the_order_is_repeated_with_the_same_seed_and_differs_with_another(runs: dict[str, list[Run]]) -> None:
    def order(name: str) -> list[tuple[str, str]]:
        # a disturbed slot is run again at its round's end
        return list(dict.fromkeys((row["round"], row["user_class"]) for row in runs[name][0].slots))

    assert order("one process") == order("two processes")
    assert sorted(order("other seed")) == sorted(order("one process"))
    assert order("other seed") != order("one process")


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "slow", "cut off", "A/A"])
def test_one_class_reads_at_a_time(runs: dict[str, list[Run]], name: str) -> None:
    slots = by_slot(pages_of(runs[name]))
    rows = {int(row["slot"]): row for row in runs[name][0].slots}
    assert slots.keys() == rows.keys()
    ended_s = 0.0
    for number, pages in slots.items():
        assert {page.user_class for page in pages} == {rows[number]["user_class"]}
        assert min(page.began_s for page in pages) > ended_s
        ended_s = max(page.ended_s for page in pages)


@pytest.mark.parametrize("name", ["one process", "two processes", "separate"])
def test_no_more_pages_are_read_at_a_time_than_there_are_users(runs: dict[str, list[Run]], name: str) -> None:
    pages = pages_of(runs[name])
    # a user asks for the next page when the last one has come back: the times are equal but for the clock's digits
    edges = sorted([(page.began_s, 1) for page in pages] + [(page.ended_s - 1e-4, -1) for page in pages])
    assert max(itertools.accumulate(step for _, step in edges)) == 2


# What counts where


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "slow", "cut off", "A/A"])
def test_slots_hold_the_pages_asked_in_them_and_none_of_the_warm_up(runs: dict[str, list[Run]], name: str) -> None:
    slots = by_slot(pages_of(runs[name]))
    for row in runs[name][0].slots:
        pages = slots[int(row["slot"])]
        measured = [page for page in pages if page.measured]
        assert int(row["warm_up_pages"]) == len(pages) - len(measured)
        assert int(row["pages"]) == len(measured)
        assert float(row["pages_per_s"]) == pytest.approx(pages_per_s_of(pages, float(row["seconds"])), rel=1e-5)
        if any(not page.failed for page in measured):
            assert_figures_are_of(row, measured)


def test_measured_shares_of_pages_fill_the_users_time(runs: dict[str, list[Run]]) -> None:
    [run] = runs["slow"]
    slots = by_slot(run.pages)
    for row in run.slots:
        pages = slots[int(row["slot"])]
        measured_ms = sum(
            page.context["measured_share"] * (page.response_ms - page.context["queue_ms"] - page.context["pool_ms"])
            for page in pages
        )
        # two users, who do little else
        assert 0.9 < measured_ms / 1000 / float(row["seconds"]) / 2 <= 1 + 1e-6


def test_a_warm_up_comes_before_the_measured_pages_of_its_slot(runs: dict[str, list[Run]]) -> None:
    [run] = runs["one process"]
    slots = by_slot(run.pages)
    compared = 0
    for row in run.slots:
        measured = [page.began_s for page in slots[int(row["slot"])] if page.measured]
        warm_up = [page.began_s for page in slots[int(row["slot"])] if not page.measured]
        if not (measured and warm_up):
            continue  # where others keep the cores busy, a slot may pass without a page
        compared += 1
        # to the precision with which a page's beginning is known from what was reported after its end
        assert max(warm_up) < min(measured) + 0.05
        assert max(measured) - min(measured) < float(row["seconds"])
    assert compared > 0


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "A/A"])
def test_a_class_has_the_figures_of_its_slots_together(runs: dict[str, list[Run]], name: str) -> None:
    kept = [row for row in runs[name][0].slots if row["replaced"] == "no"]
    slots = by_slot(pages_of(runs[name]))
    for user_class, row in runs[name][0].strategies.items():
        own = [slot for slot in kept if slot["user_class"] == user_class]
        pages = [page for slot in own for page in slots[int(slot["slot"])]]
        assert_figures_are_of(row, [page for page in pages if page.measured])
        assert int(row["rounds"]) == len(own)
        rates = [pages_per_s_of(slots[int(slot["slot"])], float(slot["seconds"])) for slot in own]
        on_pages = [each for each in runs[name][0].comparison["verdicts"] if each["quantity"] == "pages_per_s"]
        if not any(verdict["steal_adjusted"] for verdict in on_pages):
            assert float(row["pages_per_s"]) == pytest.approx(geometric_mean(rates), rel=1e-4)
        for verdict in on_pages:
            ratio = [float(runs[name][0].strategies[verdict[role]]["pages_per_s"]) for role in ("label", "reference")]
            assert verdict["ratio"] == pytest.approx(ratio[0] / ratio[1], rel=1e-4)


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "A/A"])
def test_the_parts_of_a_class_add_up_to_its_mean_response_time(runs: dict[str, list[Run]], name: str) -> None:
    replaced = {int(row["slot"]) for row in runs[name][0].slots if row["replaced"] == "yes"}
    pages = [page for page in pages_of(runs[name]) if page.measured and not page.failed and page.slot not in replaced]
    for user_class, row in runs[name][0].strategies.items():
        mean_ms = fmean(page.response_ms for page in pages if page.user_class == user_class)
        assert sum(float(row[part]) for part in PARTS) == pytest.approx(mean_ms, rel=1e-4)


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "slow", "cut off"])
def test_all_pages_are_those_that_locust_counted(runs: dict[str, list[Run]], name: str) -> None:
    run = runs[name][0]
    assert run.comparison["measured_on"]["pages_in_all"] == run.pages_of_locust
    in_slots = sum(int(row["pages"]) + int(row["warm_up_pages"]) for row in run.slots)
    assert in_slots == run.pages_of_locust == len(pages_of(runs[name]))


@pytest.mark.parametrize("name", ["one process", "two processes", "separate", "slow"])
def test_rates_of_locust_are_by_the_time_in_which_a_class_could_read(runs: dict[str, list[Run]], name: str) -> None:
    slots = runs[name][0].slots
    turns_s = {
        int(slot["slot"]): float(following["began_s"]) - float(slot["began_s"])
        for slot, following in itertools.pairwise(slots)
    }
    strategies = runs[name][0].strategies
    lines = {(row["Type"], row["Name"]): row for row in runs[name][0].locust.rows("stats")}
    assert lines.keys() == {("", "Aggregated"), *((row["stack"], row["strategy"]) for row in strategies.values())}
    for user_class, row in strategies.items():
        own = [slot for slot in slots if slot["user_class"] == user_class]
        assert_open_for(lines[row["stack"], row["strategy"]], own, turns_s)
    assert_open_for(lines["", "Aggregated"], slots, turns_s)


def assert_open_for(line: dict[str, str], slots: list[dict[str, str]], turns_s: dict[int, float]) -> None:
    """That Locust's rates are by a time of no less than what was measured, and no more than from turn to turn."""
    open_s = int(line["Request Count"]) / float(line["Requests/s"])
    assert open_s >= sum(float(slot["seconds"]) for slot in slots) * (1 - 1e-6)
    if all(int(slot["slot"]) in turns_s for slot in slots):  # when the last one of all ended is in no file
        assert open_s <= sum(turns_s[int(slot["slot"])] for slot in slots)
    assert float(line["Failures/s"]) == pytest.approx(int(line["Failure Count"]) / open_s)


def test_who_is_faster_by_the_rates_of_locust_is_faster_by_those_of_dbkit(runs: dict[str, list[Run]]) -> None:
    [run] = runs["slow"]
    rates = {(row["Type"], row["Name"]): float(row["Requests/s"]) for row in run.locust.rows("stats")}
    strategies = run.strategies
    nap = strategies.pop("PsycopgNap")
    assert strategies.keys() == {*SLEEPERS}
    for row in strategies.values():
        assert rates["psycopg", "nap"] > rates[row["stack"], row["strategy"]]
        assert float(nap["pages_per_s"]) > float(row["pages_per_s"])


# Slow pages


def slots_of_sleepers(run: Run) -> list[dict[str, str]]:
    slots = [row for row in run.slots if row["user_class"] in SLEEPERS]
    assert {row["user_class"] for row in slots} == {*SLEEPERS}
    return slots


def test_pages_that_outlast_their_slot_are_waited_for_and_count_in_it(runs: dict[str, list[Run]]) -> None:
    [run] = runs["slow"]
    slots = slots_of_sleepers(run)
    for row in slots:
        # two users, of whom each reads one page that fits into the slot, if the machine is not too busy, and one more
        assert int(row["pages"]) + int(row["warm_up_pages"]) in range(2, 5)
        assert (int(row["failures"]), int(row["unfinished"])) == (0, 0)
    assert any(float(row["max_ms"] or 0) > 1000 * float(row["seconds"]) for row in slots)


@pytest.mark.parametrize("name", ["cut off", "cut off in warm-up"])
def test_pages_that_outlast_the_drain_timeout_are_cut_off_and_fail(runs: dict[str, list[Run]], name: str) -> None:
    [run] = runs[name]
    slots = slots_of_sleepers(run)
    for row in slots:
        # the first page of a user fits into the slot, if the machine is not too busy, and the other one never
        assert int(row["pages"]) + int(row["warm_up_pages"]) >= 2
        assert int(row["failures"]) <= int(row["unfinished"]) <= 2
    cut_off = sum(int(row["unfinished"]) for row in slots)
    assert cut_off
    said = f"pages cut off, and failed, as they did not come back within --drain-timeout: {cut_off}"
    assert said in run.comparison["warnings"]
    assert said in run.locust.stdout


def test_slots_after_pages_were_cut_off_are_as_any_other(runs: dict[str, list[Run]]) -> None:
    [run] = runs["cut off"]
    order = [row["user_class"] for row in run.slots]
    assert {*order[: order.index("PsycopgNap")]} & {*SLEEPERS}
    for row in run.slots:
        if row["user_class"] == "PsycopgNap":
            assert int(row["pages"]) > 0
            assert (int(row["failures"]), int(row["unfinished"]), float(row["statements"])) == (0, 0, 2)


# What is written


def test_the_columns_are_those_promised(runs: dict[str, list[Run]]) -> None:
    table = (runs["one process"][0].locust.folder / "run_strategies.csv").read_text()
    assert table.splitlines()[0] == STRATEGY_COLUMNS


def test_classes_are_compared_with_the_reference(runs: dict[str, list[Run]]) -> None:
    named, slowest = runs["two processes"][0].comparison, runs["one process"][0].comparison
    last = slowest["strategies"][-1]["user_class"]
    for comparison, label, is_named in ((named, "AsyncpgNap", True), (slowest, last, False)):
        assert [*comparison["references"].values()] == [[{"differs_in": "class", "label": label, "named": is_named}]]
        others = {*NAPPERS} - {label}
        assert {verdict["reference"] for verdict in comparison["verdicts"]} == {label}
        assert {verdict["label"] for verdict in comparison["verdicts"]} == others


@pytest.mark.parametrize("table", ["strategies", "slots"])
@pytest.mark.parametrize("name", ["one process", "two processes", "cut off"])
def test_tables_and_comparison_hold_the_same_numbers(runs: dict[str, list[Run]], name: str, table: str) -> None:
    def cell(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value:.6g}"
        return "" if value is None else str(value)

    run = runs[name][0]
    rows = run.locust.rows(table)
    reported = run.comparison[table]
    assert len(rows) == len(reported) > 0
    assert rows == [{column: cell(row[column]) for column in rows[0]} for row in reported]


def test_each_class_has_forecasts_that_rest_on_what_was_measured(runs: dict[str, list[Run]]) -> None:
    for name, processes in (("one process", 1), ("two processes", 2)):
        comparison = runs[name][0].comparison
        rows = {row["condition"]: row for row in comparison["strategies"] if row["pages_per_s"] and row["round_trips"]}
        found = [each for each in comparison["forecasts"] if each["condition"] in rows]
        assert found
        for each in found:
            row = rows[each["condition"]]
            assert each["rests_on_pages_per_s"] == row["pages_per_s"]
            assert (each["users"], each["processes"]) == (row["users"], processes)
            assert each["pages_per_s"] > 0


def test_a_comparison_names_what_was_measured(runs: dict[str, list[Run]]) -> None:
    measured_on = runs["one process"][0].comparison["measured_on"]
    assert measured_on["options"]["seed"] == 1
    assert measured_on["options"]["slot_time"] == 0.5
    assert measured_on["server"]["postgresql"].startswith("18")
    assert measured_on["server"]["settings"]["max_connections"]
    assert measured_on["server"]["round_trip_ms"] > 0
    assert {"SQLAlchemy", "psycopg", "asyncpg", "locust", "gevent", "uvloop"} <= measured_on["packages"].keys()
    assert measured_on["processor"]


def test_no_file_holds_the_password(runs: dict[str, list[Run]]) -> None:
    [run] = runs["one process"]
    files = {path.name: path.read_text() for path in run.locust.files()}
    assert {"run_strategies.csv", "run_slots.csv", "run_comparison.json", "stdout", "stderr"} <= files.keys()
    assert "tester@127.0.0.1" in files["run_comparison.json"]
    for name, content in files.items():
        assert PASSWORD not in content, name
        assert PASSWORD_IN_URL not in content, name


def test_the_same_class_under_two_names_gets_a_verdict_with_an_interval(runs: dict[str, list[Run]]) -> None:
    comparison = runs["A/A"][0].comparison
    verdicts = {verdict["quantity"]: verdict for verdict in comparison["verdicts"]}
    assert verdicts.keys() >= {"pages_per_s", "p50_ms", "p95_ms", "p99_ms", "client_cpu_ms"}
    of_round: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for row in comparison["slots"]:
        if not row["replaced"]:
            of_round[row["round"]][row["user_class"]] = row["pages_per_s"]
    verdict = verdicts["pages_per_s"]
    assert verdict["rounds"] == len(of_round) == 12
    assert 0 < verdict["low"] < verdict["ratio"] < verdict["high"] < float("inf")
    if not verdict["steal_adjusted"]:
        ratios = [rates[verdict["label"]] / rates[verdict["reference"]] for rates in of_round.values()]
        assert verdict["ratio"] == pytest.approx(exp(fmean(log(ratio) for ratio in ratios)), rel=1e-5)
    assert interval(verdict["low"], verdict["high"]) in runs["A/A"][0].locust.stdout


# Ended from outside


SIGNALS = {
    f"{number.name} to {target}, {processes}": (number, target, processes)
    for number, target, processes in [
        (signal.SIGINT, "the process", "one process"),
        (signal.SIGINT, "the process twice", "one process"),
        (signal.SIGTERM, "the process", "one process"),
        (signal.SIGHUP, "the process", "one process"),
        (signal.SIGINT, "the process", "two processes"),
        (signal.SIGTERM, "the process", "two processes"),
        (signal.SIGHUP, "the process", "two processes"),
        (signal.SIGINT, "its group", "two processes"),
        (signal.SIGTERM, "its group", "two processes"),
        (signal.SIGHUP, "its group", "two processes"),
    ]
}


@pytest.fixture(scope="module")
def signalled(start: Start) -> dict[str, Run]:
    """Runs that a signal ended during their schedule."""
    with ExitStack() as exits:
        runs = {}
        for name, (_, _, processes) in SIGNALS.items():
            options = ("--processes", "2") if processes == "two processes" else ()
            runs[name] = exits.enter_context(start("--rounds", "1000", *NAPPERS, *options))
        for name, run in runs.items():
            run.wait_for_slot(7)  # with each of the three classes run again, all have had a slot that counts
            number, target, _ = SIGNALS[name]
            (os.killpg if target == "its group" else os.kill)(run.locust.process.pid, number)
            if target == "the process twice":
                run.locust.process.send_signal(number)
        for run in runs.values():
            run.end()
            assert run.locust.leftovers() == []
    return runs


@pytest.mark.parametrize("name", SIGNALS)
def test_on_a_signal_a_run_ends_with_its_results_written(signalled: dict[str, Run], name: str) -> None:
    run = signalled[name]
    assert run.comparison["warnings"][0].startswith("cut short")
    assert "cut short" in run.locust.stdout
    assert run.strategies.keys() == {*NAPPERS}
    # the last slot's pages are there as well
    assert run.comparison["measured_on"]["pages_in_all"] == run.pages_of_locust == len(run.pages)
    for output in (run.report, run.summary):
        assert run.comparison["warnings"][0] in output
        assert run.comparison["headline"][0] in output


def test_a_run_ended_in_its_first_slot_says_that_nothing_was_measured(start: Start) -> None:
    with start("--rounds", "1000", "--slot-time", "60", *NAPPERS) as run:
        run.wait_for_slot(0)
        run.locust.process.send_signal(signal.SIGINT)
        run.end()
        assert run.comparison["warnings"][0] == "cut short: 0 of 3000 slots were run"
        for output in (run.locust.stdout, run.report, run.summary):
            assert "cut short: 0 of 3000 slots were run" in output
            assert "No page was served." in output
        assert run.slots == []


def test_when_a_worker_is_killed_the_schedule_goes_on_to_its_end(runs: dict[str, list[Run]]) -> None:
    (leader, worker), [killed] = runs["one worker killed"], runs["killed"]
    classes = leader.comparison["measured_on"]["options"]["rounds"] * 2
    assert sum(row["replaced"] == "no" for row in leader.slots) == classes
    last = leader.slots[-1]
    assert int(last["pages"]) == sum(page.measured for page in by_slot(worker.pages)[int(last["slot"])]) > 0
    assert leader.comparison["measured_on"]["pages_in_all"] == leader.pages_of_locust
    # what the killed one had not reported yet is lost to Locust as well
    assert len(worker.pages) < leader.pages_of_locust <= len(worker.pages) + len(killed.pages)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_rounds_run_from_the_web_form_again_and_again(start: Start, processes: tuple[str, ...]) -> None:
    with start(*NAPPERS, *processes, web=True) as run:

        def is_over() -> bool:
            return str(run.locust.web_stats()["state"]) == "stopped"

        def files_are_newer_than(moment: float) -> bool:
            path = run.locust.folder / "run_comparison.json"
            return path.exists() and path.stat().st_mtime > moment

        def run_to_the_end(**form: object) -> None:
            begun = time.time()
            answer = run.locust.swarm(**form)
            assert answer["success"], answer
            run.locust.wait_until(lambda: files_are_newer_than(begun) and is_over())

        if processes:
            run.locust.wait_until(lambda: len(run.locust.web_stats()["workers"]) == 2)
        run_to_the_end(rounds=2, slot_time="0.1", warm_up="0.05")
        assert {(row["rounds"], row["users"]) for row in run.strategies.values()} == {("2", "2")}
        assert run.comparison["measured_on"]["options"]["slot_time"] == 0.1
        assert not any("cut short" in warning for warning in run.comparison["warnings"])
        pages = len(run.pages)
        assert run.comparison["measured_on"]["pages_in_all"] == pages

        begun = time.time()
        assert run.locust.swarm(rounds=1000)["success"]
        run.locust.wait_until(lambda: any(page.slot >= 1 for page in run.pages[pages:]))
        requests.post(f"{run.locust.web_url}/stop", timeout=DEADLINE_S).raise_for_status()
        run.locust.wait_until(lambda: files_are_newer_than(begun) and is_over())
        assert run.comparison["warnings"][0].startswith("cut short")
        assert run.comparison["measured_on"]["pages_in_all"] == len(run.pages) - pages

        run_to_the_end(user_count=3, rounds=1, slot_time="0.1", warm_up="0.05")
        assert {(row["rounds"], row["users"]) for row in run.strategies.values()} == {("1", "3")}
        assert run.locust.terminate() == 0
    assert NO_SLOT not in by_slot(run.pages)
    assert "Traceback" not in run.locust.output, run.locust.output


# What does not go with rounds

REFUSED = {
    "--run-time": ("--run-time", "10s"),
    "--reset-stats": ("--reset-stats",),
    "--reference": ("--reference", "PsycopgFast"),
}


@pytest.fixture(scope="module")
def refused(start: Start) -> dict[str, Run]:
    with ExitStack() as exits:
        runs = {name: exits.enter_context(start(*options, *NAPPERS)) for name, options in REFUSED.items()}
        for run in runs.values():
            run.locust.wait()
    return runs


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_does_not_go_with_rounds_is_refused_in_one_line(refused: dict[str, Run], option: str) -> None:
    run = refused[option]
    assert run.locust.process.returncode == 2
    [line] = [line for line in run.locust.output.splitlines() if "Starting Locust" not in line]
    assert line.startswith(f"dbkit: error: {option} ")
    assert run.pages == []


# What the classes were bound by


@pytest.fixture(scope="module")
def bound(start: Start) -> dict[str, Run]:
    with ExitStack() as exits:
        runs = {
            "think time": exits.enter_context(start("PsycopgNap", "--think-time", "0.5", "--slot-time", "0.8")),
            "pool": exits.enter_context(start("AsyncpgNap", "--pool-size", "1", "--max-overflow", "0", "-u", "4")),
            "users": exits.enter_context(start("PsycopgAsyncSleep", "--slot-time", "1.5", sleep_s=0.3)),
            "users, where pages fail": exits.enter_context(start("PsycopgAsyncFailing")),
        }
        for run in runs.values():
            run.end()
    return runs


@pytest.mark.parametrize("name", ["think time", "pool", "users", "users, where pages fail"])
def test_a_class_says_what_it_was_bound_by(bound: dict[str, Run], name: str) -> None:
    [row] = bound[name].strategies.values()
    if name == "users, where pages fail":
        assert row["bound_by"] != "think time"  # their time is no think time, whatever else holds them back
    else:
        assert row["bound_by"] == name


def test_where_nothing_is_at_its_limit_the_largest_part_of_a_page_is_named(bound: dict[str, Run]) -> None:
    run = bound["users"]
    assert run.strategies["PsycopgAsyncSleep"]["largest_part"] == "db"
    for output in (run.locust.stdout, run.report, run.summary):
        assert "users, mostly db" in output


def test_the_think_time_before_a_page_is_in_the_table(bound: dict[str, Run]) -> None:
    assert float(bound["think time"].strategies["PsycopgNap"]["think_ms"]) > 0
    assert float(bound["users"].strategies["PsycopgAsyncSleep"]["think_ms"]) == 0


WITH_A_HUB = """
import gevent
from dbkit.load import Rounds, page_users
from dbkit.paging import core
from dbkit.todo.workload import TODO_LIST

def read(session, page, page_size):
    gevent.get_hub()  # as what gevent has patched does where it waits, such as a lock of threading
    return core(session, page, page_size)

page_users(TODO_LIST, read=read)

class Compare(Rounds):
    pass
"""


def test_slots_leave_no_file_open(start: Start, tmp_path: Path) -> None:
    slots = ("--rounds", "100000", "--slot-time", "0.05", "--warm-up", "0", "--max-slot-time", "0", "--plans", "none")
    (tmp_path / "with_a_hub.py").write_text(WITH_A_HUB)
    with start(*slots, locustfiles=str(tmp_path / "with_a_hub.py")) as run:
        process, open_files = psutil.Process(run.locust.process.pid), []
        for round_number in (3, 13, 23):
            run.locust.wait_until(lambda line=f"round {round_number} of": line in run.locust.output)  # type: ignore[misc]
            open_files.append(process.num_fds())
    assert max(open_files) < min(open_files) + 8, open_files  # a slot may have opened some that it will close


def test_a_worker_that_joins_during_the_rounds_reads_pages_too(start: Start) -> None:
    port = str(free_port())
    rounds = ("-u", "2", "--rounds", "40", "--slot-time", "0.2", NAPPERS[0])
    with start(*master(port, workers=1), *rounds) as leading, start(*distant(port), *rounds) as first:
        first.wait_for_slot(1)
        with start(*distant(port), *rounds) as second:
            second.wait_for_slot(0)
            leading.locust.process.send_signal(signal.SIGINT)
            assert leading.locust.wait() == 0, leading.locust.output
            first.end()
            second.end()
        assert "Traceback" not in leading.locust.output, leading.locust.output
        assert sum(row["pages"] for row in leading.comparison["strategies"]) > 0
