"""Routes below ``/v1/streams``, headrace's own: what stream applications hold, what it was made by, and decisions."""

from __future__ import annotations

import anyio
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.pipeline.stream import state_codec
from headrace.rest.handlers import RestRequest, error_response, resource
from headrace.runtime.api import WorkerApi

_AT_ONCE = 32
"""Decisions at the same time; they have threads of their own, so that slow commands do not delay them."""


class StreamRoutes:
    """State of stream applications, and their decisions on single requests."""

    def __init__(self, api: WorkerApi) -> None:
        self._api = api

    def routes(self) -> list[Route]:
        """Return the routes below ``/v1/streams``."""
        one = "/v1/streams/{name}"
        return [
            resource(f"{one}/state/{{store}}/{{key}}", get=self.state),
            resource(f"{one}/registration", get=self.registration),
            resource(f"{one}/decide", limiter=anyio.CapacityLimiter(_AT_ONCE), is_data=True, post=self.decide),
        ]

    def state(self, request: RestRequest) -> Response:
        """Return what a store holds of a key, with all types as in the changelog (``{"$decimal": "1.5"}``)."""
        name, store = request.path["name"], request.path["store"]
        answer = self._api.stream_state(name, store, request.path["key"])
        found = answer.found
        if found is None:
            error = answer.missing()
            looked = sorted(answer.partitions)
            return error_response(
                error.http_status, str(error), code=error.code, store=store, partitions=looked, of=answer.total
            )
        key = list(found.key) if isinstance(found.key, tuple) else found.key
        place = {"name": name, "store": store, "task": found.task, "partition": found.partition}
        (body,) = state_codec.encode([{**place, "key": key, "entries": list(found.entries)}])
        return Response(body, media_type="application/json")

    def registration(self, request: RestRequest) -> Response:
        """Return what the state of each step was made by, for ``headrace stream explain --against``."""
        found = self._api.registration(request.path["name"])
        stores = {name: {"definition": text, "topics": topics} for name, (text, topics) in found.stores.items()}
        return JSONResponse({"name": request.path["name"], "written": found.origin(), "stores": stores})

    def decide(self, request: RestRequest) -> Response:
        """Return the selection for the request in the body, a JSON object, after it is written to Kafka."""
        made = self._api.decide(request.path["name"], request.json_object(numbers_as_text=False))
        return JSONResponse(dict(made))
