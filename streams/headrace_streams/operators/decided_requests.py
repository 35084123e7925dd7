"""Requests that were decided over HTTP: the decision is a header of the request's record.

The step that selects passes it on instead of selecting again: the user has seen it already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from headrace import Headers

DECISION = "headrace.decision"
_ABOUT = ("experiment", "request", "unit")


class UnusableDecisionError(Exception):
    """The header holds no decision on this request."""


def with_decision(decision: Mapping[str, Any]) -> Headers:
    """Return the headers of a request with its decision."""
    return ((DECISION, orjson.dumps(decision)),)


def decision_of(headers: Headers, experiment: str, request: str, unit: str) -> dict[str, Any] | None:
    """Return the decision on a request; None: it is not decided yet. Raise UnusableDecisionError."""
    text = next((value for name, value in headers if name == DECISION), None)
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnusableDecisionError(f"header {DECISION} is not JSON: {error}") from error
    if not isinstance(found, dict) or [found.get(name) for name in _ABOUT] != [experiment, request, unit]:
        raise UnusableDecisionError(f"header {DECISION} has the decision on another request")
    return found


def without_decisions(headers: list[Headers] | None) -> list[Headers] | None:
    """Return headers without decisions, for the records that are made of the requests."""
    if headers is None:
        return None
    return [tuple(item for item in row if item[0] != DECISION) for row in headers]
