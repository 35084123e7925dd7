"""Runs handlers: plain functions ``(RestRequest) → Response``. Their errors become Connect's error bodies.

Handlers may block: each request runs on a thread of a pool, so that a slow one does not delay others. When the server
stops, requests that are still running are answered 503.
"""

from __future__ import annotations

import asyncio
import functools
import http
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import anyio
import anyio.to_thread
import structlog
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import (
    AuthenticationError,
    CommandError,
    ConfigError,
    Finding,
    HeadraceError,
    PermissionDeniedError,
    RetriableError,
)
from headrace.rest import audit
from headrace.rest.access import PUBLIC, PUBLIC_CALLER, UNRESTRICTED, Caller, Role, rule_of
from headrace.rest.audit import AuditChange
from headrace.rest.limits import RestLimits

log = structlog.stdlib.get_logger(__name__)

CHALLENGE = 'Basic realm="headrace", charset="UTF-8", Bearer realm="headrace"'


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request with its body read. ``path`` holds the decoded variables of the URL's path."""

    method: str
    base_url: str
    """``http://host:port`` as the client addressed this worker."""
    url_path: str
    path: Mapping[str, str]
    query: QueryParams
    content_type: str
    caller: Caller
    change: AuditChange
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)  # a configuration may hold secrets, a trace may show a repr

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean of the query; as in Connect everything but ``true`` (in any case) is false."""
        return self.query[name].strip().lower() == "true" if name in self.query else default

    def json_object(self, *, numbers_as_text: bool = True) -> dict[str, Any]:
        """Return the body, with numbers as the text that was sent: ``"tasks.max": 1`` is ``"1"``, as in Connect.

        Raises CommandError (400) when it is not a JSON object, HTTPException 415 when it is not declared as JSON.
        """
        # Connect's rule. It also prevents other web sites from posting here through a user's browser.
        if self.content_type.partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "HTTP 415 Unsupported Media Type → send the header Content-Type: application/json")
        try:
            numbers: dict[str, Any] = {"parse_int": str, "parse_float": str} if numbers_as_text else {}
            parsed = json.loads(self.body, parse_constant=_not_json, **numbers)
        except (ValueError, RecursionError) as error:
            place = (
                f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else "unreadable"
            )
            raise bad_request(f"the body is not JSON ({place})") from error
        if not isinstance(parsed, dict):
            raise bad_request(f"the body must be a JSON object, not {json_type(parsed)}")
        return parsed


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")  # Python's parser takes NaN and Infinity


_METHODS = ("HEAD", "DELETE", "POST", "GET", "PUT", "PATCH", "OPTIONS")
Handler = Callable[[RestRequest], Response]


def resource(
    path: str, *, limiter: anyio.CapacityLimiter | None = None, is_data: bool = False, **handlers: Handler
) -> Route:
    """A route whose methods are the keyword arguments: ``resource("/connectors", get=…, post=…)``.

    ``limiter``: a pool of its own, so that it is answered also when all threads of the common one are busy.
    ``is_data``: its requests are records and no changes of the worker; only refused ones have a line in the audit log.
    """
    by_method = {method.upper(): handler for method, handler in handlers.items()}
    rules = {method: rule_of(method, path) for method in by_method}
    methods = {*by_method, "OPTIONS"} | ({"HEAD"} if "GET" in by_method else set())
    allowed = ",".join(name for name in _METHODS if name in methods)

    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": allowed})
        method = "GET" if request.method == "HEAD" else request.method
        audited = _AuditedRequest(request)
        try:
            caller = await _caller(request, rules[method])
            if caller is not UNRESTRICTED:
                audited.caller = caller
            caller.require(rules[method], f"{method} {path}")
            rest_request = await _read(request, caller, audited.change)
            audited.caller = caller
            handler = forwarded(request.app.state.forwarding, path, by_method[method])
            response = await anyio.to_thread.run_sync(
                functools.partial(_respond, handler, rest_request),
                abandon_on_cancel=True,
                limiter=limiter,
            )
        except HTTPException as error:
            response = error_response(error.status_code, error.detail, error.headers)
        except HeadraceError as error:
            response = _access_error(error)
        except asyncio.CancelledError:  # only a stopping server cancels requests; the client must be told
            response = error_response(503, "the worker is stopping; the request may still have taken effect")
        except ClientDisconnect:  # disconnected within the body: nothing was done, and no client reads this
            response = error_response(400, "the body is incomplete")
        if not is_data or response.status_code >= 400:
            audited.finished(response.status_code)
        return response

    return Route(path, endpoint, methods=[*by_method, "OPTIONS"], name=path)


class Forwarding(Protocol):
    """The other workers of a group."""

    def respond(self, route: str, request: RestRequest) -> Response | None:
        """Return the response of another worker; None when this one answers. May block."""
        ...

    def completed(self, route: str, request: RestRequest, response: Response) -> Response:
        """Return this worker's response with what others have to add. May block."""
        ...


