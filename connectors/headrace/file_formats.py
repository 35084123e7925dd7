"""Parses YAML, JSON and ``.properties`` into one tree of nodes with their locations."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import javaproperties
import yaml

from headrace.errors import ConfigError, Finding, Location


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it is written: ``no``, ``1e3`` and dates stay text. ``text`` is None for null."""

    text: str | None
    location: Location
    first: Location | None = None
    """The first character of the text, when line and column within the text are line and column from there."""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    nodes: tuple[Node, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class Entries:
    """A map: key, location of the key, value. Keys may repeat; the caller reports that."""

    entries: tuple[tuple[str, Location, Node], ...]
    location: Location


Node = Scalar | Items | Entries
Parser = Callable[[str, str], Node]
"""``parser(text, file)``. Raises ConfigError ``config.syntax``."""


def syntax_error(location: Location, problem: str, hint: str = "") -> ConfigError:
    """Return the error that parsers raise."""
    return ConfigError(findings=[Finding("config.syntax", problem, hint=hint, location=location)])


def parse_yaml(text: str, file: str) -> Node:
    """One YAML document. Anchors and ``<<`` merges are followed; scalars are not interpreted."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file, 1)
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise syntax_error(place, f"not readable as YAML: {problem}", _yaml_hint(problem)) from error
    except yaml.YAMLError as error:  # the reader's: a character that YAML does not allow
        problem = str(error).splitlines()[0]
        raise syntax_error(Location(file, 1), f"not readable as YAML: {problem}", "save the file as UTF-8") from error
    if root is None:
        return Scalar(None, Location(file, 1))
    return _YamlTree(file, text).node(root)


_TAG = "tag:yaml.org,2002:"


class _YamlTree:
    """Converts nodes of PyYAML."""

    # Aliases can make a small text a huge tree ("billion laughs"); no configuration is near this.
    LIMIT = 20_000
    TAGS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map"})

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._open: set[int] = set()
        self._made = 0

    def node(self, node: yaml.Node) -> Node:
        place = self._place(node)
        if id(node) in self._open:
            raise syntax_error(place, "an alias is inside its own anchor", "write the values out")
        self._made += 1
        if self._made > self.LIMIT:
            raise syntax_error(place, f"more than {self.LIMIT} values", "use fewer aliases")
        if node.tag.removeprefix(_TAG) not in self.TAGS:
            raise syntax_error(place, f"the tag {node.tag} is not supported", "remove the tag")
        if isinstance(node, yaml.ScalarNode):
            text = None if node.tag == f"{_TAG}null" and not node.style else node.value
            return Scalar(text, place, self._first(node, place))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return Items(tuple(self.node(item) for item in node.value), place)
            assert isinstance(node, yaml.MappingNode)
            return Entries(tuple(self._entries(node)), place)
        finally:
            self._open.discard(id(node))

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[str, Location, Node]]:
        merged: dict[str, tuple[str, Location, Node]] = {}
        explicit = set()
        for key, value in node.value:
            place = self._place(key)
            if key.tag == f"{_TAG}merge":
                for entry in self._merged(value):
                    merged.setdefault(entry[0], entry)  # of several merged maps the first wins
            elif not isinstance(key, yaml.ScalarNode) or not key.value:
                raise syntax_error(place, "a key must be a text", "write the key in quotes")
            else:
                explicit.add(key.value)
                yield key.value, place, self.node(value)
        yield from (entry for name, entry in merged.items() if name not in explicit)

    def _merged(self, node: yaml.Node) -> Iterator[tuple[str, Location, Node]]:
        tree = self.node(node)
        for item in tree.nodes if isinstance(tree, Items) else (tree,):
            if not isinstance(item, Entries):
                raise syntax_error(item.location, "'<<' takes a map or a list of maps", "write an alias: *name")
            yield from item.entries

    def _first(self, node: yaml.ScalarNode, place: Location) -> Location | None:
        """Return the location of the first character of a literal block (``|``) or of a text in one line."""
        if node.style == "|":
            # Blanks around a value do not belong to it, see ConfigModel.
            number, line = next(
                ((n, line) for n, line in enumerate(self._lines[place.line :], 1) if line.strip()), (0, "")
            )
            text = next((text for text in node.value.split("\n") if text.strip()), " ")
            if text.startswith(" ") or not line.endswith(text):
                return None  # an indentation that is given explicitly
            return Location(self._file, place.line + number, len(line) - len(text) + 1)
        if node.style == ">" or node.end_mark.line != node.start_mark.line:
            return None
        return Location(self._file, place.line, place.column + (1 if node.style else 0))

    def _place(self, node: yaml.Node) -> Location:
        return Location(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


def _yaml_hint(problem: str) -> str:
    if "found a tab character" in problem:
        return "indent with spaces, not tabs"
    if "cannot start any token" in problem:
        return "indent with spaces, not tabs; put texts that begin with @, ` or % in quotes"
    if "mapping values are not allowed" in problem:
        return "put a text that contains ': ' in quotes"
    return ""


def parse_json(text: str, file: str) -> Node:
    """One JSON value."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        place = Location(file, error.lineno, error.colno)
        raise syntax_error(place, f"not readable as JSON: {error.msg}") from error
    except RecursionError as error:
        raise syntax_error(Location(file, 1), "not readable as JSON: nested too deeply") from error
    return _JsonTree(text, file).value(0)[0]


class _JsonTree:
    """Second pass over a text that is valid JSON: makes nodes with locations."""

    DECODER = json.JSONDecoder()
    BLANKS = re.compile(r"[ \t\r\n]*")
    WORD = re.compile(r"[^\s,\]}]+")

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def value(self, start: int) -> tuple[Node, int]:
        """Return the node at ``start`` (after whitespace), and its end."""
        at = self._skip(start)
        place = self._place(at)
        match self._text[at]:
            case "{":
                return self._object(at + 1, place)
            case "[":
                return self._array(at + 1, place)
            case '"':
                text, end = self._string(at)
                return Scalar(text, place), end
        end = self.WORD.match(self._text, at).end()  # type: ignore[union-attr] # valid JSON has a word here
        word = self._text[at:end]
        return Scalar(None if word == "null" else word, place), end

    def _object(self, at: int, place: Location) -> tuple[Entries, int]:
        entries = []
        at = self._skip(at)
        while self._text[at] != "}":
            key_place = self._place(at)
            key, at = self._string(at)
            node, at = self.value(self._skip(at) + 1)  # past the colon
            entries.append((key, key_place, node))
            at = self._next(at)
        return Entries(tuple(entries), place), at + 1

    def _array(self, at: int, place: Location) -> tuple[Items, int]:
        nodes = []
        at = self._skip(at)
        while self._text[at] != "]":
            node, at = self.value(at)
            nodes.append(node)
            at = self._next(at)
        return Items(tuple(nodes), place), at + 1

    def _string(self, at: int) -> tuple[str, int]:
        text: str
        text, end = self.DECODER.raw_decode(self._text, at)
        return text, end

    def _next(self, at: int) -> int:
        at = self._skip(at)
        return self._skip(at + 1) if self._text[at] == "," else at

    def _skip(self, at: int) -> int:
        return self.BLANKS.match(self._text, at).end()  # type: ignore[union-attr] # matches nothing, too

    def _place(self, at: int) -> Location:
        line = bisect_right(self._lines, at)
        return Location(self._file, line, at - self._lines[line - 1] + 1)


def parse_properties(text: str, file: str) -> Entries:
    """Java's format (``java.util.Properties.load``): comments, continued lines, escapes. Read as UTF-8."""
    entries: list[tuple[str, Location, Node]] = []
    elements = iter(javaproperties.parse(text))
    line = 1
    while True:
        try:
            element = next(elements, None)
        except javaproperties.InvalidUEscapeError as error:
            place = Location(file, line)
            hint = r"write four hexadecimal digits after \u, or \\u for a literal \u"
            raise syntax_error(place, r"malformed \uxxxx escape", hint) from error
        if element is None:
            return Entries(tuple(entries), Location(file, 1))
        if isinstance(element, javaproperties.KeyValue):
            indentation = len(element.source) - len(element.source.lstrip(" \t\f"))
            place = Location(file, line, indentation + 1)
            value = Scalar(_without_lone_surrogates(element.value, place), place)
            entries.append((_without_lone_surrogates(element.key, place), place, value))
        line += len(_LINE_END.findall(element.source))


_LINE_END = re.compile(r"\r\n|\r|\n")


def _without_lone_surrogates(text: str, place: Location) -> str:
    """Return the text. Raises ConfigError when it cannot be written as UTF-8, as Kafka and databases expect it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise syntax_error(place, r"incomplete surrogate pair: \ud800 to \udfff are used in pairs") from error
    return text


PARSERS: dict[str, Parser] = {
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".json": parse_json,
    ".properties": parse_properties,
}
