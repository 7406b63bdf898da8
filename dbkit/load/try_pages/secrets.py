"""Passwords stay out of what is printed: in tracebacks and source lines too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.url import DatabaseUrl

HIDDEN = "***"
MIN_CHARACTERS = 4
"""A shorter password is hidden where a URL or `password=` shows what it is, as other words have its letters too."""

_IN_URL = re.compile(r"(://[^\s:/@'\"]*:)[^\s@'\"]+(?=@)")
_NAMED = re.compile(r"(password['\"]?\s*[=:]\s*['\"]?)[^\s'\",)]+", re.IGNORECASE)


class Secrets:
    """The passwords of a database and of the application's engines."""

    def __init__(self, database: DatabaseUrl | None = None, engines: Iterable[object] = ()) -> None:
        urls = [(each.url.password, str(each.url)) for each in engines if isinstance(each, Engine | AsyncEngine)]
        if database is not None:
            urls.append((database.password, str(database)))
        self._texts = {
            text
            for password, url in urls
            if password and len(password) >= MIN_CHARACTERS and password not in url
            for text in (password, quote(password), quote(password, safe=""), repr(password)[1:-1])
        }

    def hide(self, text: str) -> str:
        """The same text with `***` in the place of each password."""
        for secret in sorted(self._texts, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return _NAMED.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1{HIDDEN}", text))
