"""Reads and creates indices, aliases, data streams and mappings; translates Elasticsearch's errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from headrace import InfrastructureError, TaskError
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient, ElasticsearchResponse
from headrace_sinks.elasticsearch.cluster.responses import denied, error_of, no_write_index, require_usable_response

FIELD_LIMIT = "index.mapping.total_fields.limit"
_DEFAULT_FIELD_LIMIT = 1000
_DEFAULT_REFRESH = "1s"
_TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_EXISTS = "resource_already_exists_exception"


class IndexState(NamedTuple):
    """Definition of an existing index. ``settings`` are flat; ``aliases`` as Elasticsearch returns them."""

    name: str
    mapping: dict[str, Any]
    settings: dict[str, str]
    aliases: dict[str, dict[str, Any]]

    @property
    def field_limit(self) -> int:
        return int(self.settings.get(FIELD_LIMIT, _DEFAULT_FIELD_LIMIT))

    @property
    def refresh_interval(self) -> float:
        """Seconds until searches find a document, at the latest; 0 where only requests of users refresh the index."""
        found = _TIME.fullmatch(self.settings.get("index.refresh_interval", _DEFAULT_REFRESH))
        return float(found["number"]) * _SECONDS[found["unit"]] if found else 0.0

    @property
    def identity(self) -> tuple[str, str]:
        """Name and UUID: an index that was deleted and created again has another UUID."""
        return self.name, self.settings.get("index.uuid", "")

    @property
    def meta(self) -> dict[str, Any]:
        """headrace's own entry in the mapping's ``_meta``."""
        found = self.mapping.get("_meta", {}).get("headrace", {})
        return found if isinstance(found, dict) else {}


class LookupDeniedError(Exception):
    """The user may not read the definition; writing may still be allowed."""


class IndexCatalog:
    """Management requests. Methods raise RetriableError, InfrastructureError; LookupDeniedError where documented."""

    def __init__(self, client: ElasticsearchClient) -> None:
        self._client = client

    def behind(self, name: str, read_timeout: float | None = None) -> list[IndexState]:
        """Return the indices behind the name of an index, alias or data stream, sorted; empty when it does not exist.

        Raise LookupDeniedError.
        """
        answer = self._client.request("GET", f"{path(name)}?flat_settings=true", read_timeout=read_timeout)
        if answer.status == 404:
            return []
        content = self._content(answer, name)
        return [
            IndexState(each, body.get("mappings", {}), body.get("settings", {}), body.get("aliases", {}))
            for each, body in sorted(content.items())
        ]

    def target(self, name: str, read_timeout: float | None = None) -> IndexState | None:
        """Return the index that writes to ``name`` reach, None when it does not exist.

        Raise LookupDeniedError; RetriableError when ``name`` is an alias without write index.
        """
        found = self.behind(name, read_timeout)
        marked = [index for index in found if index.aliases.get(name, {}).get("is_write_index")]
        disabled = len(found) == 1 and found[0].aliases.get(name, {}).get("is_write_index") is False
        if found and not marked and (len(found) > 1 or disabled) and all(name in index.aliases for index in found):
            raise no_write_index(f"alias '{name}' of {len(found)} indices ({_listed(found)})")
        return (marked or found)[-1] if found else None

    def exists(self, name: str) -> bool:
        """Return whether an index, alias or data stream exists; True when the user may not look."""
        answer = self._client.request("HEAD", path(name))
        if answer.status in (200, 403):
            return True
        if answer.status != 404:
            self._require(answer, f"index '{name}' cannot be read")
        return False

    def create(self, name: str, body: Mapping[str, Any]) -> bool:
        """Create an index; return False when it exists already. Raise TaskError when the body is refused.

        Its shards are not waited for: the first write waits, and its error tells which shard is missing.
        """
        answer = self._client.request("PUT", f"{path(name)}?wait_for_active_shards=0", orjson.dumps(body))
        kind, reason = error_of(answer)
        if kind == _EXISTS:
            return False
        if answer.status in (401, 403):
            raise denied(answer.status, f"index '{name}' cannot be created: {reason}")
        self._require(answer, f"index '{name}' cannot be created")
        return True

    def create_stream(self, name: str) -> bool:
        """Create a data stream; return False when it exists. Raise InfrastructureError without a template for it."""
        answer = self._client.request("PUT", f"/_data_stream{path(name)}")
        kind, reason = error_of(answer)
        if kind == _EXISTS:
            return False
        if answer.status == 405:  # this node lacks the request; the first document creates the stream
            self._require_stream_template(name)
            return False
        if answer.status in (401, 403):
            raise denied(answer.status, f"data stream '{name}' cannot be created: {reason}")
        if kind == "illegal_argument_exception":
            raise no_stream_template(name, reason)
        self._require(answer, f"data stream '{name}' cannot be created")
        return True

    def makes_stream(self, name: str) -> bool:
        """Return whether the index template that matches ``name`` creates a data stream. Raise LookupDeniedError."""
        templates = [each["index_template"] for each in (self.get("/_index_template") or {}).get("index_templates", ())]
        matching = [
            template
            for template in templates
            if any(fnmatchcase(name, pattern) for pattern in template.get("index_patterns", ()))
        ]
        return bool(matching) and "data_stream" in max(matching, key=lambda template: template.get("priority") or 0)

    def add_fields(self, name: str, properties: Mapping[str, Any]) -> None:
        self.put_mapping(name, {"properties": properties})

    def put_mapping(self, name: str, body: Mapping[str, Any]) -> None:
        """Add to a mapping. Raise TaskError when Elasticsearch refuses it."""
        answer = self._client.request("PUT", f"{path(name)}/_mapping", orjson.dumps(body))
        if answer.status in (401, 403):
            raise denied(answer.status, f"the mapping of '{name}' cannot be changed: {error_of(answer)[1]}")
        self._require(answer, f"the mapping of '{name}' cannot be changed")

    def aliases(self, actions: list[dict[str, Any]]) -> None:
        """Change aliases atomically."""
        answer = self._client.request("POST", "/_aliases", orjson.dumps({"actions": actions}))
        self._require(answer, "aliases cannot be changed")

    def get(self, place: str) -> Any:
        """Return the content of a resource, None when it does not exist. Raise LookupDeniedError."""
        answer = self._client.request("GET", place)
        return None if answer.status == 404 else self._content(answer, place)

    def put(self, place: str, body: Mapping[str, Any], what: str) -> None:
        """Create or replace a resource; ``what`` names it in messages."""
        answer = self._client.request("PUT", place, orjson.dumps(body))
        if answer.status in (401, 403):
            raise denied(answer.status, f"{what} cannot be created: {error_of(answer)[1]}")
        self._require(answer, f"{what} cannot be created")

    def request(
        self,
        method: str,
        place: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        loads: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """Send any other request and return the content, parsed by ``loads``; ``what``: the message of its error."""
        answer = self._client.request(method, place, None if body is None else orjson.dumps(body))
        self._require(answer, what)
        return answer.lenient_json() if loads is None else loads(answer.body)

    def _require_stream_template(self, name: str) -> None:
        try:
            found = self.makes_stream(name)
        except LookupDeniedError:
            return
        if not found:
            raise no_stream_template(name, "no index template with a data_stream part matches it")

    def _content(self, answer: ElasticsearchResponse, what: str) -> Any:
        if answer.status == 403:
            raise LookupDeniedError(error_of(answer)[1])
        self._require(answer, f"'{what}' cannot be read")
        return answer.json() or {}

    def _require(self, answer: ElasticsearchResponse, what: str) -> None:
        require_usable_response(answer)
        if answer.status < 400:
            return
        kind, reason = error_of(answer)
        if not kind and answer.status == 404:
            raise InfrastructureError(f"{what}: HTTP 404", code="elasticsearch.index_not_prepared")
        if kind == "error" and "no handler found" in reason:
            raise InfrastructureError(
                f"{what}: this Elasticsearch cannot do that ({reason})", code="elasticsearch.missing_feature"
            )
        if "create data stream" in reason:
            raise InfrastructureError(
                f"{what}: an index template makes it a data stream: {reason}",
                code="elasticsearch.data_stream",
                hint="write to the data stream with 'data.stream.type' and 'data.stream.dataset', or create it and set "
                "external.resource.usage: DATASTREAM; or choose another 'index.name'",
            )
        raise TaskError(
            f"{what}: {kind}: {reason}",
            code="elasticsearch.index_refused",
            hint="see 'index.settings', 'mapping.fields' and 'mapping.file' of the connector",
        )


def no_stream_template(name: str, why: str) -> InfrastructureError:
    """Return the error for a data stream that Elasticsearch would create as a plain index, or not at all."""
    return InfrastructureError(
        f"data stream '{name}' cannot be created: {why}",
        code="elasticsearch.no_data_stream_template",
        hint="set 'index.template', which creates a template for it, or create one with a data_stream part",
    )


def _listed(indices: Sequence[IndexState]) -> str:
    shown = ", ".join(index.name for index in indices[:3])
    return shown + (f" and {len(indices) - 3} more" if len(indices) > 3 else "")


def path(name: str) -> str:
    """Return a name as part of a URL."""
    return f"/{quote(name, safe='')}"
