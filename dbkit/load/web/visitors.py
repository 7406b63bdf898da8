"""Who may use the web UI: its own pages, at the names that it is known by; whoever else can reach it is warned of.

Locust's server answers whoever asks, by any name, and lets the pages of every origin read its answers. So any page that
is open in a browser here could start a run and read results, as could one at a name that its owner has pointed here.
What its own pages post is checked in `dbkit.load.web.form`.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
from urllib.parse import SplitResult, urlsplit

from flask import Response, jsonify, request
from locust.web import WebUI

from dbkit.errors import printable

logger = logging.getLogger(__name__)

DISPLAY_NAME = "--web-host-display-name"
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer says to browsers. No page of another site shows it in a frame, where a click would be its own, or
takes it in. What is not HTML is not read as HTML."""


def guard_visitors(web_ui: WebUI, options: argparse.Namespace) -> None:
    """Have the web UI refuse what other sites send, and ask for at names of others; warn where there is no login.

    A browser names the origin in `Origin` unless a page reads from where it is, and says in `Sec-Fetch-Site` whether
    another site asks, but to the name of an unknown host without TLS. `Host` has the name at which it is asked; only
    numbers, which nobody can point elsewhere, and names that are known are this UI's own.
    """
    shown_at = _read_address(options.web_host_display_name)
    names = {"localhost", web_ui.host.lower(), shown_at.hostname if shown_at else None} - {"", None}
    on_loopback = is_loopback(web_ui.host)
    if not on_loopback:
        names.add(socket.gethostname().lower())

    def refuse_others() -> Response | None:
        asked = _read_address(f"http://{request.host}")
        name = (asked.hostname or "") if asked else ""
        # with a login a page at another name has no session
        if not (name in names or is_loopback(name) or (_is_address(name) and not on_loopback) or web_ui.web_login):
            return refusal(
                f"this web UI is not known as {name}: open it at http://127.0.0.1:{web_ui.port}, or start Locust with"
                f" {DISPLAY_NAME} and the address at which it is opened",
                status=403,
            )
        origin = request.headers.get("Origin")
        if origin is not None:
            asking = _read_address(origin)
            if asking is None or not (asking.netloc == request.host or (shown_at and _same(asking, shown_at))):
                return refusal(f"a page of another site ({origin}) may not do this", status=403)
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not _is_link():
            return refusal("a page of another site may not do this", status=403)
        return None

    def add_headers(response: Response) -> Response:
        for header, value in HEADERS.items():
            response.headers.setdefault(header, value)
        return response

    assert web_ui.app is not None
    web_ui.app.before_request(refuse_others)
    web_ui.app.after_request(add_headers)
    if not (on_loopback or web_ui.web_login):
        logger.warning(
            "anyone who can reach port %s of %s may start runs here and read the results: give --web-host 127.0.0.1,"
            " or --web-login, or put a proxy with a login before it",
            web_ui.port,
            web_ui.host or "this machine",
        )


def refusal(message: str, status: int = 200) -> Response:
    """An answer that Locust's form shows; it shows the message of a 200 only."""
    message = printable(" ".join(message.split()))  # it may quote what was posted
    response = jsonify({"success": False, "message": message, "host": None})
    response.status_code = status
    return response


def is_loopback(name: str) -> bool:
    """Whether a name or an address is this machine's own, which nobody else can reach."""
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_link() -> bool:
    """Whether somebody follows a link to here, in a tab of its own."""
    wanted = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    return request.method == "GET" and wanted == ("navigate", "document")


def _read_address(text: str | None) -> SplitResult | None:
    """The parts of `https://name:port`; None where it has no such form."""
    try:
        found = urlsplit(text or "")
    except ValueError:
        return None
    return found if found.scheme and found.hostname else None


def _same(one: SplitResult, other: SplitResult) -> bool:
    return (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower())
