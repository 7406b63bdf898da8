"""dbkit's options on Locust's command line, in its configuration and environment, and in the web form.

Values reach the workers with Locust's own spawn message; all but the database's URL, which each process keeps to itself
and which is in no form and no message. What Locust's web form would let through unchecked is checked here as well.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from flask import Response, jsonify, request
from locust.argument_parser import LocustArgumentParser, default_args_dict, get_parser
from locust.env import Environment
from locust.web import WebUI

from dbkit import arguments
from dbkit.arguments import read_settings
from dbkit.database import ASYNC_STACKS
from dbkit.errors import DbkitError
from dbkit.load.schedule import RoundsShape
from dbkit.load.state import Load
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
PAGE_ORDERS = ("random", "sequential")

OPTIONS_TOLD = (
    *("num_users", "page_size", "page_order", "think_time", "seed"),
    *("pool_size", "max_overflow", "pool_timeout", "statement_timeout", "end", "session_close"),
    *("rounds", "slot_time", "warm_up", "drain_timeout", "processes"),
)
"""Options that a result names, as they bear on its figures."""

LOCUST_FORM_FIELDS = frozenset(
    {"user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile"}
)
"""Fields that Locust's own form posts, and checks itself."""


def add_options(parser: LocustArgumentParser) -> None:
    """Add every option of dbkit to Locust's parser (a listener of `init_command_line_parser`)."""
    arguments.add_database_url(parser).include_in_web_ui = False  # type: ignore[attr-defined]
    arguments.add_page_size(parser)
    parser.add_argument(
        "--page-order",
        choices=PAGE_ORDERS,
        default="random",
        env_var="DBKIT_PAGE_ORDER",
        help="which page a user reads next: any, or each in turn from the first; default random",
    )
    parser.add_argument(
        "--think-time",
        type=arguments.seconds(0),
        default=0.0,
        metavar="<seconds>",
        env_var="DBKIT_THINK_TIME",
        help="how long a user waits between two pages; default 0",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="<number>",
        env_var="DBKIT_SEED",
        help="where random choices start, so that a run can be repeated: the same pages in the same order; default 1",
    )
    arguments.add_settings(parser)
    parser.add_argument(
        "--rounds",
        type=arguments.whole_number(1),
        default=5,
        metavar="<number>",
        env_var="DBKIT_ROUNDS",
        help="how many times each user class has its turn in a schedule of rounds; default 5",
    )
    parser.add_argument(
        "--slot-time",
        type=arguments.seconds(0, above=True),
        default=1.0,
        metavar="<seconds>",
        env_var="DBKIT_SLOT_TIME",
        help="how long pages are measured in each turn; default 1",
    )
    parser.add_argument(
        "--warm-up",
        type=arguments.seconds(0),
        default=0.3,
        metavar="<seconds>",
        env_var="DBKIT_WARM_UP",
        help="how long users read before that, in no figure; default 0.3",
    )
    parser.add_argument(
        "--drain-timeout",
        type=arguments.seconds(0),
        default=10.0,
        metavar="<seconds>",
        env_var="DBKIT_DRAIN_TIMEOUT",
        help="how long a page may go on after its turn before it is cut off and counted as unfinished; default 10",
    )
    parser.add_argument(
        "--reference",
        default="",
        metavar="<class>",
        env_var="DBKIT_REFERENCE",
        help="user class that the others are compared with; default the slowest",
    )


def check_together(environment: Environment, options: argparse.Namespace) -> None:
    """Raise DbkitError for options that are good one by one but not together, or not for the chosen classes."""
    if options.num_users is not None and options.num_users < 1:
        raise DbkitError(f"{options.num_users} users read no page; give 1 or more with -u")
    for name, user_class in environment.user_classes_by_name.items():
        if issubclass(user_class, PageUser):
            _check_class(name, user_class)
        elif isinstance(environment.shape_class, RoundsShape):
            raise DbkitError(f"{name} is no PageUser and cannot take part in rounds; choose the other classes by name")
    if options.reference and options.reference not in environment.user_classes_by_name:
        names = ", ".join(sorted(environment.user_classes_by_name))
        raise DbkitError(f"--reference {options.reference} is not among the classes: {names}")
    if isinstance(environment.shape_class, RoundsShape):
        for flag, is_given, advice in (
            ("--run-time", options.run_time, "rounds end by themselves: set --rounds and --slot-time"),
            ("--reset-stats", options.reset_stats, "warm-ups are left out anyway: set --warm-up"),
            ("--class-picker", options.class_picker, "name the classes on the command line"),
        ):
            if is_given:
                raise DbkitError(f"{flag} does not go with rounds; {advice}")


