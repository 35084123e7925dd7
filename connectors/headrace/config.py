"""Base of configuration models: each plugin's pydantic model is parser, validator, documentation and JSON Schema.

Keys are Kafka Connect's dotted names, values arrive as strings (:class:`ConfigModel` parses them). A plugin writes::

    class DatagenConfig(ConfigModel):
        topic: str = key("topic", doc="Where the records go.", importance="high")
        interval: Duration = key("interval.ms", default=1000, doc="Pause between two batches.")
        producer: dict[str, str] = prefix_key("producer.override.", doc="Settings of the producer.")

        def problems(self) -> Iterable[Finding]:   # rules over several keys
            ...

All problems are reported at once, with the messages of Kafka Connect.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError
from pydantic import Field as PydanticField
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from headrace.errors import ConfigError, Finding

Importance = Literal["high", "medium", "low"]
Secret = SecretStr
"""A value that is never printed. ``.get_secret_value()`` returns it."""

_LARGEST = 2**63 - 1
"""Of durations and sizes: a LONG of Kafka Connect."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_FRACTION = re.compile(r"[+-]?\d*\.\d*(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|kib|mib|gib)?", re.IGNORECASE)
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return _product(match[1], _MILLISECONDS[match[2] or "ms"])
    return value


def _size(value: object) -> object:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return _product(match[1], _BYTES[(match[2] or "b").lower()])
    return value


def _product(number: str, factor: int) -> int:
    """Return the number times the factor. Raise ValueError when no system could work with it."""
    product = int(number) * factor if number.isdigit() else float(number) * factor
    if product > _LARGEST:
        raise ValueError(f"Value must be no more than {_LARGEST}")
    return round(product)


def _interval_or_cron(value: str) -> str:
    if _duration(value) is not value or len(value.split()) == 5:
        return value
    raise ValueError("neither an interval (5000, 30s, 5m) nor a cron expression of five fields (0 3 * * *)")


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return [] if not value.strip() else [item.strip() for item in value.split(",")]
    return value


Duration = Annotated[int, BeforeValidator(_duration)]
"""Milliseconds. Written as a number of milliseconds or with a unit: ``500ms``, ``30s``, ``5m``."""
Size = Annotated[int, BeforeValidator(_size)]
"""Bytes. Written as a number or with a unit: ``512kb``, ``5mb``, ``1gib``."""
IntervalOrCron = Annotated[str, AfterValidator(_interval_or_cron)]
"""A schedule as ``SourceContext.schedule`` takes it: an interval like a Duration, or cron with five fields."""
CommaList = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
"""Connect's LIST: items between commas, whitespace around them is ignored, an empty text has no items."""
LOWER = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
UPPER = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


def key(
    name: str,
    *,
    doc: str,
    default: Any = PydanticUndefined,
    group: str = "",
    importance: Importance = "medium",
    file: bool = False,
    **constraints: Any,
) -> Any:
    """Declare a configuration key: dotted name, documentation, default (none = required).

    ``file``: the value is the path of a file or folder of the worker's machine.
    """
    return PydanticField(
        default,
        alias=name,
        description=doc,
        json_schema_extra={"group": group, "importance": importance, "file": file},
        validate_default=default is not PydanticUndefined,
        **constraints,
    )


def prefix_key(prefix: str, *, doc: str, group: str = "", importance: Importance = "low") -> Any:
    """Declare all keys that begin with ``prefix``: a dictionary without it (``producer.override.acks`` → ``acks``)."""
    return PydanticField(
        default_factory=dict,
        alias=prefix,
        description=doc,
        json_schema_extra={"group": group, "importance": importance, "prefix_key": True},
    )


@dataclass(frozen=True, slots=True)
class KeyDefinition:
    """Definition of one key: the source of its documentation, JSON Schema and REST response."""

    name: str
    field: str
    doc: str
    default: Any  # None when there is none
    required: bool
    importance: Importance
    group: str
    prefix_key: bool
    annotation: Any
    secret: bool
    file: bool


@dataclass(frozen=True, slots=True)
class LocalUse:
    """What a key uses of the worker's machine, beyond time and memory.

    Configurations that come over REST may use the files and functions that a list of the worker names, and no
    privileges.
    """

    key: str
    kind: Literal["file", "function", "privilege"]
    name: str
    """The path of a file or folder, ``module:function``, or a privilege in words."""


