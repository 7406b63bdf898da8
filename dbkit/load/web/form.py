"""The web form: how dbkit's options are labelled, and checks on what it posts, as Locust makes none.

For the options see `dbkit.cli.options`, for which go together `dbkit.load.checks`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Response, request
from locust import LoadTestShape, User
from locust.argument_parser import default_args_dict, get_parser
from locust.runners import STATE_RUNNING, STATE_SPAWNING, STATE_STOPPED
from locust.util.timespan import parse_timespan
from locust.web import WebUI
from werkzeug.datastructures import ImmutableMultiDict, MultiDict

from dbkit.cli.options import OPTIONS
from dbkit.errors import DbkitError
from dbkit.load.checks import check_together
from dbkit.load.context import LoadContext
from dbkit.load.figure_checks import figure_checks
from dbkit.load.shape import Rounds
from dbkit.load.web.visitors import refusal

CHECKED = {"locust.swarm": 200, "locust.update_user": 400}
"""What is posted is checked there; the status of a refusal, as Locust's form shows the message of a 200 only."""
LAST_RUN_TIMEOUT_S = 30
"""How long to wait for what the last run has yet to do."""
LOCUST_FORM_FIELDS = frozenset(
    {"user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile"}
)
"""Fields that Locust's own form posts, and checks itself."""


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_OF_A_CLASS


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


MOST_OF_A_CLASS = 1_000_000
MOST_RUN_TIME_S = 365 * 24 * 3600
CLASS_SETTINGS: dict[str, Callable[[object], bool]] = {
    "user_class_name": _is_text,
    "host": _is_text,
    "weight": _is_count,
    "fixed_count": _is_count,
    "tasks": _are_texts,
}
"""What Locust's page of classes can set of one, and which values it can have."""


def guard_web_form(web_ui: WebUI, context: LoadContext) -> None:
    """Have the web UI refuse a run with bad values, and settings of a class that Locust's pages do not offer.

    Locust's form posts text, ignores the options' types and choices, and would set any option, and any attribute of a
    class, by its name.
    """

    def refuse_bad_values() -> Response | None:
        if request.method != "POST" or request.endpoint not in CHECKED:
            return None
        try:
            if request.endpoint == "locust.swarm":
                _check_start(web_ui, context)
            else:
                _check_class_settings(context.environment)
        except DbkitError as mistake:
            return refusal(str(mistake), CHECKED[request.endpoint])
        return None

    assert web_ui.app is not None
    web_ui.app.before_request(refuse_bad_values)
    _change_what_is_shown(web_ui)


def _check_start(web_ui: WebUI, context: LoadContext) -> None:
    """Raise DbkitError where a run with the posted values cannot start."""
    environment: Any = context.environment
    runner = environment.runner
    if runner.state == STATE_STOPPED:
        _wait_for_last_run(context)
    if isinstance(environment.shape_class, Rounds) and runner.shape_greenlet is not None:
        raise DbkitError("rounds are running; stop them before starting others")
    options = _read_form(context)
    user_classes, shape = environment.user_classes_by_name, environment.shape_class
    if web_ui.userclass_picker_is_active:
        user_classes, shape = _picked_classes(environment), _picked_shape(environment)
        if runner.state in (STATE_SPAWNING, STATE_RUNNING) and user_classes != environment.user_classes_by_name:
            raise DbkitError("a test of other classes is running; stop it before choosing these")
    in_rounds = isinstance(shape, Rounds)
    if in_rounds and not runner.worker_count:
        raise DbkitError("no worker is connected; start some with locust --worker")
    check_together(options, user_classes, in_rounds=in_rounds)
    figure_checks(options, user_classes, environment.available_user_classes)
    if options.arrivals and options.num_users is None:
        raise DbkitError("--arrivals needs -u beside a shape of your own: how many users have all of the rate")
    context.check(options, user_classes.values())
    _plan(context, options.run_time)


def _check_class_settings(environment: Any) -> None:
    """Raise DbkitError unless what is posted sets up a class as Locust's page of classes can.

    Locust would set any attribute: also the SQL of a reset, and whether a class writes.
    """
    try:
        settings = json.loads(request.data)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise DbkitError("expected settings of a class, as JSON")
    name = settings.get("user_class_name")
    if not (isinstance(name, str) and name in (environment.available_user_tasks or {})):
        raise DbkitError("there is no such user class")
    for name, value in settings.items():
        if name not in CLASS_SETTINGS:
            raise DbkitError(f"{name} of a class cannot be set from the web UI; set it in the locustfile")
        if not CLASS_SETTINGS[name](value):
            raise DbkitError(f"{name}: invalid value")


def _wait_for_last_run(context: LoadContext) -> None:
    """Wait until its results are written and its schedule has ended, but no longer than LAST_RUN_TIMEOUT_S each."""
    runner: Any = context.environment.runner
    context.written.wait(LAST_RUN_TIMEOUT_S)
    if runner.shape_greenlet is not None:
        runner.shape_greenlet.join(LAST_RUN_TIMEOUT_S)


