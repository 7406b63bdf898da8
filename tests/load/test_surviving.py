"""What is left of a run in whose middle something ends or fails: everything else, with every page in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.locust_runs import LocustRun, locust
from tests.servers import server

ROUNDS = """
import sys
sys.path.append("locustfiles")
from users import AsyncpgCore, PsycopgCore, PsycopgThreadsCore
from dbkit.load import Rounds

class Compare(Rounds):
    pass
"""
FILES = {"--report": "report.html", "--summary": "summary.md", "--junit": "junit.xml"}
TABLES = ("run_strategies.csv", "run_slots.csv", "run_comparison.json", "run_stats.csv")
SHORT_SLOTS = ("-u", "2", "--slot-time", "0.2", "--warm-up", "0.05")


def files_in(folder: Path) -> list[str]:
    """The options of the files that a run is to leave in that folder."""
    return [part for option, name in FILES.items() for part in (option, str(folder / name))]


def comparison(run: LocustRun) -> dict[str, object]:
    return dict(json.loads((run.folder / "run_comparison.json").read_text()))


def written(run: LocustRun) -> set[str]:
    return {name for name in (*FILES.values(), *TABLES) if (run.folder / name).is_file()}


def test_a_server_that_is_killed_in_rounds_and_started_again_leaves_every_output(tmp_path: Path) -> None:
    locustfile, folder = tmp_path / "rounds.py", tmp_path / "run"
    locustfile.write_text(ROUNDS)
    with server(tmp_path / "server") as database:
        arguments = (*SHORT_SLOTS, "--rounds", "1000", "--max-slot-time", "0.2", *files_in(folder))
        with locust(folder, *arguments, url=database.url, locustfiles=str(locustfile), record=True) as run:

            def slots_with(failures: bool) -> set[int]:
                return {page.context["slot"] for page in run.pages if (page.failure is not None) is failures}

            run.wait_until(lambda: len(slots_with(failures=False)) >= 5)  # each class had one that counts
            database.kill()
            run.wait_until(lambda: len(slots_with(failures=True)) >= 3)
            database.start()
            before = slots_with(failures=False)
            run.wait_until(lambda: len(slots_with(failures=False) - before) >= 5)
            assert run.terminate() == 1  # pages failed
        assert "Traceback" not in run.output, run.output
        assert written(run) == {*FILES.values(), *TABLES}
        result = comparison(run)
        assert result["missing"] == []
        pages = run.pages
        assert result["measured_on"]["pages_in_all"] == len(pages)  # type: ignore[index]
        rows = run.rows("slots")
        known = {int(row["slot"]): float(row["server_cpu_ms"]) for row in rows if row["server_cpu_ms"]}
        assert min(known.values()) >= 0
        down = min(slots_with(failures=True))
        assert max(known) > down, "the server that was started again is not read"
        # while it was down nothing is known of it, and what it used is not 0 either
        quiet = {int(row["slot"]) for row in rows if row["pages"] == row["failures"] != "0"}
        assert not quiet & known.keys()


MISTAKES = """
import dbkit.analysis.rounds, dbkit.load.outputs, dbkit.load.results

def fails(*_, **__):
    raise ZeroDivisionError("no such thing, as password=hunter2 says")

for module, name in {places}:
    assert hasattr(module, name)
    setattr(module, name, fails)
