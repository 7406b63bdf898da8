"""Loads a dump into an embedded server, by the `psql` and `pg_restore` of its wheel: all of it, or nothing.

A dump in plain SQL is executed as psql does it, its own commands included (`COPY … FROM stdin`, `\\restrict`); archives
of `pg_dump -Fc` and `-Ft` are restored.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from dbkit.database.embedded.files import ENVIRONMENT
from dbkit.database.embedded.programs import find_program
from dbkit.errors import DbkitError

_ARCHIVES = (b"PGDMP", b"toc.dat\0")  # pg_dump -Fc and -Ft
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
_OTHER_DATABASE = re.compile(rb"\\(c|connect)\b")
# psql says on which line a statement ends, pg_restore which statement it was
_FAILURE = re.compile(r"^(?:psql:(.*?):(\d+)|pg_restore): (?:error|ERROR|FATAL): +(.*)", re.MULTILINE)
_MORE = re.compile(r"^(?:DETAIL|CONTEXT): +(.*)", re.MULTILINE)
_ROLE_MISSING = re.compile(r'role "(.+)" does not exist$')
_EXPECTED = "name a dump in plain SQL, or an archive of pg_dump -Fc"
_CANCEL_S = 5
"""How long a program may take to end after it was interrupted."""


def check_dump(dump: Path) -> None:
    """Raise DbkitError where `dump` is certainly none: before a server is started for it."""
    if dump.exists() and not dump.is_file():  # a pipe is no file either: a dump is read more than once
        raise DbkitError(f"{dump} is no file: {_EXPECTED}")
    try:
        with dump.open("rb") as file:
            head = file.read(16)
            if head.startswith(_ARCHIVES):
                return
            for magic, program in _COMPRESSED.items():
                if head.startswith(magic):
                    raise DbkitError(f"{dump} is compressed: unpack it first, with {program}")
            file.seek(0)
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise DbkitError(f"{dump} holds no SQL: {_EXPECTED}")
                if _OTHER_DATABASE.match(line):
                    raise DbkitError(
                        f"{dump}:{number}: \\connect leads to another database: make a dump of one database, by pg_dump"
                        " without --create"
                    )
    except OSError as error:
        raise DbkitError(f"cannot read {dump}: {error.strerror}") from None
    if not head:
        raise DbkitError(f"{dump} is empty: make the dump again")


def load_dump(url: str, dump: Path) -> None:
    """Load a dump into the database at `url`, and have the server gather the statistics that its planner needs.

    It is one transaction: if a statement fails, nothing of it stays, unless the dump commits in between. Roles that the
    dump names and the server lacks are made, without a login, which stderr announces.

    Raises DbkitError with the line on which the statement that failed ends.
    """
    made: set[str] = set()
    while said := _failed_load(url, dump):
        failure = _FAILURE.search(said)
        words = failure[3].removeprefix("could not execute query: ERROR:").strip() if failure else said.split("\n")[-1]
        missing = _ROLE_MISSING.search(words)
        if missing is None or missing[1] in made:
            raise _failure(dump, failure, words, said)
        made.add(missing[1])
        print(f"dbkit: making the role {missing[1]}, which {dump} names", file=sys.stderr, flush=True)
        _execute(url, sql.SQL("CREATE ROLE {}").format(sql.Identifier(missing[1])), dump)
    _execute(url, sql.SQL("VACUUM (ANALYZE)"), dump)


def _failed_load(url: str, dump: Path) -> str:
    """What the program said of its failure; empty where all went well."""
    with dump.open("rb") as file:
        is_archive = file.read(16).startswith(_ARCHIVES)
    path = os.path.abspath(dump)
    if is_archive:
        options = ["--single-transaction", "--no-owner", "--no-privileges", f"--dbname={url}", path]
        command = [str(find_program("pg_restore")), *options]
    else:
        options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
        command = [str(find_program("psql")), *options, f"--file={path}", url]
    with subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as program:
        try:
            _, output = program.communicate()
        except BaseException:
            program.send_signal(signal.SIGINT)  # then it has the server cancel the statement
            with suppress(subprocess.TimeoutExpired):
                program.communicate(timeout=_CANCEL_S)
            program.kill()
            raise
    said = output.decode(errors="replace").strip()
    return (said or f"{command[0]} failed") if program.returncode else ""


def _failure(dump: Path, failure: re.Match[str] | None, words: str, said: str) -> DbkitError:
    if "already exists" in words:
        hint = "; to use what is there, leave out --load; to load into a new database, name another folder by --data"
    elif "CREATE DATABASE" in words:
        hint = "; make a dump of one database, by pg_dump without --create"
    else:
        hint = ""
    where = str(dump)
    if failure is not None:
        if failure[2]:
            included = failure[1] if failure[1] != os.path.abspath(dump) else None
            where = f"{included or dump}:{failure[2]}"
        if more := _MORE.match(said, failure.end() + 1):
            words = f"{words} ({more[1]})"
    # psql ends with a ROLLBACK, which then finds nothing to roll back
    is_kept = "there is no transaction in progress" in said
    kept = "what it has committed itself stays" if is_kept else "nothing was loaded"
    return DbkitError(f"{where}: {words}; {kept}{hint}")


def _execute(url: str, statement: sql.SQL | sql.Composed, dump: Path) -> None:
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        raise DbkitError(f"{dump}: {str(error).partition(chr(10))[0]}") from None
