"""Who can use the web UI: its own pages, in a real browser, and nobody else's; what is said where others reach it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Browser

from tests.browser import browser, browser_page
from tests.locust_runs import DEADLINE_S, REPOSITORY, LocustRun, locust

FOREIGN = "evil.example"
WARNING = "anyone who can reach port"
OUR_NAME = "https://load.example"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser(f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1") as started:
        yield started


@pytest.fixture(scope="module")
def web(seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    """Locust waiting on loopback, in which no test may start a run."""
    folder = tmp_path_factory.mktemp("web") / "run"
    with locust(folder, "PsycopgJoined", "--class-picker", url=seeded_url, web=True, record=True) as run:
        yield run
        assert run.template_arguments()["state"] == "ready"
        assert run.pages == []
        assert run.terminate() == 0
        assert "Traceback" not in run.output
        assert WARNING not in run.output


def port_of(web: LocustRun) -> str:
    return web.web_url.rpartition(":")[2]


def asked(web: LocustRun, path: str, **headers: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(web.web_url + path, headers=names, timeout=DEADLINE_S)


@pytest.mark.parametrize("path", ["/", "/stats/requests", "/dbkit/state", "/dbkit/download/comparison.json"])
@pytest.mark.parametrize(
    "host", [FOREIGN, "127.0.0.1.evil.example", "localhost.evil.example", "0x7f.1", "192.0.2.1", "", "a b", "[::1"]
)
def test_it_is_not_known_by_other_names(web: LocustRun, path: str, host: str) -> None:
    for name in (host, f"{host}:{port_of(web)}"):
        answer = asked(web, path, Host=name)
        assert 400 <= answer.status_code < 500 and answer.status_code != 404, answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_it_is_known_by_those_of_loopback(web: LocustRun, host: str) -> None:
    name = f"{host}:{port_of(web)}"
    assert asked(web, "/dbkit/state", Host=name).ok
    assert asked(web, "/dbkit/state", Host=name, Origin=f"http://{name}").ok


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_link_to_it_and_show_nothing_of_it(web: LocustRun, site: str) -> None:
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert asked(web, "/", **link).ok
    for other in ({"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Mode": "no-cors"}, {"Sec_Fetch_Mode": "cors"}):
        assert asked(web, "/dbkit/state", **link | other).status_code == 403
    posted = requests.post(f"{web.web_url}/swarm", headers={"Sec-Fetch-Site": site}, timeout=DEADLINE_S)
    assert posted.status_code == 403


def test_every_answer_says_what_browsers_may_do_with_it(web: LocustRun) -> None:
    for path in ("/", "/dbkit/state", "/dbkit/download/nothing", "/nothing", "/stats/requests"):
        headers = asked(web, path).headers
        assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


ATTACKS = """
const attack = async (url) => {
    const form = new URLSearchParams({ user_count: 1, spawn_rate: 1 });
    const user = '{"user_class_name": "PsycopgJoined", "weight": 7}';
    const tries = [["/swarm", form], ["/stop", ""], ["/stats/reset", ""], ["/user", user]];
    for (const mode of ["cors", "no-cors", "same-origin"]) {
        for (const [path, body] of tries) await fetch(url + path, { method: "POST", mode, body }).catch(() => {});
    }
    const read = [];
    for (const path of ["/", "/dbkit/state", "/stats/requests", "/logs"]) {
        const answer = await fetch(url + path).catch(() => null);
        if (answer !== null && answer.ok) read.push(path);
    }
    for (const kind of ["script", "img", "iframe"]) {
        const element = document.createElement(kind);
        const ended = new Promise((resolve) => {
            element.onload = () => resolve(kind);
            element.onerror = () => resolve(null);
        });
        element.src = `${url}/dbkit/tab.js`;
        document.body.append(element);
        if (kind !== "iframe" && await ended) read.push(kind);
    }
    const posted = document.createElement("form");
    posted.method = "post";
    posted.action = `${url}/swarm`;
    for (const [name, value] of form) posted.append(Object.assign(document.createElement("input"), { name, value }));
    document.body.append(posted);
    return [read, () => posted.submit()];
};
"""


@pytest.mark.parametrize("from_address", [f"http://{FOREIGN}/", "http://localhost:1/"], ids=["other", "same site"])
def test_a_page_of_another_site_can_do_nothing_in_a_browser(
    web: LocustRun, chromium: Browser, from_address: str
) -> None:
    with browser_page(chromium) as tab:
        page = tab.page
        page.route(f"{from_address}**", lambda route: route.fulfill(body="<body></body>", content_type="text/html"))
        page.goto(from_address)
        assert page.evaluate(f"async (url) => {{ {ATTACKS} return (await attack(url))[0]; }}", web.web_url) == []
        page.evaluate(f"async (url) => {{ {ATTACKS} (await attack(url))[1](); }}", web.web_url)
        page.wait_for_url(f"{web.web_url}/swarm")
        assert "of another site" in page.locator("body").inner_text()


def test_a_name_that_is_pointed_here_can_do_nothing_in_a_browser(web: LocustRun, chromium: Browser) -> None:
    own = f"http://{FOREIGN}:{port_of(web)}"
    with browser_page(chromium) as tab:
        assert tab.page.goto(own) is not None
        assert f"this web UI is not known as {FOREIGN}" in tab.page.locator("body").inner_text()
        assert tab.page.evaluate(f"async (url) => {{ {ATTACKS} return (await attack(url))[0]; }}", own) == []


def test_an_address_is_never_shown_as_html(web: LocustRun, chromium: Browser) -> None:
    hostile = quote("<img src=x onerror=document.title='hacked'>")
    with browser_page(chromium) as tab:
        for path in (f"/dbkit/download/{hostile}", f"/dbkit/{hostile}", f"/{hostile}", f"/assets/{hostile}"):
            tab.page.goto(web.web_url + path)
            assert tab.page.locator("img").count() == 0
            assert tab.page.title() != "hacked"


@pytest.mark.parametrize(
    "posted",
    [
        b'{"user_class_name": "PsycopgJoined", "reset": "DROP TABLE todo"}',
        b'{"user_class_name": "PsycopgJoined", "writes": true}',
        b'{"user_class_name": "PsycopgJoined", "engine": "x"}',
        b'{"user_class_name": "PsycopgJoined", "__init__": 1}',
        b'{"user_class_name": "PsycopgJoined", "weight": "1"}',
        b'{"user_class_name": "PsycopgJoined", "weight": -1}',
        b'{"user_class_name": "PsycopgJoined", "fixed_count": 1e99}',
        b'{"user_class_name": "PsycopgJoined", "tasks": "x"}',
        b'{"user_class_name": "PsycopgJoined", "host": {}}',
        b'{"user_class_name": "Nobody"}',
        b'{"user_class_name": ["PsycopgJoined"]}',
        b"{}",
        b"[1]",
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_class_is_set_up_only_as_locusts_page_of_classes_can(web: LocustRun, posted: bytes) -> None:
    answer = requests.post(f"{web.web_url}/user", data=posted, timeout=DEADLINE_S)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    good = b'{"user_class_name": "PsycopgJoined", "host": "", "weight": 2, "fixed_count": 0, "tasks": ["read_pages"]}'
    assert requests.post(f"{web.web_url}/user", data=good, timeout=DEADLINE_S).status_code == 201


def test_where_others_reach_it_it_warns_and_is_known_by_numbers_and_its_own_names(
    seeded_url: str, tmp_path: Path
) -> None:
    arguments = ("PsycopgJoined", "--web-host-display-name", f"{OUR_NAME}/ui")
    users = str(REPOSITORY / "locustfiles/users.py")
    # in a folder without a locust.conf: without --web-host Locust listens on all addresses
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=users, web=True, cwd=tmp_path) as run:
        [line] = [line for line in run.stderr.splitlines() if WARNING in line]
        assert f"port {port_of(run)} of this machine" in line and "--web-login" in line and "a proxy" in line
        for name in ("127.0.0.1", "localhost", "192.0.2.1", "[2001:db8::1]", socket.gethostname(), "load.example"):
            assert asked(run, "/dbkit/state", Host=f"{name}:{port_of(run)}").ok, name
        for name in (FOREIGN, "load.example.evil.example", f"{socket.gethostname()}.evil.example"):
            assert asked(run, "/dbkit/state", Host=f"{name}:{port_of(run)}").status_code == 403
        # a proxy in front hands on the name at which it was asked, or asks by the address that it knows
        assert asked(run, "/dbkit/state", Host="load.example", Origin=OUR_NAME).ok
        assert asked(run, "/dbkit/state", Host="127.0.0.1", Origin=OUR_NAME).ok
        assert asked(run, "/dbkit/state", Host="127.0.0.1", Origin="http://load.example").status_code == 403
        assert run.terminate() == 0


def test_with_a_login_it_does_not_warn(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("PsycopgJoined", "--web-login", "--web-host", "0.0.0.0")
    with locust(tmp_path / "run", *arguments, url=seeded_url, web=True) as run:
        assert run.terminate() == 0
        assert WARNING not in run.output
