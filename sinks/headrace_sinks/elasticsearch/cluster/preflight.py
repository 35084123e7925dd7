"""Checks before writing: product and version, credentials, missing resources, full disks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from headrace import Finding, HeadraceError, InfrastructureError
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.responses import denied, error_of, require_usable_response

OLDEST = (7, 0)
OLDEST_WITH_STREAMS = (7, 9)
NEWEST = 9
"""Newest supported major version; newer clusters are asked for its compatibility mode."""
_WRONG_MEDIA_TYPE = "media_type_header_exception"
_PRODUCT = "x-elastic-product"


def require_elasticsearch(client: ElasticsearchClient, *, streams: bool = False) -> str:
    """Return the version, empty when the user may not read it. ``streams``: require support of data streams.

    Raise RetriableError if nothing answers; InfrastructureError for another product, an old version or a refused login.
    """
    answer = client.request("GET", "/")
    if answer.status == 403:
        return ""  # no privilege `monitor`; writing may be allowed all the same
    if answer.status == 401:
        raise denied(401, error_of(answer)[1] or "HTTP 401")
    if answer.status != 404:
        require_usable_response(answer)
    if client.compatible_with and error_of(answer)[0] == _WRONG_MEDIA_TYPE:
        raise InfrastructureError(
            f"Elasticsearch at {client.address} has no compatibility mode for version {client.compatible_with}",
            code="elasticsearch.compatibility",
            hint="'elasticsearch.compatibility' names the cluster's major version or the one before; without it plain "
            "JSON is sent, which all versions accept",
        )
    content = answer.json()
    version = content.get("version") if isinstance(content, dict) else None
    version = version if isinstance(version, Mapping) else {}
    number = str(version.get("number") or "")
    if version.get("distribution") or not number or answer.status != 200:
        found = (
            f"{str(version['distribution']).capitalize()} {number}" if version.get("distribution") else "something else"
        )
        raise InfrastructureError(
            f"what answers at {client.address} is not Elasticsearch but {found}",
            code="elasticsearch.not_elasticsearch",
            hint="check 'connection.url'",
        )
    found_version = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    # The product header came with 7.14; older versions are recognised by their version alone.
    oldest = OLDEST_WITH_STREAMS if streams else OLDEST
    if found_version < oldest:
        what = " for data streams" if streams else ""
        raise InfrastructureError(
            f"Elasticsearch {number} is too old: {oldest[0]}.{oldest[1]} or newer is needed{what}",
            code="elasticsearch.too_old",
        )
    if found_version[0] > NEWEST:
        _speak_the_newest(client, number)
    if found_version >= (7, 14) and answer.headers.get(_PRODUCT) != "Elasticsearch":
        raise InfrastructureError(
            f"the server at {client.address} does not identify itself as Elasticsearch",
            code="elasticsearch.not_elasticsearch",
            hint=f"check 'connection.url', and that no proxy removes the header {_PRODUCT}",
        )
    return number


def _speak_the_newest(client: ElasticsearchClient, number: str) -> None:
    """Request the compatibility mode of the newest supported version. Raise InfrastructureError when it is refused."""
    client.compatible_with = client.compatible_with or str(NEWEST)
    answer = client.request("GET", "/")
    if answer.status in (400, 406, 415):
        raise InfrastructureError(
            f"Elasticsearch {number} is newer than this headrace, which supports 7 to {NEWEST}, and it has no "
            f"compatibility mode for version {client.compatible_with}",
            code="elasticsearch.too_new",
            hint="install a newer headrace",
        )


def find_obstacles(
    client: ElasticsearchClient, resources: Iterable[str], *, streams: bool = False, pipeline: str = ""
) -> Iterator[Finding]:
    """Yield everything that would prevent writing, as far as the user may see it."""
    try:
        require_elasticsearch(client, streams=streams)
        for resource in resources:
            if client.request("HEAD", f"/{quote(resource, safe='')}").status == 404:
                text = f"index or alias '{resource}' does not exist"
                name = "topic.to.external.resource.mapping"
                yield Finding(
                    "elasticsearch.index_missing",
                    text,
                    name,
                    "create it; with 'external.resource.usage' headrace writes to existing ones only",
                )
        if pipeline and client.request("GET", f"/_ingest/pipeline/{quote(pipeline, safe='')}").status == 404:
            text = f"there is no ingest pipeline '{pipeline}'"
            yield Finding("elasticsearch.pipeline_missing", text, "ingest.pipeline", "create it")
        yield from _full_disks(client)
    except HeadraceError as error:
        key = "connection.password" if error.code == "elasticsearch.unauthorized" else "connection.url"
        yield error.finding(key)


def _full_disks(client: ElasticsearchClient) -> Iterator[Finding]:
    path = "/_all/_settings/index.blocks.read_only_allow_delete?flat_settings=true"
    answer = client.request("GET", path)
    content = answer.json() if answer.status == 200 else None  # the user may not read it: writing will report it
    if isinstance(content, dict) and content:
        names = sorted(content)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield Finding(
            "elasticsearch.disk_full",
            f"indices are read-only because Elasticsearch's disks are full: {shown}",
            "connection.url",
            "free disk space on the Elasticsearch nodes",
            severity="warning",
        )
