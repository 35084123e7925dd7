"""Converters of single numbers write what Kafka's serializers write, and refuse everything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Converter, DataError, Schema, Type
from headrace.registry import PluginKind, Registry

REGISTRY = Registry()
KINDS = {
    "Short": (Type.INT16, b"\xff\xfe", -2),
    "Integer": (Type.INT32, b"\x00\x00\x12\x67", 4711),
    "Long": (Type.INT64, b"\xff" * 7 + b"\xfe", -2),
    "Float": (Type.FLOAT32, b"\x3f\xc0\x00\x00", 1.5),
    "Double": (Type.FLOAT64, b"\x3f\xf8" + b"\x00" * 6, 1.5),
    "Boolean": (Type.BOOLEAN, b"\x01", True),
}


def converter(name: str) -> Converter:
    found = REGISTRY.find(PluginKind.CONVERTER, f"org.apache.kafka.connect.converters.{name}Converter")
    made: Converter = found.cls()
    made.configure({"schemas.enable": "false"}, is_key=True)
    return made


@pytest.mark.parametrize("name", KINDS)
def test_values_are_written_and_read_as_kafka_does(name: str) -> None:
    kind, text, value = KINDS[name]
    made = converter(name)
    assert made.to_bytes("t", Schema(kind), [value, None], ()) == [text, None]  # type: ignore[arg-type]
    (run,) = made.from_bytes("t", [text, None], ())
    assert (run.schema, run.values) == (Schema(kind, optional=True), [value, None])


@pytest.mark.parametrize("name", KINDS)
@given(text=st.binary(max_size=10))
def test_any_bytes_are_read_or_refused(name: str, text: bytes) -> None:
    try:
        (run,) = converter(name).from_bytes("t", [text], ())
    except DataError:
        assert len(text) != len(KINDS[name][1]) or name == "Boolean"
    else:
        assert run.values[0] is not None


@pytest.mark.parametrize(
    ("name", "schema", "value"),
    [
        ("Integer", None, 2**31),
        ("Short", None, "x"),
        ("Long", None, True),
        ("Long", Schema(Type.INT32), 1),
        ("Float", None, 1e300),
        ("Boolean", None, 1),
        ("Integer", None, 1.5),
    ],
)
def test_what_does_not_fit_is_refused(name: str, schema: Schema | None, value: Any) -> None:
    with pytest.raises(DataError):
        converter(name).to_bytes("t", schema, [value], ())  # type: ignore[arg-type]