def _read_form(context: LoadContext) -> argparse.Namespace:
    """The options that the run would have. Raises DbkitError for a posted value that the command line would refuse.

    They are put back into the form as they are read, times as plain seconds: Locust converts a text to the type of the
    option's last value.
    """
    # of Locust's own some are not marked as hidden, though the form shows none of them
    hidden = default_args_dict().keys() | {"help"}
    shown = {name: option for name, option in get_parser().args_included_in_web_ui.items() if name not in hidden}
    form = MultiDict(request.form)
    posted: dict[str, Any] = {}
    for name, text in request.form.items():
        if name in LOCUST_FORM_FIELDS:
            continue
        if name not in shown:
            raise DbkitError(f"{name} cannot be set from the web form; give it on the command line")
        posted[name] = value = _read_value(shown[name], text)
        if isinstance(value, float | str):
            form[name] = str(value)
    request.form = ImmutableMultiDict(form)
    posted["run_time"] = _read_run_time(request.form.get("run_time"))
    if "user_count" in request.form:  # else a shape of the user's own decides
        with suppress(ValueError):  # Locust itself refuses what is no number
            posted["num_users"] = int(request.form["user_count"])
    return argparse.Namespace(**vars(context.options) | posted)


def _read_run_time(text: str | None) -> str | None:
    """The text, which Locust itself reads. Raises DbkitError for a time that no timer can wait for."""
    try:
        is_too_long = bool(text) and parse_timespan(text) > MOST_RUN_TIME_S
    except OverflowError:
        is_too_long = True
    except ValueError:  # Locust itself refuses what is no time
        is_too_long = False
    if is_too_long:
        raise DbkitError(f"invalid run time {str(text)[:20]!r}: expected a year at most")
    return text


def _read_value(option: argparse.Action, text: str) -> Any:
    """The value that the command line would read from `text`. Raises DbkitError where it would refuse it."""
    if option.nargs == 0:  # a switch, which Locust's form posts as text too
        return text == "true"
    try:
        value = option.type(text) if callable(option.type) else text
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise DbkitError(f"{option.option_strings[-1]}: {error}") from None
    if option.choices is not None and value not in option.choices:  # an option that the user has added
        choices = ", ".join(map(str, option.choices))
        raise DbkitError(f"{option.option_strings[-1]}: invalid value {text!r}: expected one of {choices}")
    return value


def _plan(context: LoadContext, run_time: str | None) -> None:
    """Take over when Locust will stop the test: after `run_time` from now, where one is posted."""
    if not run_time:
        context.options.run_time = None  # Locust would keep the last run's, and not obey it
    runner = context.environment.runner
    if runner is not None and runner.state in (STATE_SPAWNING, STATE_RUNNING):
        with suppress(ValueError):  # Locust itself refuses what is no time
            test = context.test
            test.planned_s = time.perf_counter() - test.began_at_s + parse_timespan(run_time) if run_time else None


def _picked_classes(environment: Any) -> dict[str, type[User]]:
    """The classes that Locust would take. Raises DbkitError for one that is not there."""
    available = environment.available_user_classes or {}
    names = request.form.getlist("user_classes")
    if unknown := [name for name in names if name not in available]:
        raise DbkitError(f"there is no user class {', '.join(unknown)}; choose from {', '.join(sorted(available))}")
    if not names and environment.runner is not None and environment.runner.state in (STATE_SPAWNING, STATE_RUNNING):
        return dict(environment.user_classes_by_name)
    return {name: available[name] for name in names or available}


def _picked_shape(environment: Any) -> LoadTestShape | None:
    """The shape that Locust would take. Raises DbkitError where classes made for rounds would run at once."""
    available = environment.available_shape_classes or {}
    name = request.form.get("shape_class", "Default")
    if name not in available and name != "Default":
        raise DbkitError(f"there is no shape {name[:40]!r}; choose from {', '.join(sorted(['Default', *available]))}")
    shape = available.get(name)
    if shape is None and (rounds := [name for name, each in available.items() if isinstance(each, Rounds)]):
        raise DbkitError(f"without its shape this locustfile would run all classes at once; choose {rounds[0]}")
    return shape


def _change_what_is_shown(web_ui: WebUI) -> None:
    """Have the form label dbkit's options in few words, as longer ones are cut, and leave out what misleads.

    That is the host, which no page has, and the class picker's shape "Default": it stands first and means none, and
    classes made for rounds would run at once.
    """
    update: Callable[[], None] = web_ui.update_template_args

    def update_and_change() -> None:
        update()
        shown = web_ui.template_args
        shown["missing_host_warning"] = False
        for name, extra_option in shown["extra_options"].items():
            if name in OPTIONS:
                extra_option["help_text"] = OPTIONS[name].help
        available = web_ui.environment.available_shape_classes or {}
        if any(isinstance(shape, Rounds) for shape in available.values()):
            shown["available_shape_classes"] = sorted(available)

    web_ui.update_template_args = update_and_change  # type: ignore[method-assign]
