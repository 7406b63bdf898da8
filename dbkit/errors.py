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
    missing_table = getattr(error, "sqlstate", None) == "42P01"
    return "; load its tables first, or name another database by DBKIT_DATABASE_URL" if missing_table else ""


def without_secrets(text: str) -> str:
    """Text of somebody else's without URLs and passwords, and without characters that do something to a terminal."""
    hidden = _SECRET.sub(lambda found: f"{found[2] or ''}{PLACEHOLDER}", text)
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in hidden)
