"""Makes the pictures of the documentation: of the Strategies tab during a run of rounds, and of reports.

    make screenshots

The first run is that of `make run`, started in the web UI of a Locust of its own. The others are those that the pages
which show them have above their picture.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page

from dbkit.cli.arguments import exit_on_mistake
from dbkit.database.url import URL_VARIABLE
from tests.browser import browser, browser_page
from tests.locust_runs import locust

LOCUSTFILE = "locustfiles/rounds.py"
IMAGES = Path(__file__).with_name("images")
WIDTH_PX = 1280
SECTIONS_WIDTH_PX = 1500
"""The width of pictures of single sections, so that no table is cut."""
TAB_HEIGHT_PX = 1500
REPORT_HEIGHT_PX = 1500
LAST_ROUND = 5
TIMEOUT_MS = 300_000
PARTS = {
    "how-far-users.png": (
        ("--loads", "1,2,5,10,20,40", "--pool-size", "40", "--rounds", "5", "PsycopgJoined", "AsyncpgJoined"),
        ("[id^=ladder]",),
    ),
    "how-far-limit.png": (
        (
            "--limit",
            "p95_ms < 50",
            "--max-users",
            "40",
            "--pool-size",
            "40",
            "--budget",
            "70",
            "PsycopgJoined",
            "AsyncpgJoined",
        ),
        ("[id^=limits]", "[id^=ladder]"),
    ),
    "how-far-pool.png": (
        ("-u", "20", "--vary", "pool-size=1,2,5,10,20", "--max-overflow", "0", "--rounds", "3", "PsycopgJoined"),
        ("[id^=ladder]",),
    ),
    "farther.png": (
        ("-u", "10", "--vary", "round-trip=0,1ms,5ms", "--rounds", "3", "PsycopgJoined", "AsyncpgLazy"),
        ("[id^=distance]",),
    ),
}
"""Pictures of reports: the options of the run, and the sections that are shown, one below the other."""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium, browser_page(chromium, width=WIDTH_PX) as tab:
        page = tab.page
        page.set_default_timeout(TIMEOUT_MS)
        arguments = ("--pool-size", "10", "--rounds", str(LAST_ROUND))
        database = os.environ.get(URL_VARIABLE)
        with locust(Path(folder, "run"), *arguments, url=database, locustfiles=LOCUSTFILE, web=True) as run:
            run.swarm(user_count=10)
            page.goto(f"{run.web_url}/?tab=strategies")
            wait_for_status(page, f"round {LAST_ROUND} of")
            shoot(page, "strategies.png", TAB_HEIGHT_PX)
            wait_for_status(page, "the run has ended")
            report = Path(folder, "report.html")
            report.write_text(run.get("/dbkit/download/report.html").text)
        page.goto(report.as_uri())
        page.wait_for_function("document.querySelectorAll('.dbkit-chart .main-svg').length >= 8")
        shoot(page, "report.png", REPORT_HEIGHT_PX)
        shoot_reports(page, Path(folder), database)


def shoot_reports(page: Page, folder: Path, database: str | None) -> None:
    """The pictures of `PARTS`."""
    for name, (options, sections) in PARTS.items():
        report = folder / f"{name}.html"
        files = ("--report", str(report))
        with locust(folder / name, *options, *files, url=database, locustfiles=LOCUSTFILE) as run:
            if code := run.wait():
                raise SystemExit(f"Locust ended with exit code {code}: {run.stderr}")
        page.goto(report.as_uri())
        page.wait_for_function("document.querySelectorAll('.dbkit-chart .main-svg').length >= 2")
        shoot_sections(page, name, sections)


def shoot_sections(page: Page, name: str, sections: Sequence[str]) -> None:
    """A picture of those sections alone."""
    page.set_viewport_size({"width": SECTIONS_WIDTH_PX, "height": REPORT_HEIGHT_PX})
    style = (
        f"body > * {{ max-width: none !important }} body > *:not({', '.join(sections)}) {{ display: none !important }}"
    )
    page.add_style_tag(content=style)
    page.locator("body").screenshot(path=IMAGES / name)
    print(IMAGES / name)


def wait_for_status(page: Page, beginning: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('#dbkit-status').textContent.startsWith(words)", arg=beginning
    )


def shoot(page: Page, name: str, height_px: int) -> None:
    page.set_viewport_size({"width": WIDTH_PX, "height": height_px})
    page.screenshot(path=IMAGES / name)
    print(IMAGES / name)


if __name__ == "__main__":
    exit_on_mistake("make screenshots", main)
