"""Makes the pictures of the README: the Strategies tab during a run of rounds, and the report of that run.

    make screenshots

The run is that of `make run`, started in the web UI of a Locust of its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from dbkit.cli.arguments import exit_on_mistake
from dbkit.database.url import URL_VARIABLE
from tests.browser import browser, browser_page
from tests.locust_runs import locust

IMAGES = Path(__file__).with_name("images")
WIDTH_PX = 1280
TAB_HEIGHT_PX = 1500
REPORT_HEIGHT_PX = 1500
LAST_ROUND = 5
TIMEOUT_MS = 300_000


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium, browser_page(chromium, width=WIDTH_PX) as tab:
        page = tab.page
        page.set_default_timeout(TIMEOUT_MS)
        arguments = ("--pool-size", "10", "--rounds", str(LAST_ROUND))
        database = os.environ.get(URL_VARIABLE)
        locustfile = "locustfiles/rounds.py"
        with locust(Path(folder, "run"), *arguments, url=database, locustfiles=locustfile, web=True) as run:
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