def forwarded(forwarding: Forwarding | None, route: str, handler: Handler) -> Handler:
    """Return a handler that lets another worker answer where that is necessary."""
    if forwarding is None:
        return handler

    def respond(request: RestRequest) -> Response:
        response = forwarding.respond(route, request)
        return forwarding.completed(route, request, handler(request)) if response is None else response

    return respond


class _AuditedRequest:
    """The contents of a request's audit line, collected while it is handled."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.caller: Caller | None = None
        self.change = AuditChange()

    def finished(self, status: int) -> None:
        method, path = self._request.method, self._request.url.path
        if method not in audit.READS:
            client = self._request.client.host if self._request.client else ""
            self._request.app.state.audit.write(method, path, client, self.caller, status, self.change)


async def _caller(request: Request, required: Role | None) -> Caller:
    """Return the caller. Raises AuthenticationError, and the errors of the authenticator."""
    if required is PUBLIC:
        return PUBLIC_CALLER
    caller: Caller | None = await request.app.state.authenticator.caller(request)
    if caller is None:
        hint = "send a user and password, a token, or a client certificate"
        raise AuthenticationError("this worker requires authentication", hint=hint)
    return caller


async def _read(request: Request, caller: Caller, change: AuditChange) -> RestRequest:
    return RestRequest(
        method=request.method,
        base_url=str(request.base_url).rstrip("/"),
        url_path=request.url.path,
        path={name: unquote(str(value)) for name, value in request.path_params.items()},
        query=request.query_params,
        content_type=request.headers.get("content-type", ""),
        caller=caller,
        change=change,
        headers=request.headers,
        body=await _body(request, request.app.state.limits),
    )


async def _body(request: Request, limits: RestLimits) -> bytes:
    """Return the body. Raises HTTPException 413 or 408; the rest of a body that is too large is not kept."""
    too_large = HTTPException(413, f"HTTP 413 Content Too Large → a body may have at most {limits.body_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > limits.body_bytes:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_timeout):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError as error:
        text = f"HTTP 408 Request Timeout → the body was not complete within {limits.body_timeout:g} s"
        raise HTTPException(408, text, {"Connection": "close"}) from error
    return b"".join(parts)


def _respond(handler: Handler, request: RestRequest) -> Response:
    try:
        return handler(request)
    except HTTPException as error:
        return error_response(error.status_code, error.detail)
    except ConfigError as error:
        return _config_error(error)
    except PermissionDeniedError as error:
        return _access_error(error)
    except HeadraceError as error:
        return error_response(error.http_status, str(error))
    except (Exception, SystemExit) as error:  # a bug: the client gets a message, the trace goes to the log
        log.exception("rest.request_failed", method=request.method, path=request.url_path)
        text = f"internal error ({type(error).__name__}) while handling {request.method} {request.url_path}"
        return error_response(500, f"{text} → the worker's log has the trace")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return Connect's error body: ``{"error_code": …, "message": …}``."""
    return JSONResponse({"error_code": status, "message": message, **more}, status, headers)


def _access_error(error: HeadraceError) -> JSONResponse:
    headers = {"WWW-Authenticate": CHALLENGE} if isinstance(error, AuthenticationError) else {}
    if isinstance(error, RetriableError):
        headers["Retry-After"] = "1"
    return error_response(error.http_status, str(error), headers, code=error.code)


def router_error(_: Request, error: Exception) -> Response:
    """Return the same body for errors of the router: unknown paths (404) and methods (405)."""
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    return error_response(error.status_code, f"HTTP {error.status_code} {phrase}", error.headers)


def bad_request(message: str, hint: str = "") -> CommandError:
    """Return an error that is answered 400."""
    return CommandError(message, code="rest.bad_request", hint=hint)


def json_type(value: object) -> str:
    """Return the JSON name of the type of ``value``, for messages. Numbers have been parsed as text."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", bool: "a boolean"}
    return names.get(type(value), "a string or number")


# Connect's text (AbstractHerder); clients search for it.
def _config_error(error: ConfigError) -> JSONResponse:
    errors = [item for item in error.findings if item.severity == "error"]
    if not errors:
        return error_response(400, str(error))
    lines = [
        f"Connector configuration is invalid and contains the following {len(errors)} error(s):",
        *(f"{item.message} → {item.hint}" if item.hint else item.message for item in errors),
        "You can also find the above list of errors at the endpoint "
        "`/connector-plugins/{connectorType}/config/validate`",
    ]
    return error_response(400, "\n".join(lines), findings=[_finding(item) for item in errors])


def _finding(item: Finding) -> dict[str, str]:
    return {"code": item.code, "key": item.key, "message": item.message, "hint": item.hint}
