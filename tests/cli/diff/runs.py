"""`dbkit diff` as users run it, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from tests import waiting
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.repositories import ALONE, Shop

SHORT = ("--rounds", "3", "--slot-time", "0.2", "--warm-up", "0.1", "-u", "2")


def environment(url: str, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("DBKIT_|LOCUST_|PG|GIT_", name)}
    own = {
        "DBKIT_DATABASE_URL": url,
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder),
    }
    return kept | ALONE | own


@contextmanager
def started(shop: Shop, url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `dbkit diff` in the shop's folder, in a session of its own; what it makes lies beside the shop."""
    beside = shop.root.parent / "beside"
    beside.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dbkit", "diff", *arguments],
        cwd=shop.folder,
        env=environment(url, beside),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def diff(shop: Shop, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run to its end; then nothing is left of it."""
    with started(shop, url, *arguments) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert leftovers(shop) == []
    return subprocess.CompletedProcess([], process.returncode, output, errors)


def leftovers(shop: Shop) -> list[str]:
    """Processes and folders of a command that has ended."""
    here = str(shop.root.parent)
    left = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if here in (process.info["environ"] or {}).get("TMPDIR", ""):
            left.append(" ".join(process.info["cmdline"] or []))
    kept = {"dbkit", ".dbkit"}  # caches
    return left + [str(each) for each in (shop.root.parent / "beside").iterdir() if each.name not in kept]


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what is wrong."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1].removeprefix("python -m dbkit: error: ")


def in_workers(shop: Shop, code: str) -> Path:
    """Have code run where a worker imports the locustfile; the file that it may write to, as `file`."""
    file = shop.root.parent / "written"
    file.touch()
    lines = [
        f"\nimport os, sys, time\n\nfile = {str(file)!r}\nif '--worker' in sys.argv:\n",
        textwrap.indent(textwrap.dedent(code), "    "),
    ]
    with (shop.folder / "shop_load.py").open("a") as locustfile:
        locustfile.writelines(lines)
    shop.commit("What workers do besides")
    return file


wait_until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read what it says until a line with these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")


def from_start(number: int, code: str) -> str:
    """Code for `in_workers` that runs from so many starts of workers on, those of both sides together."""
    count = f"""
with open(file, "a+") as starts:
    print(os.getpid(), file=starts, flush=True)
    starts.seek(0)
    number = len(starts.readlines())
if number >= {number}:
"""
    return count + textwrap.indent(textwrap.dedent(code), "    ")


def rounds_before_it_was_cut_short(folder: Path) -> set[int]:
    """Those that the written result has; empty where none was written."""
    written = [json.loads(file.read_text()) for file in folder.glob("*_comparison.json")]
    assert all(each["state"] == "cut short" for each in written)
    return {slot["round"] for each in written for slot in each["slots"]}
