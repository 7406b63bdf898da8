"""The one exception for what the user can put right: a wrong option, URL, dataset or server.

Command-line entry points print its message on one line and exit with code 2; nothing else is caught for that.
"""


class DbkitError(Exception):
    """A user's mistake. The message is one line: what is wrong, and what to type next. It never holds a password."""


def advice_on(error: object) -> str:
    """What to do about an error of a driver, to be put behind its words; empty where there is nothing to say."""
    missing_table = getattr(error, "sqlstate", None) == "42P01"
    return "; load its tables first, or name another database by DBKIT_DATABASE_URL" if missing_table else ""
