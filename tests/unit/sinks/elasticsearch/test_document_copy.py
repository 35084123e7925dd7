"""operations 10: documents without records are copied with the text of their numbers, and with the lowest version."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from elastic_transport import HttpHeaders
from hypothesis import given
from hypothesis import strategies as st

from headrace_sinks.elasticsearch.cluster.client import ElasticsearchResponse
from headrace_sinks.elasticsearch.rebuild.document_copy import copy_documents


class Cluster:
    """Answers searches with one document, whose parts are texts of JSON, and records bulk lines."""

    read_timeout = 10.0

    def __init__(self, source: bytes | None, version: int = 7) -> None:
        self._hit = b'{"_id":"a","_version":%d,"_routing":"r"%b}' % (
            version,
            b"" if source is None else b',"_source":' + source,
        )
        self.lines: list[bytes] = []

    def hits(
        self, index: str, idents: Sequence[str], loads: Callable[[bytes], Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        assert (index, idents, loads is not None) == ("old", ["a"], True)
        assert loads is not None
        yield loads(self._hit)

    def request(self, method: str, path: str, body: bytes, media_type: str) -> ElasticsearchResponse:
        self.lines += body.splitlines()
        return ElasticsearchResponse(200, HttpHeaders(), b'{"errors":false,"items":[{"index":{"status":201}}]}')

    def copied(self, *, keep_version: bool = False) -> list[str]:
        """Copy, and return the codes of errors."""
        stub: Any = self
        return [item.code for item in copy_documents(stub, stub, ["a"], "old", "new", keep_version=keep_version)]


numbers = st.one_of(
    st.integers().map(str),
    st.just("9" * 5_000),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: f"{number:f}"),
    st.from_regex(r"-?(0|[1-9][0-9]{0,40})\.[0-9]{1,40}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@given(numbers.filter(lambda text: text != "-0"))
def test_the_digits_of_numbers_are_kept(text: str) -> None:
    cluster = Cluster(b'{"n":[' + text.encode() + b"]}")

    assert cluster.copied() == []
    assert cluster.lines[1].decode() == f'{{"n":[{text}]}}'


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_are_kept(text: str) -> None:
    cluster = Cluster(json.dumps({text: text}).encode())

    assert cluster.copied() == []
    assert json.loads(cluster.lines[1]) == {text: text}


@pytest.mark.parametrize(("keep", "version"), [(False, 0), (True, 1_700_000_000_000_000_000)])
def test_the_version_is_the_lowest_unless_versions_are_not_offsets(keep: bool, version: int) -> None:
    cluster = Cluster(b"{}", 1_700_000_000_000_000_000)

    assert cluster.copied(keep_version=keep) == []
    expected = {"_index": "new", "_id": "a", "routing": "r", "version": version, "version_type": "external"}
    assert json.loads(cluster.lines[0]) == {"index": expected}


@pytest.mark.parametrize("source", [None, b'{"s":"\xc0\x80"}', b'{"s":"cut \\ud83d"}'])
def test_a_document_that_cannot_be_copied_is_named(source: bytes | None) -> None:
    assert Cluster(source).copied() == ["elasticsearch.not_json"]