def _check_class(name: str, user_class: type[PageUser]) -> None:
    if not hasattr(user_class, "page_function"):
        raise DbkitError(f"{name} has no page_function; give it one, such as dbkit.paging.joined")
    stack = getattr(user_class, "stack", None)
    usable = ASYNC_STACKS if issubclass(user_class, AsyncPageUser) else (SyncPageUser.stack,)
    if stack not in usable:
        raise DbkitError(f"{name} has stack = {stack!r}; set it to one of {', '.join(map(repr, usable))}")


def guard_web_form(web_ui: WebUI, load: Load) -> None:
    """Have the web UI refuse a run with bad values, and a run that another site's page asks for.

    Locust's form posts text, ignores the options' types and choices, and would set any option by its name; and its
    server answers every origin.
    """

    def refuse_bad_values() -> Response | None:
        if request.method != "POST" or request.endpoint != "locust.swarm":
            return None
        reason = _reason_against_form(load)
        return None if reason is None else _refusal(reason)

    def refuse_other_sites() -> Response | None:
        origin = request.headers.get("Origin")
        if request.method in ("GET", "HEAD", "OPTIONS") or origin is None:
            return None
        # on loopback a foreign name would be one that its owner has pointed at this machine
        is_foreign_name = web_ui.host in LOOPBACK_NAMES and urlsplit(origin).hostname not in LOOPBACK_NAMES
        if urlsplit(origin).netloc == request.host and not is_foreign_name:
            return None
        return _refusal(f"a page of another site ({origin}) may not do this", status=403)

    assert web_ui.app is not None
    web_ui.app.before_request(refuse_other_sites)
    web_ui.app.before_request(refuse_bad_values)


def _reason_against_form(load: Load) -> str | None:
    """Why a run with the posted values would not do, or None."""
    environment = load.environment
    if isinstance(environment.shape_class, RoundsShape):
        runner: Any = environment.runner
        if runner.shape_greenlet is not None:
            return "rounds are running; stop them before starting others"
    # of Locust's own some are not marked as hidden, though the form shows none of them
    hidden = default_args_dict().keys() | {"help"}
    shown = {name: option for name, option in get_parser().args_included_in_web_ui.items() if name not in hidden}
    posted: dict[str, Any] = {}
    for name, value in request.form.items():
        if name in LOCUST_FORM_FIELDS:
            continue
        if name not in shown:
            return f"{name} cannot be set from the web form; give it on the command line"
        try:
            posted[name] = _read_value(shown[name], value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            return f"--{name.replace('_', '-')}: {error}"
    posted["run_time"] = request.form.get("run_time")
    with suppress(ValueError):  # Locust says itself what is no number
        posted["num_users"] = int(request.form.get("user_count", load.options.num_users or 1))
    options = argparse.Namespace(**vars(load.options) | posted)
    try:
        check_together(environment, options)
        load.check(read_settings(options))
    except DbkitError as mistake:
        return str(mistake)
    return None


def _read_value(option: argparse.Action, text: str) -> Any:
    """What the command line would make of `text`. Raises ArgumentTypeError or ValueError where it would refuse it."""
    value = option.type(text) if callable(option.type) else text
    if option.choices is not None and value not in option.choices:
        raise ValueError(f"{text!r} is no good; choose from {', '.join(map(str, option.choices))}")
    return value


def _refusal(message: str, status: int = 200) -> Response:
    # Locust's form shows the message of a 200 only
    response = jsonify({"success": False, "message": message, "host": None})
    response.status_code = status
    return response
