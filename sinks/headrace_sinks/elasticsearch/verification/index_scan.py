"""Reads whole indices or single documents as names with versions and digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from headrace import RetriableError, StoredEntry, TaskError
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, path

_PAGE = 1_000
_KEEP = "2m"
_SEPARATOR = b"/"  # not allowed in index names


class IndexScan:
    """Searches for verification. Methods raise RetriableError, InfrastructureError, TaskError."""

    def __init__(self, catalog: IndexCatalog) -> None:
        self._catalog = catalog

    def entries(self, index: str, title: str) -> Iterator[Sequence[StoredEntry]]:
        """Yield pages of all documents of a snapshot, named ``title/id``; nothing when the index does not exist."""
        if not self._catalog.exists(index):
            return
        self._refresh(index)
        place = f"{path(index)}/_pit?keep_alive={_KEEP}"
        pit = self._catalog.request("POST", place, f"index '{index}' cannot be read")["id"]
        after: list[Any] | None = None
        try:
            while True:
                query: dict[str, Any] = {"pit": {"id": pit, "keep_alive": _KEEP}, "sort": ["_shard_doc"]}
                if after is not None:
                    query["search_after"] = after
                answer = self._search("/_search", query, index)
                hits = answer["hits"]["hits"]
                pit = answer.get("pit_id", pit)
                if not hits:
                    return
                yield [entry_of(title, hit) for hit in hits]
                after = hits[-1]["sort"]
        finally:
            self._catalog.request("DELETE", "/_pit", "a search cannot be closed", {"id": pit})

    def hits(
        self, index: str, idents: Sequence[str], loads: Callable[[bytes], Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the search hits of some ids. ``loads``: parses responses, by default with rounded numbers."""
        if not idents or not self._catalog.exists(index):
            return
        self._refresh(index)
        for start in range(0, len(idents), _PAGE):
            query = {"query": {"ids": {"values": list(idents[start : start + _PAGE])}}}
            yield from self._search(f"{path(index)}/_search", query, index, loads)["hits"]["hits"]

    def count(self, index: str) -> int:
        """Return the number of documents."""
        self._refresh(index)
        answer = self._catalog.request("GET", f"{path(index)}/_count", f"index '{index}' cannot be counted")
        return int(answer["count"])

    def _search(
        self, place: str, query: dict[str, Any], index: str, loads: Callable[[bytes], Any] | None = None
    ) -> dict[str, Any]:
        body = {"size": _PAGE, "version": True, "track_total_hits": False, **query}
        answer: dict[str, Any] | None = self._catalog.request(
            "POST", place, f"index '{index}' cannot be searched", body, loads=loads
        )
        if answer is None:
            raise TaskError(
                f"index '{index}' has documents that are not JSON, so Elasticsearch's response cannot be read",
                code="elasticsearch.unreadable_documents",
                hint='another program wrote them; find them by a search with "_source": false and delete them',
            )
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            raise RetriableError(f"a part of index '{index}' does not answer", code="elasticsearch.shards_failed")
        return answer

    def _refresh(self, index: str) -> None:
        self._catalog.request("POST", f"{path(index)}/_refresh", f"index '{index}' cannot be refreshed")


def entry_of(title: str, hit: Mapping[str, Any]) -> StoredEntry:
    """Return a search hit as entry."""
    return StoredEntry(full_name(title, hit["_id"]), hit.get("_version", -1), digest(hit.get("_source")))


def digest(document: Any) -> bytes:
    """Return a digest that is equal for equal JSON, regardless of field order and number spelling."""
    try:
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, which only documents of other writers have
        text = json.dumps(document, sort_keys=True).encode()
    return blake2b(text, digest_size=8).digest()


def full_name(index: str, ident: str) -> bytes:
    return index.encode() + _SEPARATOR + ident.encode()


def split_name(name: bytes) -> tuple[str, str]:
    """Return index and id."""
    index, _, ident = name.partition(_SEPARATOR)
    return index.decode(), ident.decode()
