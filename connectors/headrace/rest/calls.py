"""From an HTTP request to a handler's plain function, and from its error to Connect's error body.

Handlers are ordinary functions ``(Call) → Response``. They may block: each runs on a thread of its own pool, so a slow
one holds up nobody else, and is abandoned (answered 503) when the server stops.
"""

from __future__ import annotations

import asyncio
import functools
import http
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
import structlog
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import CommandError, ConfigError, Finding, HeadraceError

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its body read. ``path`` holds the decoded variables of the URL's path."""

    method: str
    url_path: str
    path: Mapping[str, str]
    query: QueryParams
    content_type: str
    body: bytes = field(repr=False)  # a configuration may hold secrets, a trace may show a repr

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean of the query; as in Connect everything but ``true`` (any case) is false."""
        return self.query[name].strip().lower() == "true" if name in self.query else default

    def json_object(self, *, numbers_as_text: bool = True) -> dict[str, Any]:
        """The body. Numbers of configurations arrive as the text that was sent: ``"tasks.max": 1`` means ``"1"``, as in
        Connect.

        Raises CommandError (400) when it is not a JSON object, HTTPException 415 when it is not declared as JSON.
        """
        # Beside being Connect's rule, this keeps a web page elsewhere from posting here through a user's browser.
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


Handler = Callable[[Call], Response]


def resource(path: str, **handlers: Handler) -> Route:
    """A route whose methods are the keyword arguments: ``resource("/connectors", get=…, post=…)``."""
    by_method = {method.upper(): handler for method, handler in handlers.items()}

    async def endpoint(request: Request) -> Response:
        handler = by_method["GET" if request.method == "HEAD" else request.method]
        try:
            call = await _read(request)
            return await anyio.to_thread.run_sync(functools.partial(_answer, handler, call), abandon_on_cancel=True)
        except asyncio.CancelledError:  # only a stopping server cancels; whoever waits should hear of it
            return error_response(503, "the worker is stopping; the request may still have taken effect")
        except ClientDisconnect:  # left in the middle of its body; nothing was done, and this reaches nobody
            return error_response(400, "the body is incomplete")

    return Route(path, endpoint, methods=list(by_method), name=path)


async def _read(request: Request) -> Call:
    return Call(
        method=request.method,
        url_path=request.url.path,
        path={name: unquote(str(value)) for name, value in request.path_params.items()},
        query=request.query_params,
        content_type=request.headers.get("content-type", ""),
        body=await request.body(),
    )


def _answer(handler: Handler, call: Call) -> Response:
    try:
        return handler(call)
    except HTTPException as error:
        return error_response(error.status_code, error.detail)
    except ConfigError as error:
        return _config_error(error)
    except HeadraceError as error:
        return error_response(error.http_status, str(error))
    except Exception as error:  # a bug: the caller gets a sentence, the trace goes to the log
        log.exception("rest.request_failed", method=call.method, path=call.url_path)
        text = f"internal error ({type(error).__name__}) while handling {call.method} {call.url_path}"
        return error_response(500, f"{text} → the worker's log has the trace")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Connect's error body: ``{"error_code": …, "message": …}``."""
    return JSONResponse({"error_code": status, "message": message, **more}, status, headers)


def router_error(_: Request, error: Exception) -> Response:
    """What the router itself refuses, unknown paths (404) and wrong methods (405), in the same body."""
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    return error_response(error.status_code, f"HTTP {error.status_code} {phrase}", error.headers)


def bad_request(message: str, hint: str = "") -> CommandError:
    """An error that is answered 400."""
    return CommandError(message, code="rest.bad_request", hint=hint)


def json_type(value: object) -> str:
    """For messages: what JSON calls the type of ``value`` (numbers have become text, so text stands for both)."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", bool: "a boolean"}
    return names.get(type(value), "a string or number")


# The frame of the text is Connect's (ConnectorsResource / AbstractHerder); clients search for it.
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
