"""What the models say of their keys, drawn for people (pages), editors (JSON Schema) and tools (REST answers)."""

from headrace.plugin_docs.answers import config_answer, definitions_answer, validate_answer
from headrace.plugin_docs.facts import definitions_of, facts_of
from headrace.plugin_docs.json_schema import connector_schema, json_schema, worker_schema
from headrace.plugin_docs.pages import connector_keys_page, markdown, type_text, worker_page

__all__ = [
    "config_answer",
    "connector_keys_page",
    "connector_schema",
    "definitions_answer",
    "definitions_of",
    "facts_of",
    "json_schema",
    "markdown",
    "type_text",
    "validate_answer",
    "worker_page",
    "worker_schema",
]
