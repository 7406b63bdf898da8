"""Whatever is posted to the web UI: what it starts has the values that were posted, all else is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from locust import events
from locust.argument_parser import get_parser, parse_options
from locust.env import Environment
from locust.web import WebUI

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.cli.options import OPTIONS
from dbkit.load.context import context_of
from dbkit.load.page_users import page_users
from dbkit.load.web.form import CLASS_SETTINGS, guard_web_form
from dbkit.load.web.visitors import guard_visitors
from dbkit.workload import Workload
from tests.hostile import hostile, texts

CLASSES = page_users(Workload("w", keys=[1]), stacks=["psycopg", "asyncpg"], page=lambda session, key: key)
FORM = [name for name, option in OPTIONS.items() if option.in_form and "locust" in option.commands]
HIDDEN = ("database_url", "csv_prefix", "html_file", "loglevel", "config", "locustfile", "verify_keys", "sides")
LOCUSTS = ("user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile")
encoded = texts.map(lambda text: text.encode("utf-8", "replace").decode())  # as browsers send it
names = st.sampled_from([*FORM, *LOCUSTS]) | st.sampled_from([*FORM, *LOCUSTS, *HIDDEN]) | encoded
good = st.sampled_from(["1", "2", "5", "0.5", "10s", "true", "rollback", "PsycopgPage", "1,2,5", "poisson", "rows < 9"])
forms = st.dictionaries(names, good | encoded, max_size=5)


class Site:
    """The web UI of a Locust that starts nothing, asked without a network; the database is not asked either."""

    def __init__(self, *, class_picker: bool) -> None:
        options = parse_options(["--users", "2"])
        classes: dict[str, Any] = {each.__name__: each for each in CLASSES}
        self.environment = Environment(
            user_classes=list(CLASSES),
            available_user_classes=classes,
            available_user_tasks={name: each.tasks for name, each in classes.items()},
            parsed_options=options,
            events=events,
        )
        self.runner = self.environment.create_local_runner()
        self.web_ui = WebUI(
            self.environment, "127.0.0.1", 8089, delayed_start=True, userclass_picker_is_active=class_picker
        )
        context = context_of(self.environment)
        context.check = lambda options, user_classes: None  # type: ignore[method-assign]
        guard_visitors(self.web_ui, options)
        guard_web_form(self.web_ui, context)
        assert self.web_ui.app is not None
        self.client = self.web_ui.app.test_client()
        self.started: list[tuple[int, float]] = []

        def start(users: int, rate: float) -> None:
            self.started.append((users, rate))

        self.runner.start = start  # type: ignore[method-assign, assignment]
        self._before = dict(vars(options))

    def post(self, path: str, data: Any) -> Any:
        """The answer, once what it has started would have begun."""
        self.started.clear()
        options = vars(self.environment.parsed_options)
        options.clear()
        options.update(self._before)
        answer = self.client.post(path, data=data, headers={"Host": "127.0.0.1:8089"})
        gevent.sleep(0)
        self.web_ui._cancel_run_time_timer()
        return answer


@pytest.fixture(scope="module", params=[False, True], ids=["", "class picker"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    yield Site(class_picker=request.param)


@hostile
@given(forms)
@example({"user_count": "2", "spawn_rate": "1", "page_size": "5"})
@example({"vary": " "})
@example({"user_count": "2", "spawn_rate": "1", "run_time": "99999999999999999999h"})
@example({"user_count": "9" * 5000, "spawn_rate": "1"})
@example({"user_count": "2", "spawn_rate": "1e400"})
def test_any_form_starts_what_it_says_or_is_refused_in_one_line(site: Site, form: dict[str, str]) -> None:
    answer = site.post("/swarm", {"user_count": "2", "spawn_rate": "1"} | form)
    if 400 <= answer.status_code < 500:
        assert site.started == []
        return
    assert answer.status_code == 200, answer.text
    content = answer.get_json()
    if not content["success"]:
        assert content["message"] and "\n" not in content["message"]
        assert "Traceback" not in content["message"]
        assert site.started == []
        return
    [(users, _)] = site.started
    assert users == int(form.get("user_count", "2")) >= 1
    options, shown = site.environment.parsed_options, get_parser().args_included_in_web_ui
    for name, text in form.items():
        if name in LOCUSTS:
            continue
        assert name in FORM
        if (value_type := OPTIONS[name].type) is None:
            assert getattr(options, name) is (text == "true")
        else:
            assert getattr(options, name) == value_type(text), (name, shown[name])


settings = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
class_settings = st.dictionaries(
    st.sampled_from([*CLASS_SETTINGS, "reset", "writes", "__class__"]) | texts,
    settings | st.sampled_from(["PsycopgPage", 1, ["read_pages"]]),
    max_size=5,
)


@hostile
@given(st.binary(max_size=40) | (settings | class_settings).map(lambda value: json.dumps(value).encode()))
@example(b'{"user_class_name": "PsycopgPage", "weight": 3}')
def test_any_settings_of_a_class_are_those_of_locusts_page_or_are_refused(site: Site, content: bytes) -> None:
    before = [{name: vars(each).get(name) for name in ("reset", "writes", "engine", "__module__")} for each in CLASSES]
    answer = site.post("/user", content)
    assert answer.status_code == 201 or 400 <= answer.status_code < 500, answer.text
    after = [{name: vars(each).get(name) for name in ("reset", "writes", "engine", "__module__")} for each in CLASSES]
    assert before == after
