"""Mappings declared by the user: ``mapping.fields.*`` and ``mapping.file`` as a mapping body."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from headrace import ConfigError, Finding, nearest, read_small_file

TYPES = frozenset(
    [
        "aggregate_metric_double",
        "alias",
        "binary",
        "boolean",
        "byte",
        "completion",
        "constant_keyword",
        "date",
        "date_nanos",
        "date_range",
        "dense_vector",
        "double",
        "double_range",
        "flattened",
        "float",
        "float_range",
        "geo_point",
        "geo_shape",
        "half_float",
        "histogram",
        "integer",
        "integer_range",
        "ip",
        "ip_range",
        "join",
        "keyword",
        "long",
        "long_range",
        "match_only_text",
        "murmur3",
        "nested",
        "object",
        "passthrough",
        "percolator",
        "point",
        "rank_feature",
        "rank_features",
        "rank_vectors",
        "scaled_float",
        "search_as_you_type",
        "semantic_text",
        "shape",
        "short",
        "sparse_vector",
        "text",
        "token_count",
        "unsigned_long",
        "version",
        "wildcard",
    ]
)
"""https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/field-data-types"""
_FAMILY = "mapping.fields."
_MOST_NODES = 20_000
"""The limit of configuration files."""
_MAPPING_KEYS = frozenset(
    {
        "_data_stream_timestamp",
        "_field_names",
        "_meta",
        "_routing",
        "_size",
        "_source",
        "date_detection",
        "dynamic",
        "dynamic_date_formats",
        "dynamic_templates",
        "numeric_detection",
        "properties",
        "runtime",
        "subobjects",
    }
)
"""https://www.elastic.co/docs/manage-data/data-store/mapping"""


def declared_fields(fields: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``body`` with fields ``path → "type option=value …"`` added. Raise ConfigError with all findings."""
    findings: list[Finding] = []
    result: dict[str, Any] = orjson.loads(orjson.dumps(dict(body)))
    for path, text in sorted(fields.items(), key=lambda item: item[0].count(".")):
        try:
            _put(result, path, _definition(text))
        except ValueError as error:
            name = _FAMILY + path
            message = f"Invalid value {text} for configuration {name}: {error}"
            findings.append(
                Finding("config.invalid_value", message, name, "write for example scaled_float scaling_factor=100")
            )
    if findings:
        raise ConfigError(findings=findings)
    return result


def read_mapping_file(path: Path) -> dict[str, Any]:
    """Return the mapping of a YAML or JSON file, with or without an outer ``mappings:``. Raise ConfigError."""
    name = "mapping.file"
    lines = 1
    try:
        text = read_small_file(path)
        lines = len(text.splitlines())
        content = _loaded(text)
    except OSError as error:
        raise _unusable(name, path, error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise _unusable(name, path, "it is not UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {min(mark.line + 1, max(lines, 1))}: " if mark is not None else ""  # its end is a line further
        raise _unusable(name, path, f"{place}{getattr(error, 'problem', None) or 'it is not YAML'}") from error
    except ValueError as error:
        raise _unusable(name, path, str(error)) from error
    if isinstance(content, dict) and isinstance(content.get("mappings"), dict):
        content = content["mappings"]
    if not isinstance(content, dict) or not isinstance(content.get("properties", {}), dict):
        raise _unusable(name, path, "a mapping is a map with 'properties'")
    if unknown := sorted(str(key) for key in content if key not in _MAPPING_KEYS):
        # Not any file: what is no mapping must not be sent to the cluster.
        raise _unusable(name, path, f"'{unknown[0][:40]}' is no key of a mapping")
    try:
        body: dict[str, Any] = orjson.loads(orjson.dumps(content))
    except TypeError as error:
        raise _unusable(name, path, str(error)) from error
    faults = list(_faults(body.get("properties", {}), ""))
    if faults:
        raise ConfigError(
            findings=[
                Finding("config.invalid_value", f"Invalid value {path} for configuration {name}: {fault}", name)
                for fault in faults
            ]
        )
    return body


def _loaded(text: str) -> Any:
    """Return the content of a YAML text. Raise YAMLError, ValueError when it has too many nodes."""
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    if root is None:
        return None
    try:
        if _count(root, {}) > _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES} values, with its aliases written out")
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of nodes with all aliases written out: a small text can be a huge tree ("billion laughs")."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_NODES + 1  # an alias inside of its own anchor has no end
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def _definition(text: str) -> dict[str, Any]:
    """Parse ``scaled_float scaling_factor=100`` into a field definition. Raise ValueError."""
    try:
        kind, *options = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"a quote is not closed ({error})" if text.strip() else "it is empty") from error
    if kind not in TYPES:
        raise ValueError(f"Elasticsearch has no field type '{kind}'; {nearest(kind, TYPES) or 'see its documentation'}")
    definition: dict[str, Any] = {"type": kind}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise ValueError(f"'{option}' is not of the form name=value")
        *parents, last = name.split(".")
        inner = definition
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = _scalar(value)
    return definition


def _put(body: dict[str, Any], path: str, definition: dict[str, Any]) -> None:
    *parents, last = path.split(".")
    if not last or not all(parents):
        raise ValueError(f"'{path}' is not the path of a field")
    inner = body
    for parent in parents:
        inner = inner.setdefault("properties", {}).setdefault(parent, {})
        if inner.get("type", "object") not in ("object", "nested", "passthrough"):
            raise ValueError(f"'{parent}' is declared as {inner['type']}, which has no fields in it")
    properties = inner.setdefault("properties", {})
    if definition["type"] in ("object", "nested", "passthrough") and "properties" in properties.get(last, {}):
        definition = {**definition, "properties": properties[last]["properties"]}
    properties[last] = definition


def _scalar(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _faults(properties: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, definition in properties.items():
        path = f"{prefix}{name}"
        if not isinstance(definition, dict):
            yield f"field '{path}' has no definition, write {{type: keyword}}"
            continue
        kind = definition.get("type", "object")
        if kind not in TYPES:
            yield f"field '{path}': Elasticsearch has no field type '{kind}'; {nearest(str(kind), TYPES)}"
        inner = definition.get("properties", {})
        if isinstance(inner, dict):
            yield from _faults(inner, f"{path}.")


def _unusable(name: str, path: Path, why: str) -> ConfigError:
    text = f"Invalid value {path} for configuration {name}: {why}"
    return ConfigError(findings=[Finding("config.invalid_value", text, name, "name a YAML or JSON file")])
