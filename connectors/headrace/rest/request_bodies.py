"""Parses request bodies: configurations, offsets, and the body that creates a connector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.records import SourceOffset, SourcePartition
from headrace.rest.handlers import bad_request, json_type
from headrace.rest.limits import MOST_CONFIG_KEYS
from headrace.states import TargetState

INITIAL_STATES = {"RUNNING": TargetState.STARTED, "PAUSED": TargetState.PAUSED, "STOPPED": TargetState.STOPPED}
"""The values of ``initial_state`` (KIP-980)."""


NULL = "Null value can not be supplied as the configuration value."


class CreateConnectorRequest(NamedTuple):
    """The body of ``POST /connectors``."""

    name: str
    config: dict[str, str]
    initial_state: TargetState


def creation(body: Mapping[str, Any]) -> CreateConnectorRequest:
    """Connect's CreateConnectorRequest. Raises CommandError or ConfigError (both 400)."""
    known = ("name", "config", "initial_state")
    for field in body:
        if field not in known:
            raise bad_request(f'Unrecognized field "{field}"', nearest(field, known) or f"known: {', '.join(known)}")
    name = body.get("name")
    if not isinstance(name, str | None):
        raise bad_request(f"'name' must be a string, not {json_type(name)}")
    name = (name or "").strip()
    config = body.get("config")
    if not isinstance(config, dict):
        raise bad_request(f"'config' must be an object of keys and values, not {json_type(config)}")
    return CreateConnectorRequest(name, named(config_map(config), name), _initial_state(body.get("initial_state")))


def config_map(body: Mapping[str, Any]) -> dict[str, str]:
    """Return a configuration. Numbers and booleans are their text, as in Connect; a null is the same as no key."""
    return {key: value for key, value in config_changes(body).items() if value is not None}


def config_changes(body: Mapping[str, Any]) -> dict[str, str | None]:
    """Return changes to a configuration (KIP-477): as :func:`config_map`, but null deletes the key."""
    if len(body) > MOST_CONFIG_KEYS:
        raise bad_request(f"a configuration may have at most {MOST_CONFIG_KEYS} keys, and this one has {len(body)}")
    nested = [key for key, value in body.items() if isinstance(value, dict | list)]
    if nested:
        names = ", ".join(f"'{key}'" for key in nested)
        raise bad_request(
            f"values of a configuration are strings; {names} holds {json_type(body[nested[0]])}",
            "write lists as one string with commas between, and nested keys with dots",
        )
    return {key: _text(value) for key, value in body.items()}


def offset_changes(body: Mapping[str, Any]) -> list[tuple[SourcePartition, SourceOffset | None]]:
    """Parse the body of ``PATCH …/offsets`` (KIP-875). Of a partition that is given twice the last offset counts."""
    items = body.get("offsets")
    if not isinstance(items, list) or not items:
        raise bad_request(
            "Partitions / offsets need to be provided for an alter offsets request",
            'for example {"offsets": [{"partition": {…}, "offset": {…}}]}; GET returns the stored ones',
        )
    for number, item in enumerate(items):
        if not isinstance(item, dict) or set(item) != {"partition", "offset"}:
            raise bad_request(f"offsets[{number}] must be an object with exactly the fields 'partition' and 'offset'")
        if not _is_flat(item["partition"]):
            raise bad_request(f"the partition of offsets[{number}] must be an object of texts, numbers and booleans")
        if item["offset"] is not None and not _is_flat(item["offset"]):
            raise bad_request(f"the offset of offsets[{number}] must be null, or an object of texts, numbers, booleans")
    return [(item["partition"], item["offset"]) for item in items]


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values())


def named(config: dict[str, str], name: str) -> dict[str, str]:
    """Return ``config`` with its ``name``. Raises CommandError for another name, ConfigError for none."""
    included = config.get("name", name)
    if included != name:
        text = f"Connector name configuration ({included}) doesn't match connector name in the URL ({name})"
        raise bad_request(text, "remove 'name' from the configuration, or use the same name")
    if not name:
        text = 'Missing required configuration "name" which has no default value.'
        raise ConfigError(findings=[Finding("config.missing_key", text, "name", "give the connector a name")])
    return {**config, "name": name}


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _initial_state(word: Any) -> TargetState:
    if word is None:
        return TargetState.STARTED
    state = INITIAL_STATES.get(word.strip().upper()) if isinstance(word, str) else None
    if state is None:
        shown = f"'{word}'" if isinstance(word, str) else json_type(word)
        raise bad_request(f"initial_state is one of {', '.join(INITIAL_STATES)}, not {shown}")
    return state


def task_configs(body: bytes) -> list[dict[str, str]]:
    """Return the configurations of tasks that another worker sends. Raises CommandError."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise bad_request("the body is not JSON") from error
    valid = isinstance(value, list) and all(
        isinstance(item, dict) and all(isinstance(text, str) for text in item.values()) for item in value
    )
    if not valid:
        raise bad_request("the body must be a list of objects whose values are texts")
    return list(value)
