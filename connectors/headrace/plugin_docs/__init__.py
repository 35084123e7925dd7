"""Documentation of configuration keys, generated from their models: Markdown, JSON Schema, REST responses."""

from headrace.plugin_docs.json_schema import connector_schema, json_schema, worker_schema
from headrace.plugin_docs.key_facts import definitions_of, facts_of
from headrace.plugin_docs.markdown_pages import (
    connector_keys_page,
    converter_keys_page,
    markdown,
    transform_keys_page,
    type_text,
    worker_page,
)
from headrace.plugin_docs.rest_definitions import config_definitions, rest_definitions, validation_response

__all__ = [
    "config_definitions",
    "connector_keys_page",
    "connector_schema",
    "converter_keys_page",
    "definitions_of",
    "facts_of",
    "json_schema",
    "markdown",
    "rest_definitions",
    "transform_keys_page",
    "type_text",
    "validation_response",
    "worker_page",
    "worker_schema",
]
