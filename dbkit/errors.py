"""The one exception for what the user can put right: a wrong option, URL, dataset or server.

Command-line entry points print its message on one line and exit with code 2; nothing else is caught for that.
"""

import re

PLACEHOLDER = "…"
"""Stands for what is not shown."""
_URL = r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>]+"
_SECRET = re.compile(rf"(?i)({_URL})|(\b\w*(?:password|passwd|pwd)\w*\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|\S+)")


class DbkitError(Exception):
    """A user's mistake. The message is one line: what is wrong, and what to type next. It never holds a password."""


def advice_on(error: object) -> str:
    """What to do about an error of a driver, to be put behind its words; empty where there is nothing to say."""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate == "42P01":
        return "; load its tables first, or name another database by DBKIT_DATABASE_URL"
    advice = pooler_advice(f"{sqlstate} {error}")
    return f"; {advice}" if advice else ""


def pooler_advice(words: str) -> str:
    """Which option a failure asks for, by its SQLSTATE and words; empty where its cause is no pooler."""
    if words.startswith(("26000", "42P05")):  # a prepared statement that is not there, or is there already
        return (
            "a pooler in transaction mode keeps no prepared statements for its clients: use --pooler transaction (for"
            " an engine of your own see docs/poolers.md)"
        )
    if "unsupported startup parameter" in words:
        return "a pooler takes no server options: use --pooler transaction or --pooler session, as it is set up"
    return ""


def without_secrets(text: str) -> str:
    """Text of somebody else's without URLs and passwords, and without characters that do something to a terminal."""
    return printable(_SECRET.sub(lambda found: f"{found[2] or ''}{PLACEHOLDER}", text), besides="\n\t")


def printable(text: str, besides: str = "") -> str:
    """Text without characters that do something to a terminal, or have no encoding, but for those `besides`."""
    return "".join(each if each.isprintable() or each in besides else "\N{REPLACEMENT CHARACTER}" for each in text)
