"""What a cluster has: indices behind a name, with their mappings; and the making of them, refusals in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from headrace import InfrastructureError, TaskError
from headrace_sinks.elasticsearch.cluster.answers import denied, error_of, judge_request
from headrace_sinks.elasticsearch.cluster.client import Answer, Client

FIELD_LIMIT = "index.mapping.total_fields.limit"
_DEFAULT_FIELD_LIMIT = 1000
_EXISTS = "resource_already_exists_exception"


class Index(NamedTuple):
    """An index that documents are written to. ``settings`` are flat; ``aliases`` as Elasticsearch shows them."""

    name: str
    mapping: dict[str, Any]
    settings: dict[str, str]
    aliases: dict[str, dict[str, Any]]

    @property
    def field_limit(self) -> int:
        return int(self.settings.get(FIELD_LIMIT, _DEFAULT_FIELD_LIMIT))

    @property
    def meta(self) -> dict[str, Any]:
        """What headrace has written on it."""
        found = self.mapping.get("_meta", {}).get("headrace", {})
        return found if isinstance(found, dict) else {}


class Denied(Exception):
    """We may not look; writing may be allowed all the same."""


class Catalog:
    """Asks and tells. Raises RetriableError, InfrastructureError, and Denied where that is said."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def behind(self, name: str) -> list[Index]:
        """The indices behind an index's, alias' or data stream's name, sorted; none when there is no such name.

        Raises Denied.
        """
        answer = self._client.request("GET", f"{path(name)}?flat_settings=true")
        if answer.status == 404:
            return []
        content = self._content(answer, name)
        return [
            Index(each, body.get("mappings", {}), body.get("settings", {}), body.get("aliases", {}))
            for each, body in sorted(content.items())
        ]

    def target(self, name: str) -> Index | None:
        """The one of them that is written to. Raises Denied."""
        found = self.behind(name)
        marked = [index for index in found if index.aliases.get(name, {}).get("is_write_index")]
        return (marked or found)[-1] if found else None

    def exists(self, name: str) -> bool:
        """Whether there is an index, alias or data stream of that name; True when we may not look."""
        answer = self._client.request("HEAD", path(name))
        if answer.status in (200, 403):
            return True
        if answer.status != 404:
            self._require(answer, f"index '{name}' cannot be looked at")
        return False

    def create(self, name: str, body: Mapping[str, Any]) -> bool:
        """Make an index; False when somebody else just has. Raises TaskError when the body is not accepted."""
        answer = self._client.request("PUT", path(name), orjson.dumps(body))
        kind, reason = error_of(answer)
        if kind == _EXISTS:
            return False
        if answer.status in (401, 403):
            raise denied(answer.status, f"index '{name}' cannot be created: {reason}")
        self._require(answer, f"index '{name}' cannot be created")
        return True

    def create_stream(self, name: str) -> bool:
        """Make a data stream; False when it is there. Raises InfrastructureError when no template makes it one."""
        answer = self._client.request("PUT", f"/_data_stream{path(name)}")
        kind, reason = error_of(answer)
        if kind == _EXISTS or answer.status == 405:
            return False  # 405: a node without this request's module; the first document makes the stream
        if answer.status in (401, 403):
            raise denied(answer.status, f"data stream '{name}' cannot be created: {reason}")
        if kind == "illegal_argument_exception":
            raise InfrastructureError(
                f"data stream '{name}' cannot be created: {reason}",
                code="elasticsearch.no_data_stream_template",
                hint="'index.template' makes and keeps a template for it, or make one with a data_stream part",
            )
        self._require(answer, f"data stream '{name}' cannot be created")
        return True

    def add_fields(self, name: str, properties: Mapping[str, Any]) -> None:
        self.put_mapping(name, {"properties": properties})

    def put_mapping(self, name: str, body: Mapping[str, Any]) -> None:
        """Add to a mapping. Raises TaskError when Elasticsearch does not accept it."""
        answer = self._client.request("PUT", f"{path(name)}/_mapping", orjson.dumps(body))
        if answer.status in (401, 403):
            raise denied(answer.status, f"the mapping of '{name}' cannot be changed: {error_of(answer)[1]}")
        self._require(answer, f"the mapping of '{name}' cannot be changed")

    def aliases(self, actions: list[dict[str, Any]]) -> None:
        """All of them at once or none."""
        answer = self._client.request("POST", "/_aliases", orjson.dumps({"actions": actions}))
        self._require(answer, "aliases cannot be changed")

    def get(self, place: str) -> Any:
        """The content of any resource, None when it is not there. Raises Denied."""
        answer = self._client.request("GET", place)
        return None if answer.status == 404 else self._content(answer, place)

    def put(self, place: str, body: Mapping[str, Any], what: str) -> None:
        """Make or replace a resource, called ``what`` in messages."""
        answer = self._client.request("PUT", place, orjson.dumps(body))
        if answer.status in (401, 403):
            raise denied(answer.status, f"{what} cannot be made: {error_of(answer)[1]}")
        self._require(answer, f"{what} cannot be made")

    def request(self, method: str, place: str, what: str, body: Mapping[str, Any] | None = None) -> Any:
        """Anything else; the answer's content. ``what`` went wrong otherwise: ``index 'x' cannot be refreshed``."""
        answer = self._client.request(method, place, None if body is None else orjson.dumps(body))
        self._require(answer, what)
        return answer.json()

    def _content(self, answer: Answer, what: str) -> Any:
        if answer.status == 403:
            raise Denied(error_of(answer)[1])
        self._require(answer, f"'{what}' cannot be looked at")
        return answer.json() or {}

    def _require(self, answer: Answer, what: str) -> None:
        judge_request(answer)
        if answer.status < 400:
            return
        kind, reason = error_of(answer)
        if not kind and answer.status == 404:
            raise InfrastructureError(f"{what}: HTTP 404", code="elasticsearch.index_not_prepared")
        if kind == "error" and "no handler found" in reason:
            raise InfrastructureError(
                f"{what}: this Elasticsearch cannot do that ({reason})", code="elasticsearch.missing_feature"
            )
        raise TaskError(
            f"{what}: {kind}: {reason}",
            code="elasticsearch.index_refused",
            hint="see 'index.settings', 'mapping.fields' and 'mapping.file' of the connector",
        )


def path(name: str) -> str:
    """A name in a URL."""
    return f"/{quote(name, safe='')}"
