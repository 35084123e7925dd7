"""StringConverter and ByteArrayConverter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import schema as s
from headrace.converters.byte_array import ByteArrayConverter
from headrace.converters.string import StringConverter
from headrace.errors import ConfigError, DataError
from headrace.plugin import Decoded


def texts(encoding: str | None = None) -> StringConverter:
    made = StringConverter()
    made.configure({"converter.encoding": encoding} if encoding else {}, is_key=True)
    return made


def arrays() -> ByteArrayConverter:
    made = ByteArrayConverter()
    made.configure({}, is_key=False)
    return made


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_are_read_back_unchanged(values: list[str | None]) -> None:
    runs = texts().from_bytes("t", texts().to_bytes("t", s.STRING, values))
    assert runs == ([Decoded(0, s.STRING.as_optional(), values)] if values else [])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, b"true"),
        (12, b"12"),
        ({"a": 1, "b": None}, b"{a=1, b=null}"),
        ([False, "x"], b"[false, x]"),
        ("é", "é".encode()),
    ],
)
def test_other_values_have_the_text_of_javas_tostring(value: Any, written: bytes) -> None:
    assert texts().to_bytes("t", None, [value]) == [written]


def test_the_configured_encoding_is_used() -> None:
    assert texts("ISO-8859-1").to_bytes("t", None, ["é"]) == [b"\xe9"]
    with pytest.raises(DataError, match="ISO-8859-1 cannot write"):
        texts("ISO-8859-1").to_bytes("t", None, ["€"])


def test_bytes_in_another_encoding_are_refused() -> None:
    with pytest.raises(DataError, match="not readable as UTF-8"):
        texts().from_bytes("t", [b"\xff"])
    with pytest.raises(DataError, match="no text form"):
        texts().to_bytes("t", None, [b"x"])


def test_an_unknown_encoding_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"converter\.encoding"):
        texts("UTF-99")


@given(st.lists(st.none() | st.binary()))
def test_bytes_pass_through(values: list[bytes | None]) -> None:
    assert arrays().to_bytes("t", s.BYTES, values) == values
    assert arrays().from_bytes("t", values) == ([Decoded(0, s.BYTES.as_optional(), values)] if values else [])


def test_values_other_than_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="STRING"):
        arrays().to_bytes("t", s.STRING, ["x"])
    with pytest.raises(DataError, match="not compatible with str"):
        arrays().to_bytes("t", None, ["x"])
    with pytest.raises(ConfigError, match="unknown configuration key"):
        ByteArrayConverter().configure({"schema.enable": "true"}, is_key=False)
