"""Whatever somebody gives as an option, a variable or a file is right, or is answered in one line with exit code 2."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbkit.cli.arguments import ArgumentParser
from dbkit.cli.option import Command, Option
from dbkit.cli.options import add_options, options_of
from dbkit.database.engines import find_database, named_database
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.output.json_file import read_comparison
from dbkit.pytest_plugin.stored import FILE_NAME, StoredCosts
from tests.hostile import hostile, texts

COMMANDS: tuple[Command, ...] = ("seed", "bench", "try", "locust", "serve")


def parser_of(command: Command) -> ArgumentParser:
    parser = ArgumentParser(prog="dbkit")
    add_options(parser, command)
    return parser


PARSERS = {command: parser_of(command) for command in COMMANDS}
given_options = st.sampled_from(COMMANDS).flatmap(
    lambda command: st.tuples(
        st.just(command), st.lists(st.tuples(st.sampled_from(options_of(command)), texts), min_size=1, max_size=4)
    )
)


@hostile
@given(given_options, st.sampled_from(["two words", "one word", "variables"]))
def test_any_value_of_an_option_is_read_or_answered_in_one_line(
    found: tuple[Command, list[tuple[Option, str]]], how: str
) -> None:
    command, values = found
    arguments: list[str] = []
    variables: dict[str, str] = {}
    for option, text in values:
        if how == "variables":
            variables[option.variable] = text
        elif option.type is None:
            arguments.append(option.flag)
        else:
            arguments += [option.flag, text] if how == "two words" else [f"{option.flag}={text}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = PARSERS[command].parse_args(arguments, env_vars=variables)
    except SystemExit as ending:
        assert ending.code == 2
        assert_one_line(said.getvalue().removesuffix("\n"))
        assert said.getvalue().startswith("dbkit: error: ")
        return
    for option, _ in values:
        value = getattr(options, option.name)
        if option.type is None:
            assert type(value) is bool
        elif isinstance(value, DatabaseUrl):
            assert_one_line(str(value))
        elif value is not None and not option.separator:
            assert option.type(option.type.write(value)) == value


def assert_one_line(words: str) -> None:
    assert words and "\n" not in words and "\r" not in words
    assert "Traceback" not in words
    assert words.isprintable(), words


variables = texts.filter(lambda text: "\0" not in text).map(lambda text: os.fsdecode(text.encode("utf-8", "replace")))


@hostile
@given(variables)
def test_any_variable_names_a_database_or_is_answered_in_one_line(value: str) -> None:
    with mock.patch.dict(os.environ, {"DBKIT_DATABASE_URL": value or " ", "DBKIT_DATABASE_URL_OTHER": value}):
        for find in (find_database, lambda: named_database("other")):
            try:
                assert_one_line(str(find()))
            except DbkitError as mistake:
                assert_one_line(str(mistake))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["{}", "a\nb"])
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
known = st.sampled_from(
    ["dbkit_comparison", "state", "strategies", "headline", "measured_on", "test_a.py::test", "page"]
)
contents = st.binary(max_size=50) | (values | st.dictionaries(known, values | st.just(5), max_size=6)).map(
    lambda value: json.dumps(value, ensure_ascii=True).encode()
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


@hostile
@given(contents)
@example(b'{"dbkit_comparison": "\\u001b[2J"}')
@example(b'{"dbkit_comparison": 5, "state": "\\n\\u202e"}')
def test_any_file_of_an_earlier_run_is_read_or_answered_in_one_line(folder: Path, content: bytes) -> None:
    (folder / "x_comparison.json").write_bytes(content)
    with pytest.raises(DbkitError) as mistake:  # nothing so short is a comparison
        read_comparison(str(folder / "x_comparison.json"))
    assert_one_line(str(mistake.value))


@hostile
@given(contents)
@example(b'{"test_a.py::test": {"page": {"rows": 1}}}')
@example(b'{"test_a.py::test": {"page": {"\\u001b": "\\n"}}}')
def test_any_file_of_costs_is_read_or_answered_in_one_line(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    stored = StoredCosts(folder / "test_a.py", "test_a.py::test", update=False)
    try:
        found: Any = stored.find("page")
    except DbkitError as mistake:
        assert_one_line(str(mistake))
        return
    assert found is None or all(type(count) is int for count in found.values())
