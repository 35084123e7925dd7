"""KeyFacts about a key that its model says only indirectly: type, choices, bounds, default as text."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BeforeValidator

from headrace.config import LOWER, UPPER, ConfigModel, Duration, KeyDefinition, Size
from headrace.redaction import HIDDEN
from headrace.registry import Plugin
from headrace.settings import SETTINGS_MODELS, ConnectorSettings

CLASS_KEYS = frozenset({"connector.class", "key.converter", "value.converter", "header.converter"})
"""Connect's replacement of a password."""


@dataclass(frozen=True)
class KeyFacts:
    """``type`` is Connect's (STRING, INT, DOUBLE, BOOLEAN, LIST, CLASS, PASSWORD); ``unit`` ``duration``, ``size``, or
    empty; ``default`` the text one would write, None when there is none."""

    type: str
    choices: tuple[str, ...]
    any_case: bool
    unit: str
    minimum: float | None
    maximum: float | None
    default: str | None


def facts_of(model: type[ConfigModel], definition: KeyDefinition) -> KeyFacts:
    """KeyFacts of one of the model's keys."""
    info = model.model_fields[definition.field]
    core, metadata = _unwrapped(info.annotation)
    metadata = [*info.metadata, *metadata]
    validators = [item for item in metadata if isinstance(item, BeforeValidator)]
    bounds = [item for item in metadata if isinstance(item, (annotated_types.Ge, annotated_types.Le))]
    return KeyFacts(
        type=_type(core, definition),
        choices=_choices(core),
        any_case=LOWER in validators or UPPER in validators,
        unit=next((unit for unit, parser in _UNITS.items() if parser in validators), ""),
        minimum=next((_number(item.ge) for item in bounds if isinstance(item, annotated_types.Ge)), None),
        maximum=next((_number(item.le) for item in bounds if isinstance(item, annotated_types.Le)), None),
        default=default_text(definition),
    )


def default_text(definition: KeyDefinition) -> str | None:
    """Return a default as users write it."""
    default = definition.default
    if default is None or definition.prefix_key:
        return None
    if definition.secret:
        return HIDDEN
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (tuple, list)):
        return ",".join(map(str, default))
    return str(default.value if isinstance(default, enum.Enum) else default)


def settings_model(plugin: Plugin) -> type[ConnectorSettings]:
    """Return the model of the framework's keys of a connector."""
    return SETTINGS_MODELS[plugin.type]


def definitions_of(plugin: Plugin) -> list[tuple[type[ConfigModel], KeyDefinition]]:
    """Return the plugin's own keys; of a connector also the framework's that it does not define itself."""
    own: type[ConfigModel] = getattr(plugin.cls, "config_model", ConfigModel)  # config providers have no keys
    found: list[tuple[type[ConfigModel], KeyDefinition]] = [(own, item) for item in own.definitions()]
    if plugin.type in ("source", "sink", "stream"):
        settings, names = settings_model(plugin), {item.name for item in own.definitions()}
        found += [(settings, item) for item in settings.definitions() if item.name not in names]
    return found


def grouped(definitions: Iterable[KeyDefinition], otherwise: str) -> dict[str, list[KeyDefinition]]:
    """Return keys by group, in the order in which groups first appear."""
    groups: dict[str, list[KeyDefinition]] = {}
    for definition in definitions:
        groups.setdefault(definition.group or otherwise, []).append(definition)
    return groups


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the type inside ``X | None`` and ``Annotated``, and the metadata."""
    metadata: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata += more
        elif get_origin(annotation) in (Union, types.UnionType):
            rest = [item for item in get_args(annotation) if item is not types.NoneType]
            if len(rest) != 1:
                return str, metadata
            annotation = rest[0]
        else:
            return annotation, metadata


def _type(core: Any, definition: KeyDefinition) -> str:
    if definition.name in CLASS_KEYS:
        return "CLASS"
    if definition.secret:
        return "PASSWORD"
    if get_origin(core) in (tuple, list):
        return "LIST"
    names: dict[Any, str] = {int: "INT", float: "DOUBLE", bool: "BOOLEAN"}
    return names.get(core, "STRING")


def _choices(core: Any) -> tuple[str, ...]:
    if get_origin(core) is Literal:
        return tuple(map(str, get_args(core)))
    if isinstance(core, type) and issubclass(core, enum.Enum):
        return tuple(str(item.value) for item in core)
    return ()


def _number(value: Any) -> float:
    return value if isinstance(value, int) else float(value)


_UNITS = {"duration": get_args(Duration)[1], "size": get_args(Size)[1]}
