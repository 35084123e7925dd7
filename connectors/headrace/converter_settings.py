"""Configuration keys of a worker that choose the converters of its connectors."""

from __future__ import annotations

from headrace.config import ConfigModel, key, prefix_key


class WorkerConverterSettings(ConfigModel):
    """Part of the keys of a worker. A connector that names a converter of its own uses none of the settings here."""

    key_converter: str = key("key.converter", default="JsonConverter", doc="Converter of keys.", importance="high")
    value_converter: str = key(
        "value.converter", default="JsonConverter", doc="Converter of values.", importance="high"
    )
    key_converter_settings: dict[str, str] = prefix_key("key.converter.", doc="Settings of the key converter.")
    value_converter_settings: dict[str, str] = prefix_key("value.converter.", doc="Settings of the value converter.")
    header_converter: str = key(
        "header.converter",
        default="SimpleHeaderConverter",
        doc="Converter of header values, which transforms write by it. A sink gets header values as texts.",
    )
    header_converter_settings: dict[str, str] = prefix_key("header.converter.", doc="Settings of the header converter.")
