"""F5, F6: a value that Elasticsearch would store and strict parsers cannot read is refused before it is sent."""

import codecs
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import DataError, JsonForm, JsonValues, SinkBatch, TopicPartition
from headrace_sinks.elasticsearch.bulk.line_encoder import BulkLineEncoder
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.documents.document_encoder import encoder
from headrace_sinks.elasticsearch.documents.json_text import require_strict_json
from headrace_sinks.elasticsearch.verification.index_scan import digest

FORM = JsonForm(False, lambda *_: [], lambda *_: [])
PLAIN = b'{"s":"plain"}'
INVALID = {
    "overlong NUL": b'{"s":"\xc0\x80"}',
    "overlong slash": b'{"s":"\xc0\xaf"}',
    "three overlong bytes": b'{"s":"\xe0\x80\xaf"}',
    "CESU-8 emoji": b'{"s":"\xed\xa0\xbd\xed\xb8\x80"}',
    "a lone surrogate in bytes": b'{"s":"\xed\xa0\xbd"}',
    "a lone byte": b'{"s":"\xff"}',
    "a truncated sequence": b'{"s":"\xe6\x97"}',
    "above U+10FFFF": b'{"s":"\xf4\x90\x80\x80"}',
    "a lone high surrogate": b'{"s":"cut \\ud83d"}',
    "a lone low surrogate": b'{"s":"\\uDE00 cut"}',
    "surrogates in the wrong order": b'{"s":"\\ude00\\ud83d"}',
    "a comment": b'{"s":1/* one */}',
    "a line comment": b'{"s":1// one\n}',
    "a byte order mark": codecs.BOM_UTF8 + PLAIN,
    "UTF-16": '{"s":"wide"}'.encode("utf-16-le"),
}
VALID = {
    "an escaped pair": b'{"s":"\\ud83d\\ude00"}',
    "an escaped backslash": b'{"s":"\\\\ud83d"}',
    "an address": b'{"s":"https://example.org/*"}',
    "other alphabets": '{"s":"äöü 日本 😀"}'.encode(),
    "a byte order mark in a text": '{"s":"\ufeff"}'.encode(),
    "many digits": b'{"n":123456789012345678901234567890.10}',
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_f5_f6_an_unreadable_text_is_refused(text: bytes) -> None:
    with pytest.raises(DataError) as raised:
        require_strict_json([PLAIN, text, PLAIN])

    assert raised.value.code == "elasticsearch.not_json"


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_f5_f6_a_readable_text_passes_unchanged(text: bytes) -> None:
    assert encoder(None)(JsonValues([PLAIN, text], None, FORM)) == [PLAIN, text]


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_f5_only_the_unreadable_record_of_a_batch_is_refused(text: bytes) -> None:
    lines = BulkLineEncoder(ElasticsearchSinkConfig.parse({"connection.url": "http://localhost:9200"})).encode(
        SinkBatch(
            TopicPartition("orders", 0), "orders", [5, 6, 7], ["a", "b", "c"],
            JsonValues([PLAIN, text, PLAIN], None, FORM), [0] * 3, [()] * 3,
        ),
        "orders", 0, 3,
    )  # fmt: skip

    assert lines.offsets == [5, 7]
    assert [(offset, error.code) for offset, error in lines.refused] == [(6, "elasticsearch.not_json")]


@given(st.lists(st.binary(max_size=6), max_size=4))
def test_f5_accepted_texts_are_valid_utf_8(parts: list[bytes]) -> None:
    texts = [b'{"s":"%b"}' % part.replace(b"\n", b"") for part in parts]
    try:
        require_strict_json(texts)
    except DataError:
        return
    for text in texts:
        text.decode()


@given(st.text(st.characters(exclude_categories=()), max_size=5), st.booleans())
def test_f6_json_written_by_python_is_accepted_without_lone_surrogates(text: str, escaped: bool) -> None:
    document = json.dumps({"s": text}, ensure_ascii=escaped).encode(errors="surrogatepass")
    try:
        orjson.loads(document)
        readable = True
    except orjson.JSONDecodeError:
        readable = False
    try:
        require_strict_json([document])
        passed = True
    except DataError:
        passed = False
    assert passed == readable


def test_f6_a_document_with_a_lone_surrogate_has_a_digest() -> None:
    damaged: Any = {"s": "cut \ud83d", "a": 1}

    assert digest(damaged) == digest(dict(reversed(damaged.items())))
    assert digest(damaged) != digest({"s": "cut ", "a": 1})
