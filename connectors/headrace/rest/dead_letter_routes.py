"""Routes below ``/v1/connectors/{name}/dead-letters``, headrace's own."""

from __future__ import annotations

import base64
import re
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.dead_letters.letters import Letter
from headrace.dead_letters.service import DeadLetterService, LetterJob
from headrace.rest.handlers import RestRequest, bad_request, resource

_LIMIT = 10
_MOST = 1_000


class DeadLetterRoutes:
    """Groups, letters, and the retry or discard that runs."""

    def __init__(self, service: DeadLetterService) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes below ``/v1/connectors/{name}/dead-letters``."""
        queue = "/v1/connectors/{name}/dead-letters"
        return [
            resource(queue, get=self.groups),
            resource(f"{queue}/letters", get=self.letters),
            resource(f"{queue}/retry", post=lambda request: self._start(request, "retry")),
            resource(f"{queue}/discard", post=lambda request: self._start(request, "discard")),
            resource(f"{queue}/job", get=self.job),
        ]

    def groups(self, request: RestRequest) -> Response:
        """Return open letters by code and field, without contents of records.

        Of a long queue one part: ``next`` is the ``?after=`` of the next one, ``left`` how many offsets it has.
        """
        summary = self._service.groups(request.path["name"], _start_of(request.query.get("after", "")))
        groups = [
            {
                "group": str(group),
                "code": group.code,
                "field": group.field or None,
                "count": item.count,
                "first": item.first,
                "last": item.last,
                "example": {
                    "place": str(item.example.place),
                    "record": str(origin) if (origin := item.example.origin()) is not None else None,
                    "reason": item.example.reason(),
                    "hint": item.example.hint(),
                },
            }
            for group, item in sorted(summary.groups.items(), key=lambda pair: -pair[1].count)
        ]
        return JSONResponse(
            {
                "connector": request.path["name"],
                "topic": summary.topic,
                "open": sum(item.count for item in summary.groups.values()),
                "groups": groups,
                "marked": dict(summary.marked),
                "next": ",".join(f"{partition}:{offset}" for partition, offset in sorted(summary.next.items())) or None,
                "left": summary.left,
            }
        )

    def letters(self, request: RestRequest) -> Response:
        """Return the newest open letters with their contents; ``?group=`` and ``?limit=`` (10)."""
        limit = request.query.get("limit", str(_LIMIT))
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= _MOST):
            raise bad_request(f"limit is not a number from 1 to {_MOST}")
        found = self._service.letters(request.path["name"], request.query.get("group"), int(limit))
        return JSONResponse([_letter(letter) for letter in found])

    def job(self, request: RestRequest) -> Response:
        """Return the last retry or discard of the connector: its progress, or its result."""
        return JSONResponse(_job(self._service.job(request.path["name"])))

    def _start(self, request: RestRequest, action: str) -> Response:
        """Return 202 and the job. The body is ``{"group": code or null, "try": true or false}``."""
        body = request.json_object()
        group, dry = body.get("group"), body.get("try", False)
        if not (group is None or isinstance(group, str)) or not isinstance(dry, bool) or set(body) - {"group", "try"}:
            raise bad_request('the body must be {"group": "…" or null, "try": true or false}')
        if dry and action != "retry":
            raise bad_request("only a retry can be tried")
        request.change.state(None, {"action": action, "group": group, "try": dry})
        return JSONResponse(_job(self._service.start(request.path["name"], action, group, dry=dry)), 202)


def _start_of(text: str) -> dict[int, int]:
    if not re.fullmatch(r"(\d{1,9}:\d{1,18}(,|$))*", text, re.ASCII):
        raise bad_request("after is not the 'next' of an earlier response")
    return {int(partition): int(offset) for partition, offset in re.findall(r"(\d+):(\d+)", text)}


def _letter(letter: Letter) -> dict[str, Any]:
    return {
        "partition": letter.place.topic_partition.partition,
        "offset": letter.place.offset,
        "timestamp": letter.timestamp,
        "group": str(letter.group()),
        "retries": letter.retries(),
        "headers": [{"name": name, **_readable(value)} for name, value in letter.headers],
        "key": _readable(letter.key),
        "value": _readable(letter.value),
    }


def _readable(data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {"text": None}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _job(job: LetterJob) -> dict[str, Any]:
    return {
        "connector": job.connector,
        "action": job.action,
        "group": job.group,
        "try": job.dry,
        "state": job.state,
        "step": job.step,
        "done": job.done,
        "of": job.whole,
        "groups": [
            {"group": str(group), "counts": dict(outcome.counts), "reason": outcome.reason or None}
            for group, outcome in list(job.outcomes.items())
        ],
        "error": job.error or None,
    }
