"""Worker keys of the REST API: cross-origin requests and headers of every response."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.errors import ConfigError, Finding
from headrace.rest.origin_checks import HostCheck, WriteOriginCheck

HEADERS_KEY = "response.http.headers.config"
_RULE = re.compile(r"\s*(set|add)\s+([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([^\r\n]*?)\s*", re.IGNORECASE)
_BETWEEN_RULES = re.compile(r",(?=\s*(?:set|add|setDate|addDate)\s)", re.IGNORECASE)


class HeaderRule(NamedTuple):
    """A header of every response. ``replace``: instead of one of the same name, else in addition to it."""

    replace: bool
    name: str
    value: str


class RestOptions(NamedTuple):
    """Settings of the REST API beyond its listeners."""

    allow_origins: Sequence[str] = ()
    allow_methods: Sequence[str] = ()
    headers: Sequence[HeaderRule] = ()
    allowed_hosts: Sequence[str] = ()
    """Names of this worker, besides IP addresses and localhost; ``*`` for any."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the application with these options applied."""
        methods = self.allow_methods or ("GET", "POST", "HEAD")
        app = WriteOriginCheck(app, self.allow_origins, methods)
        if self.allow_origins:
            app = CORSMiddleware(app, allow_origins=self.allow_origins, allow_methods=methods, allow_headers=["*"])
        app = HostCheck(app, self.allowed_hosts)
        return ResponseHeaders(app, self.headers) if self.headers else app


NO_OPTIONS = RestOptions()


def parse_header_rules(text: str) -> list[HeaderRule]:
    """Parse ``set NAME: VALUE, add NAME: VALUE`` (``setDate`` and ``addDate`` of Connect are not supported).

    Raises ConfigError.
    """
    if not text.strip():
        return []
    rules = []
    for part in _BETWEEN_RULES.split(text):
        match = _RULE.fullmatch(part)
        if match is None:
            message = f"Invalid value {text} for configuration {HEADERS_KEY}: '{part.strip()}' is not a header rule"
            hint = "for example: set X-Frame-Options: DENY, add Cache-Control: no-store"
            raise ConfigError(findings=[Finding("config.invalid_value", message, HEADERS_KEY, hint)])
        rules.append(HeaderRule(match[1].lower() == "set", match[2], match[3]))
    return rules


class ResponseHeaders:
    """ASGI middleware that adds headers to every response."""

    def __init__(self, app: ASGIApp, rules: Sequence[HeaderRule]) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for rule in self._rules:
                    if rule.replace:
                        headers[rule.name] = rule.value
                    else:
                        headers.append(rule.name, rule.value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