"""
IN_ROUNDS = """[
    (dbkit.analysis.rounds, "compare_rows"),
    (dbkit.analysis.rounds, "laws"),
    (dbkit.load.outputs, "report"),
    (dbkit.load.outputs, "print_result"),
    (dbkit.load.results, "plans_of"),
    (dbkit.load.results, "judge"),
]"""
WITHOUT_ROUNDS = '[(dbkit.load.results, "result_of_mixed_run")]'
MISSING = ("the verdicts on todo list", "laws of scaling", "the outcomes of checks", "plans")


@pytest.mark.parametrize(
    ("places", "missing", "not_written"),
    [(IN_ROUNDS, MISSING, {"report.html"}), (WITHOUT_ROUNDS, ("the tables",), set())],
    ids=["in rounds", "without rounds"],
)
def test_a_mistake_in_one_part_of_a_result_leaves_the_others(
    seeded_url: str, tmp_path: Path, places: str, missing: tuple[str, ...], not_written: set[str]
) -> None:
    locustfile, folder = tmp_path / "mistakes.py", tmp_path / "run"
    users = "import sys; sys.path.append('locustfiles'); from users import AsyncpgCore, PsycopgCore"
    is_in_rounds = places == IN_ROUNDS
    locustfile.write_text((ROUNDS if is_in_rounds else users) + MISTAKES.format(places=places))
    slots = (*SHORT_SLOTS, "--rounds", "3") if is_in_rounds else ("-u", "2", "-t", "1s")
    arguments = (*slots, "--check", "statements = 1", *files_in(folder), "AsyncpgCore", "PsycopgCore")
    with locust(folder, *arguments, url=seeded_url, locustfiles=str(locustfile)) as run:
        assert run.wait() == 2, run.output
    assert "Traceback" not in run.output and "hunter2" not in run.output, run.output
    assert written(run) == {*FILES.values(), *TABLES} - not_written
    result = comparison(run)
    lines = [f"{part} could not be made: ZeroDivisionError: no such thing, as password=…" for part in missing]
    for line, found in zip(lines, result["missing"], strict=True):  # type: ignore[call-overload]
        assert str(found).startswith(line)
        assert str(found).endswith("that is a mistake in dbkit: please report this line")
        assert found in result["warnings"]  # type: ignore[operator]
    others = [str(folder / name) for name in not_written] + ["the result"] * is_in_rounds
    for part in (*missing, *others):
        assert run.stderr.count(f"{part} could not be") == 1
    if is_in_rounds:
        assert {row["user_class"] for row in run.rows("strategies")} == {"AsyncpgCore", "PsycopgCore"}
        assert len(run.rows("slots")) >= 6


LOST = "1 load process was lost: its pages since the last report are missing"


@pytest.mark.parametrize("in_rounds", [False, True])
def test_a_load_process_that_is_killed_is_named_in_every_output(
    seeded_url: str, tmp_path: Path, in_rounds: bool
) -> None:
    locustfile, folder = tmp_path / "killed.py", tmp_path / "run"
    locustfile.write_text(ROUNDS.replace("(Rounds)", "(Rounds)" if in_rounds else "()"))
    slots = (*SHORT_SLOTS, "--rounds", "1000") if in_rounds else ("-u", "2", "-t", "600s")
    arguments = ("--processes", "2", *slots, *files_in(folder), "AsyncpgCore", "PsycopgCore")
    with locust(folder, *arguments, url=seeded_url, locustfiles=str(locustfile), record=True) as run:

        def pages_of_processes() -> Counter[int]:
            return Counter(page.process for page in run.pages)

        run.wait_until(lambda: len(pages_of_processes()) == 2 and min(pages_of_processes().values()) > 50)
        killed, other = pages_of_processes()
        os.kill(killed, signal.SIGKILL)
        run.wait_until(lambda: "setting state to missing" in run.stderr if not in_rounds else True)
        before = pages_of_processes()[other]
        run.wait_until(lambda: pages_of_processes()[other] > before + 50)
        assert run.terminate() == 0
        assert run.leftovers() == []
    assert "Traceback" not in run.output, run.output
    for text in (run.stdout, *((run.folder / name).read_text() for name in ("report.html", "summary.md"))):
        assert LOST in text
    result = comparison(run)
    assert sum(LOST in warning for warning in result["warnings"]) == 1  # type: ignore[attr-defined]
    reported, read = result["measured_on"]["pages_in_all"], pages_of_processes()  # type: ignore[index]
    assert read[other] <= reported <= read.total()


def test_a_load_process_that_is_ended_by_a_signal_is_not_lost(seeded_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("--processes", "2", "-u", "2", "-t", "600s", "AsyncpgCore")
    with locust(folder, *arguments, url=seeded_url, record=True) as run:
        run.wait_until(lambda: len({page.process for page in run.pages}) == 2)
        os.kill(run.pages[0].process, signal.SIGTERM)
        run.wait_until(lambda: " quit. " in run.stderr)
        assert run.terminate() == 0
    assert "lost" not in run.output
    assert comparison(run)["measured_on"]["pages_in_all"] == len(run.pages)  # type: ignore[index]


def test_a_run_whose_last_load_process_is_killed_ends_with_its_results(seeded_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("--processes", "2", "-u", "2", "-t", "600s", "AsyncpgCore")
    with locust(folder, *arguments, url=seeded_url, record=True) as run:
        run.wait_until(lambda: len({page.process for page in run.pages}) == 2)
        for process in {page.process for page in run.pages}:
            os.kill(process, signal.SIGKILL)
        assert run.wait() == 0
        assert run.leftovers() == []
    assert "all load processes are lost: ending the run" in run.stderr
    assert "Traceback" not in run.output
    warnings = comparison(run)["warnings"]
    for words in ("2 load processes were lost", "cut short"):
        assert sum(words in warning for warning in warnings) == 1, warnings  # type: ignore[attr-defined]


# Files that cannot be written

LOCUSTS = ("run_stats.csv", "run_stats_history.csv", "run_failures.csv", "run_exceptions.csv")
DBKITS = ("run_strategies.csv", "run_slots.csv", "run_comparison.json", *FILES.values())


def run_into(folder: Path) -> tuple[str, ...]:
    """The options of a short run without rounds that writes all its files into that folder."""
    files = ("--html", str(folder / "locust.html"), "--json-file", str(folder / "total"))
    return ("-u", "2", "--csv", str(folder / "run"), *files, *files_in(folder), "AsyncpgCore", "PsycopgCore")


def test_files_on_a_full_disk_cost_a_line_each(seeded_url: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    options = dict.fromkeys((*LOCUSTS[:3], "run_slots.csv"), "--csv")
    # two of those that dbkit is given by name would be the same file
    full = {**options, "report.html": "--report", "locust.html": "--html", "total.json": "--json-file"}
    for name in full:
        (results / name).symlink_to("/dev/full")
    with locust(tmp_path / "run", "-t", "2s", *run_into(results), url=seeded_url) as run:
        assert run.wait() == 2, run.output
    assert "Traceback" not in run.output and "Exception ignored" not in run.output, run.output
    for name, option in full.items():
        [line] = {line for line in run.stderr.splitlines() if f"cannot write {results / name}: " in line}
        assert line.endswith(f"; choose another place with {option}")
    assert all((results / name).stat().st_size for name in {*LOCUSTS, *DBKITS} - full.keys())
    assert "AsyncpgCore" in run.stdout  # the tables are on the terminal


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_log_on_a_full_disk_costs_a_line(seeded_url: str, tmp_path: Path, processes: tuple[str, ...]) -> None:
    options = ("-u", "2", "-t", "2s", "--logfile", "/dev/full", *processes, "AsyncpgCore")
    with locust(tmp_path / "run", *options, url=seeded_url) as run:
        assert run.wait() == 2, run.output
    [line] = [line for line in run.stderr.splitlines() if "/dev/full" in line]
    assert line == "dbkit: error: cannot write /dev/full: No space left on device; choose another place with --logfile"
    assert "Logging error" not in run.output and "Traceback" not in run.output, run.output
    assert "AsyncpgCore" in run.stdout


def test_a_log_that_cannot_be_opened_is_one_line(seeded_url: str, tmp_path: Path) -> None:
    with locust(tmp_path / "run", "--logfile", str(tmp_path), url=seeded_url) as run:
        assert run.wait() == 2
    line = f"dbkit: error: cannot write {tmp_path}: Is a directory; choose another place with --logfile"
    assert run.stderr.splitlines() == [line]


def test_a_folder_of_results_that_is_deleted_meanwhile_is_made_again(seeded_url: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    with locust(tmp_path / "run", "-t", "600s", *run_into(results), url=seeded_url, record=True) as run:
        run.wait_until(lambda: len(run.pages) > 50)
        shutil.rmtree(results)
        assert run.terminate() == 2, run.output
    assert "Traceback" not in run.output, run.output
    for name in LOCUSTS:
        assert run.stderr.count(f"cannot write {results / name}: it was deleted meanwhile") == 1
    assert sorted(path.name for path in results.iterdir()) == sorted((*DBKITS, "locust.html", "total.json"))