class FixedKey(NamedTuple):
    """Values of a key that are accepted, and why no others are."""

    values: tuple[str, ...]
    reason: str


class ConfigModel(BaseModel):
    """Base of every plugin's configuration. Frozen; unknown keys are errors with a suggestion."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, arbitrary_types_allowed=True)

    ignored_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of the JVM's connector that are accepted without effect, each with the reason (a warning)."""

    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {}
    """Keys of the JVM's connector of which only some values are supported; those are accepted silently."""

    unsupported_keys: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Keys of Kafka Connect that are refused, each with the reason and what to do."""

    def problems(self) -> Iterable[Finding]:
        """Yield findings about combinations of keys, each valid by itself. To be overridden."""
        return ()

    @classmethod
    def local_uses(cls, properties: Mapping[str, str]) -> Iterable[LocalUse]:
        """Yield what the configuration uses of the worker's machine. To be extended for what is part of a value.

        It is called before :meth:`problems`, which may read the files, and must not read them itself. Names below a
        prefix key and all values may have whitespace around them, which parsing removes.
        """
        for item in cls.definitions():
            if item.file and (path := properties.get(item.name, "").strip()):
                yield LocalUse(item.name, "file", path)

    @classmethod
    def definitions(cls) -> tuple[KeyDefinition, ...]:
        """Return the keys in the order of their fields."""
        return _definitions(cls)

    @classmethod
    def owns(cls, name: str) -> bool:
        """Return whether the dotted key belongs to this model."""
        names = _names(cls)
        return name in names.exact or name.startswith(names.prefixes) or cls._has_no_field(name)

    @classmethod
    def validate_properties(cls, properties: Mapping[str, str]) -> tuple[Self | None, list[Finding]]:
        """Parse; return the model (None when there are errors) and all findings, warnings included."""
        outside = cls._problems_without_field(properties)
        outside += [
            Finding("config.ignored_key", f"'{name}' has no effect here: {reason}", name, severity="warning")
            for name, reason in cls.ignored_keys.items()
            if name in properties
        ]
        try:
            model = cls.model_validate(_gather_prefixes(cls, properties))
        except ValidationError as error:
            found = [_finding(cls, item) for item in error.errors()]
            return None, [*found, *cls._problems_of_valid_keys(properties, found), *outside]
        findings = [*_fractions(cls, properties), *model.problems(), *outside]
        return (None if any(item.severity == "error" for item in findings) else model), findings

    @classmethod
    def validate_values(cls, properties: Mapping[str, str]) -> list[Finding]:
        """Return the findings about single keys, without those of rules over several keys."""
        try:
            cls.model_validate(_gather_prefixes(cls, properties))
        except ValidationError as error:
            found = [_finding(cls, item) for item in error.errors()]
        else:
            found = list(_fractions(cls, properties))
        return [*found, *cls._problems_without_field(properties)]

    @classmethod
    def _has_no_field(cls, name: str) -> bool:
        return name in cls.ignored_keys or name in cls.fixed_keys or name in cls.unsupported_keys

    @classmethod
    def _problems_without_field(cls, properties: Mapping[str, str]) -> list[Finding]:
        found = []
        for name, (reason, hint) in cls.unsupported_keys.items():
            if name in properties:
                found.append(Finding("config.unsupported_key", f"'{name}' is not supported: {reason}", name, hint))
        for name, (values, reason) in cls.fixed_keys.items():
            if name in properties and properties[name].strip() not in values:
                text = f"Invalid value {properties[name]} for configuration {name}: {reason}"
                hint = f"remove it, or set it to {' or '.join(map(repr, values))}"
                found.append(Finding("config.invalid_value", text, name, hint))
        return found

    @classmethod
    def _problems_of_valid_keys(cls, properties: Mapping[str, str], found: Sequence[Finding]) -> list[Finding]:
        """Apply the rules over several keys to the keys without errors, so that all findings are reported together."""
        wrong = {finding.key for finding in found}
        rest = {name: value for name, value in properties.items() if name not in wrong}
        names = [item.name for item in cls.definitions()]
        for finding in found:
            # A misspelt key counts as the similar one: that this one is missing is not a second problem.
            if finding.code == "config.unknown_key" and (meant := difflib.get_close_matches(finding.key, names, n=1)):
                rest.setdefault(meant[0], properties[finding.key])
        try:
            model = cls.model_validate(_gather_prefixes(cls, rest))
        except ValidationError:
            return []  # a required key is missing, so the rules cannot be applied
        return [finding for finding in model.problems() if finding.key not in wrong]

    @classmethod
    def parse(cls, properties: Mapping[str, str]) -> Self:
        """Parse, or raise :class:`ConfigError` with all findings."""
        model, findings = cls.validate_properties(properties)
        if model is None:
            raise ConfigError(findings=findings)
        return model


def changed_keys(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what differs, without values, which may be secrets: ``tasks.max changed``, ``topics added``."""
    return [
        f"{key} {'added' if key not in before else 'removed' if key not in after else 'changed'}"
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for a name that does not exist, or an empty text."""
    matches = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


class _Names(NamedTuple):
    exact: frozenset[str]
    prefixes: tuple[str, ...]


@cache
def _definitions(model: type[ConfigModel]) -> tuple[KeyDefinition, ...]:
    return tuple(_definition(name, info) for name, info in model.model_fields.items())


@cache
def _names(model: type[ConfigModel]) -> _Names:
    definitions = model.definitions()
    return _Names(
        frozenset(item.name for item in definitions if not item.prefix_key),
        tuple(item.name for item in definitions if item.prefix_key),
    )


def _definition(name: str, info: FieldInfo) -> KeyDefinition:
    extra = cast(dict[str, Any], info.json_schema_extra or {})
    return KeyDefinition(
        name=info.alias or name,
        field=name,
        doc=info.description or "",
        default=None if info.is_required() or info.default is PydanticUndefined else info.default,
        required=info.is_required(),
        importance=extra.get("importance", "medium"),
        group=extra.get("group", ""),
        prefix_key=bool(extra.get("prefix_key")),
        annotation=info.annotation,
        secret="SecretStr" in str(info.annotation),
        file=bool(extra.get("file")),
    )


def _gather_prefixes(model: type[ConfigModel], properties: Mapping[str, str]) -> dict[str, Any]:
    exact, prefixes = _names(model)
    gathered: dict[str, Any] = {}
    for name, value in properties.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None) if name not in exact else None
        if prefix is not None:
            gathered.setdefault(prefix, {})[name.removeprefix(prefix)] = value
        elif not model._has_no_field(name):
            gathered[name] = value
    return gathered


def _fractions(model: type[ConfigModel], properties: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about whole numbers that are written with a fraction (``1000.0``), which Connect refuses."""
    for item in model.definitions():
        text = properties.get(item.name, "").strip()
        if _FRACTION.fullmatch(text) and int in (item.annotation, *get_args(item.annotation)):
            message = f"Invalid value {text} for configuration {item.name}: Not a number of type INT"
            yield Finding("config.invalid_value", message, item.name, "write a whole number")


# Connect's messages (org.apache.kafka.common.config.ConfigDef); tools search for them.
def _finding(model: type[ConfigModel], error: ErrorDetails) -> Finding:
    name = str(error["loc"][0]) if error["loc"] else ""
    kind, context = error["type"], error.get("ctx", {})
    definition = next((item for item in model.definitions() if item.name == name), None)
    if kind == "extra_forbidden":
        hint = nearest(name, [item.name for item in model.definitions()])
        return Finding("config.unknown_key", f"unknown configuration key '{name}'", name, hint)
    if kind == "missing":
        doc = definition.doc if definition else ""
        text = f'Missing required configuration "{name}" which has no default value.'
        return Finding("config.missing_key", text, name, doc)
    reason, hint = error["msg"], ""
    if kind.startswith("int"):
        reason = "Not a number of type INT"
        if name.endswith(".ms"):
            hint = "write milliseconds, or a number with a unit: 500ms, 30s, 5m, 1h, 1d"
    elif kind.startswith("float"):
        reason = "Not a number of type DOUBLE"
    elif kind.startswith("bool"):
        reason = "Expected value to be either true or false"
    elif kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        reason = f"String must be one of: {', '.join(choices)}"
        hint = nearest(str(error["input"]), choices)
    elif kind == "greater_than_equal":
        reason = f"Value must be at least {context.get('ge')}"
    elif kind == "less_than_equal":
        reason = f"Value must be no more than {context.get('le')}"
    elif kind == "value_error":
        reason = str(context.get("error", reason))
    shown = "[hidden]" if definition and definition.secret else error["input"]
    return Finding("config.invalid_value", f"Invalid value {shown} for configuration {name}: {reason}", name, hint)
