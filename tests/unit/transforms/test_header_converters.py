"""Header converters answer as those of Kafka Connect 4.4; docs/transforms.md lists the differences."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace import BatchHeaders, Converter, DataError, Type
from headrace.registry import PluginKind, Registry
from headrace_transforms.java_numbers import single
from tests.golden.connect_transforms.cases import HeaderCase, compared_header, header_cases

REGISTRY = Registry()
CASES = list(header_cases())

# The differences, which docs/transforms.md lists.
REFUSED = {
    "JsonConverter-21": "NaN",
    "JsonConverter-22": "Infinity",
    "JsonConverter-60": "NaN",
    "JsonConverter-61": "Infinity",
    "StringConverter-25": "bytes have no text form",
    "StringConverter-46": "bytes that are no UTF-8",
}
CHANGED = {
    "JsonConverter-1": None,
    "JsonConverter-40": None,
    "JsonConverter-89": (None, "real 1e+20"),
    "SimpleHeaderConverter-48": (
        {"type": "int32", "name": "org.apache.kafka.connect.data.Time", "version": 1},
        "moment 0",
    ),
    "StringConverter-17": b"0.10000000149011612",
    "StringConverter-19": b"10000000.0",
    "StringConverter-20": b"1e-05",
    "StringConverter-21": b"nan",
    "StringConverter-22": b"inf",
    "StringConverter-26": b"2024-02-29",
    "StringConverter-27": b"12:30:00.123000",
    "StringConverter-28": b"2023-11-14 22:13:20.123000+00:00",
    "StringConverter-29": b"1970-01-01 00:00:00+00:00",
    "StringConverter-36": b"{a=1, b=x}",
    "StringConverter-37": b"{a=1}",
}
"""A null is null in JSON, too; 24:00 is no time of Python; StringConverter writes the texts of Python's values."""


def expected_answer(case: HeaderCase) -> Any:
    if case.id in REFUSED:
        return "refused"
    return _equal_json(case, CHANGED.get(case.id, case.answer))


def _equal_json(case: HeaderCase, answer: Any) -> Any:
    """Return an answer of JsonConverter in a form that does not depend on how numbers are written."""
    if not case.converter.endswith(".JsonConverter") or case.reads or not isinstance(answer, bytes):
        return answer
    document = json.loads(answer)
    if case.schema is None or case.schema.type is not Type.FLOAT32:
        return document
    return document | {"payload": single(document["payload"])} if isinstance(document, dict) else single(document)


def answer_of(case: HeaderCase) -> Any:
    converter: Converter = REGISTRY.find(PluginKind.HEADER_CONVERTER, case.converter).cls()
    converter.configure(case.config, is_key=False)
    try:
        if not case.reads:
            return converter.to_bytes("t", case.schema, [case.value], BatchHeaders(None, 1))[0]
        (run,) = converter.from_bytes("t", [case.data], [()])
    except DataError:
        return "refused"
    return compared_header(run.schema, run.values[0])


@pytest.mark.parametrize("converter", sorted({case.converter for case in CASES}))
def test_header_converters_answer_as_those_of_kafka_connect(converter: str) -> None:
    different = {
        case.id: (answer, case)
        for case in CASES
        if case.converter == converter and _equal_json(case, answer := answer_of(case)) != expected_answer(case)
    }

    assert different == {}
