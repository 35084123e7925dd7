"""Reads configuration files of any format into flat properties, each with its location.

Nested maps become dotted keys (``errors: {tolerance: all}`` → ``errors.tolerance``), lists become comma lists, and
scalars are the text as written: YAML's ``no``, ``1e3`` and dates are not interpreted. A null (``key:`` without a
value) is an error, as in Kafka Connect; an empty text is written ``''``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.errors import ConfigError, Finding, Location
from headrace.file_formats import PARSERS, Entries, Items, Node, Scalar


@dataclass(frozen=True)
class ConfigFile:
    """A parsed file. ``positions`` has the location of every key in ``properties``."""

    path: str
    properties: dict[str, str]
    positions: dict[str, Location]
    findings: tuple[Finding, ...] = ()
    """Problems of single keys: given twice, without a value, an item that is not a text."""
    texts: dict[str, Location] = field(default_factory=dict)
    """The first character of values whose lines are lines of the file: for findings about a place within a text."""

    def location_of(self, key: str) -> str:
        """Return the location of the key, such as ``orders.yaml:7:3``; the file's name when it is missing."""
        return str(self.positions.get(key, self.path))

    @property
    def is_connector(self) -> bool:
        """Whether it is a connector's file; any other is a worker's."""
        return "connector.class" in self.properties


def read_config_file(path: Path) -> ConfigFile:
    """Read a file as :func:`parse_config_file`. Raises ConfigError with all findings."""
    file = parse_config_file(path)
    if file.findings:
        raise ConfigError(findings=file.findings)
    return file


def parse_config_file(path: Path) -> ConfigFile:
    """Read YAML, JSON or ``.properties``, by the file's extension. Raises ConfigError when nothing can be read.

    JSON may have the form of ``POST /connectors``: ``{"name": …, "config": {…}}``.
    """
    file = str(path)
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        text = f"{file}: unknown file extension"
        raise _unreadable(file, text, f"use one of {', '.join(PARSERS)}")
    root = parser(_text(path), file)
    if not isinstance(root, Entries):
        text = "a configuration is a map of keys and values" if not _is_empty(root) else "the file is empty"
        raise ConfigError(findings=[Finding("config.syntax", text, hint="write key: value", location=root.location)])
    reader = _PropertiesReader()
    reader.read(_config_of_request(root, reader) if path.suffix.lower() == ".json" else root)
    return ConfigFile(file, reader.properties, reader.positions, tuple(reader.findings), reader.texts)


def position_of(key: str, positions: Mapping[str, Location]) -> Location | None:
    """Return the location of a key, and of a map that of its first key. None: it is not written."""
    if key in positions:
        return positions[key]
    within = (place for name, place in positions.items() if name.startswith(f"{key}."))
    return min(within, key=lambda place: (place.line, place.column), default=None)


class _PropertiesReader:
    """Collects properties and findings."""

    def __init__(self) -> None:
        self.properties: dict[str, str] = {}
        self.positions: dict[str, Location] = {}
        self.findings: list[Finding] = []
        self.texts: dict[str, Location] = {}

    def read(self, root: Entries) -> None:
        for key, place, node in _flat(root):
            text = self._text(key, node)
            if key in self.positions:
                earlier = self.positions[key]
                message = f"'{key}' is given twice, first at {earlier}"
                self.report("config.duplicate_key", message, key, place, "keep one of the two")
            elif text is not None:
                self.properties[key] = text
                if isinstance(node, Scalar) and node.first is not None:
                    self.texts[key] = node.first
            self.positions.setdefault(key, place)

    def report(self, code: str, message: str, key: str, place: Location, hint: str) -> None:
        self.findings.append(Finding(code, message, key, hint, place))

    def _text(self, key: str, node: Node) -> str | None:
        if isinstance(node, Items):
            texts = [self._item(key, item) for item in node.nodes]
            return ",".join(text for text in texts if text is not None)
        assert isinstance(node, Scalar)  # maps are flat by now
        if node.text is None:
            hint = "write '' for an empty value, or remove the key"
            self.report("config.invalid_value", f"'{key}' has no value", key, node.location, hint)
        return node.text

    def _item(self, key: str, node: Node) -> str | None:
        if not isinstance(node, Scalar) or node.text is None:
            message, hint = (
                f"an item of the list '{key}' is not a text or number",
                "write texts and numbers only",
            )
        elif "," in node.text:
            message = f"an item of the list '{key}' contains a comma, which separates items"
            hint = "write two items; an item cannot contain a comma"
        elif not node.text.strip():
            message, hint = f"an item of the list '{key}' is empty", "remove the item"
        else:
            return node.text
        self.report("config.invalid_value", message, key, node.location, hint)
        return None


def _flat(node: Entries, prefix: str = "") -> Iterator[tuple[str, Location, Node]]:
    for key, place, value in node.entries:
        if isinstance(value, Entries):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, place, value


def _config_of_request(root: Entries, reader: _PropertiesReader) -> Entries:
    """Return the ``config`` of a body of ``POST /connectors``, including its name; other maps unchanged."""
    config = next((value for key, _, value in root.entries if key == "config"), None)
    if not isinstance(config, Entries):
        return root
    entries = list(config.entries)
    inner = next((value for key, _, value in entries if key == "name"), None)
    for key, place, value in root.entries:
        if key == "name" and inner is None:
            entries.insert(0, (key, place, value))
        elif key == "name" and isinstance(value, Scalar) and isinstance(inner, Scalar) and value.text != inner.text:
            message = f"the connector's name is '{value.text}' here, but '{inner.text}' in its config"
            reader.report("config.conflict", message, "name", place, "use the same name, or remove one of the two")
        elif key == "initial_state":
            message = "a file cannot set the initial state"
            hint = "remove it and use `headrace connectors stop NAME`, or send the file with POST /connectors"
            reader.report("config.unknown_key", message, key, place, hint)
        elif key not in ("name", "config"):
            message = f"unknown key '{key}' next to 'config'"
            reader.report("config.unknown_key", message, key, place, "move it into 'config'")
    return Entries(tuple(entries), config.location)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8"
        raise _unreadable(str(path), f"{path}: byte {error.start + 1} is not UTF-8", hint) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _unreadable(
            str(path), f"{path} cannot be read: {reason}", "check the path and its permissions"
        ) from error


def _unreadable(file: str, text: str, hint: str) -> ConfigError:
    return ConfigError(findings=[Finding("config.file", text, hint=hint, location=Location(file, 1))])


def _is_empty(root: Node) -> bool:
    return isinstance(root, Scalar) and root.text is None
