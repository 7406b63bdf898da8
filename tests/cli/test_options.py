"""The table of options: the command lines, the page of documentation and a test's options agree with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from dbkit.cli.option import Option
from dbkit.cli.options import OPTIONS
from dbkit.database.url import URL_VARIABLE
from tests.locust_runs import REPOSITORY


def printed(*command: str) -> str:
    return subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_the_page_of_options_is_what_the_command_prints() -> None:
    page = (REPOSITORY / "docs/options.md").read_text()
    assert page.partition(" -->\n\n")[2] == printed("-m", "dbkit", "options")


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS.values() if option.in_form], ids=lambda each: each.name
)
def test_the_words_of_the_form_name_the_unit(option: Option) -> None:
    assert option.type is None or option.type.unit in option.help


def test_the_databases_variable_is_the_one_that_is_read_without_a_command_line() -> None:
    assert OPTIONS["database_url"].variable == URL_VARIABLE


READ_OPTIONS = """
import dataclasses, json, sys
from locust.argument_parser import get_parser
from dbkit.load.options import TestOptions

namespace = get_parser(default_config_files=[]).parse_args(json.loads(sys.argv[1]))
options = TestOptions.read(namespace)
namespace.page_size = 99
print(json.dumps([dataclasses.asdict(options), options.reported(), dataclasses.asdict(options.settings)]))
"""


def test_the_options_of_a_test_are_those_of_the_command_line_and_do_not_change_with_it() -> None:
    arguments = ["-u", "3", "--page-size", "7", "--slot-time", "1m30s", "--pool-timeout", "0.8", "--calibrate"]
    options: dict[str, Any]
    options, reported, settings = json.loads(printed("-c", READ_OPTIONS, json.dumps(arguments)))
    assert options == {
        **{"num_users": 3, "processes": None, "page_size": 7, "page_order": "random", "think_time": 0.0},
        **{"think_time_spread": 0.5, "seed": 1, "pool_size": 5, "max_overflow": 10, "pool_timeout": 0.8},
        **{
            "connect_timeout": 10,
            "statement_timeout": 0.0,
            "tcp_keepalive": 10.0,
            "tcp_user_timeout": 30.0,
            "rounds": 5,
            "slot_time": 90.0,
        },
        **{"end": "rollback", "session_close": "with"},
        **{
            "pool_class": "queue",
            "pre_ping": "off",
            "jit": "server",
            "pooler": "none",
            "round_trip": 0.0,
            "loads": "",
            "arrivals": "",
            "arrival_spacing": "poisson",
            "vary": "",
            "budget": 0.0,
            "limit": "",
            "sides": "",
            "max_users": 0,
            "max_arrivals": 0,
            "page_timeout": 60.0,
            "max_in_flight": 0,
        },
        **{"max_slot_time": 10.0, "warm_up": 0.3, "drain_timeout": 10.0, "calibrate": True, "reference": ""},
    }
    of_the_process = {"database_url", "verify_keys", "plans", "report", "summary", "junit"}
    of_the_process |= {"check", "baseline", "undecided", "master_timeout"}
    in_the_table = {option.name for option in OPTIONS.values() if "locust" in option.commands}
    assert options.keys() == in_the_table - of_the_process | {"num_users", "processes"}
    assert reported == {name: value for name, value in options.items() if name not in ("reference", "sides")}
    assert list(reported)[:3] == ["num_users", "page_size", "page_order"]
    assert (settings["pool_timeout_s"], settings["close"]) == (0.8, "with")
