"""Sends bulk lines one request after another, for repairs and copies, which are no puts of a task."""

from __future__ import annotations

from collections.abc import Sequence

from headrace import DataError, RetriableError
from headrace_sinks.elasticsearch.bulk.line_encoder import split_by_size
from headrace_sinks.elasticsearch.bulk.writer import MEDIA_TYPE, bulk_path
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.responses import read_bulk_response, require_usable_response

_TRIES = 5
_MOST_LINES, _MOST_BYTES = 1_000, 5 << 20


def send_lines(client: ElasticsearchClient, lines: Sequence[bytes]) -> list[tuple[int, DataError]]:
    """Send lines with external versions; return the places of refused ones. Documents that are newer are kept.

    Raise RetriableError, InfrastructureError.
    """
    refused = []
    for start, end in split_by_size(lines, _MOST_LINES, _MOST_BYTES):
        refused += [(start + place, error) for place, error in _send(client, lines[start:end])]
    return refused


def _send(client: ElasticsearchClient, lines: Sequence[bytes]) -> list[tuple[int, DataError]]:
    places, refused = list(range(len(lines))), list[tuple[int, DataError]]()
    reason: RetriableError | None = None
    for _ in range(_TRIES):
        if not places:
            return refused
        body = b"".join(lines[place] for place in places)
        answer = client.request("POST", bulk_path(client), body, MEDIA_TYPE)
        require_usable_response(answer)
        if answer.status != 200:
            text = f"documents were refused as a whole (HTTP {answer.status})"
            raise RetriableError(text, code="elasticsearch.repair")
        result = read_bulk_response(answer, len(places), versioned=True)
        refused += [(places[place], error) for place, error in result.refused]
        places, reason = [places[place] for place in result.again], result.reason
    if not places:
        return refused
    raise reason or RetriableError("documents were not written", code="elasticsearch.repair")
