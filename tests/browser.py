"""A real Chromium for tests of what people look at: a page that remembers each error and each request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT_MS = 180_000
"""How long a page may take before it is taken to hang: long, as other processes may keep every core busy."""
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass
class Tab:
    """A page of the browser."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """What the console shows as an error or a warning, and what no script caught."""
    requests: list[str] = field(default_factory=list)
    """The address of everything that was asked for, whether or not it came; not what stands in the page itself."""


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """The system's Chromium, headless."""
    chromium = shutil.which("chromium")
    assert chromium, "these tests need Chromium; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *flags])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def browser_page(started: Browser, *, width: int = 1280, dark: bool = False, javascript: bool = True) -> Iterator[Tab]:
    """A new page of a session of its own in `browser()`."""
    context = started.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        java_script_enabled=javascript,
    )
    try:
        tab = Tab(context.new_page())
        tab.page.set_default_timeout(TIMEOUT_MS)
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.on(
            "console",
            lambda message: tab.errors.append(message.text) if message.type in ("error", "warning") else None,
        )
        tab.page.on(
            "request",
            lambda request: None if request.url.startswith(("data:", "blob:")) else tab.requests.append(request.url),
        )
        yield tab
    finally:
        context.close()
