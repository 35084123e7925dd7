"""Rules for ``connection.url``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from headrace import Finding


def url_problems(urls: Iterable[str], *, demand_https: bool) -> Iterator[Finding]:
    """Yield violations; a URL with credentials is never shown."""
    name = "connection.url"
    for url in urls:
        parts = urlsplit(url)
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False  # a port that is no number
        if "@" in parts.netloc:
            # Not shown: there may be a password in it.
            hint = "use 'connection.username' and 'connection.password'"
            yield Finding("config.invalid_value", "credentials do not belong into 'connection.url'", name, hint)
        elif not usable:
            text = f"Invalid value {url} for configuration {name}: not an http or https URL"
            yield Finding("config.invalid_value", text, name, "write it as http://host:9200")
        elif demand_https and parts.scheme != "https":
            text = f"'elastic.security.protocol' is SSL but {url} is not https"
            yield Finding("config.conflict", text, name, "write https://, or remove 'elastic.security.protocol'")
